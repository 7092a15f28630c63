#include "pack.h"

#define CK_PACK_NAME ck_pack_q4_1
#define CK_FILE_BLOCK ck_q4_1
#define CK_PACKED_BLOCK ck_r16_q4_1
#define CK_BLOCK_COLUMNS 32

static inline void pack_block(ck_r16_q4_1* dst, int row, const ck_q4_1* src) {
    dst->d[row] = src->d;
    dst->m[row] = src->m;
    // The file pairs column i with i + 16, which is group v with v + 4: the lanes move as they are.
    for (int v = 0; v < 4; v++)
        ck_store_lane(dst->q[v], row, ck_load_u32(src->q + 4 * v));
}

#include "pack.inc"
