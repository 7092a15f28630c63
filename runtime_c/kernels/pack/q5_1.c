#include "pack.h"

#define CK_PACK_NAME ck_pack_q5_1
#define CK_FILE_BLOCK ck_q5_1
#define CK_PACKED_BLOCK ck_r16_q5_1
#define CK_BLOCK_COLUMNS 32

static inline void pack_block(ck_r16_q5_1* dst, int row, const ck_q5_1* src) {
    dst->d[row] = src->d;
    dst->m[row] = src->m;
    ck_pack_nibbles(dst->q, row, src->q);
    ck_pack_bits(dst->h, row, ck_load_u32(src->h));
}

#include "pack.inc"
