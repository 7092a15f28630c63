#include "pack.h"

#define CK_PACK_NAME ck_pack_q8_0
#define CK_FILE_BLOCK ck_q8_0
#define CK_PACKED_BLOCK ck_r16_q8_0
#define CK_BLOCK_COLUMNS 32

static inline void pack_block(ck_r16_q8_0* dst, int row, const ck_q8_0* src) {
    dst->d[row] = src->d;
    // q + 128 in each byte is its top bit flipped.
    for (int g = 0; g < 8; g++)
        ck_store_lane(dst->q[g], row, ck_load_u32(src->q + 4 * g) ^ 0x80808080u);
}

#include "pack.inc"
