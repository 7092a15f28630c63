#include "pack.h"

#define CK_PACK_NAME ck_pack_q6_k
#define CK_FILE_BLOCK ck_q6_k
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256

static inline void pack_block(ck_r16_q6_k* dst, int row, const ck_q6_k* src) {
    dst->d[row] = src->d;
    for (int s = 0; s < 16; s++)
        dst->sc[s][row] = src->sc[s];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 4; k++) {
            ck_r16_q6_k_sub* sub = &dst->sub[4 * i + k];
            ck_pack_halves(sub->q, row, src->ql + 64 * i + 32 * (k & 1), (k >> 1) * 4);
            ck_pack_pairs(sub->h, row, src->qh + 32 * i, 2 * k);
        }
}

#include "pack.inc"
