#include "../k_scales.h"
#include "pack.h"

#define CK_PACK_NAME ck_pack_q3_k
#define CK_FILE_BLOCK ck_q3_k
#define CK_PACKED_BLOCK ck_r16_q3_k
#define CK_BLOCK_COLUMNS 256

static inline void pack_block(ck_r16_q3_k* dst, int row, const ck_q3_k* src) {
    dst->d[row] = src->d;
    for (int s = 0; s < 16; s++)
        dst->sc[s][row] = (int8_t)ck_q3_k_scale(src->scales, s);
    for (int s = 0; s < 8; s++) {
        ck_pack_pairs(dst->sub[s].q, row, src->q + s / 4 * 32, s % 4 * 2);
        ck_pack_planes(dst->sub[s].h, row, src->h, s);
    }
}

#include "pack.inc"
