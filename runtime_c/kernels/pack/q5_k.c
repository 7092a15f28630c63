#include "../k_scales.h"
#include "pack.h"

#define CK_PACK_NAME ck_pack_q5_k
#define CK_FILE_BLOCK ck_q5_k
#define CK_PACKED_BLOCK ck_r16_q5_k
#define CK_BLOCK_COLUMNS 256

static inline void pack_block(ck_r16_q5_k* dst, int row, const ck_q5_k* src) {
    dst->d[row] = src->d;
    dst->dmin[row] = src->dmin;
    for (int s = 0; s < 8; s++) {
        dst->sub[s].sc[row] = (uint8_t)ck_k_scale(src->scales, s);
        dst->sub[s].mn[row] = (uint8_t)ck_k_minimum(src->scales, s);
        ck_pack_halves(dst->sub[s].q, row, src->q + s / 2 * 32, s % 2 * 4);
        ck_pack_planes(dst->sub[s].h, row, src->h, s);
    }
}

#include "pack.inc"
