#include "pack.h"

#define CK_PACK_NAME ck_pack_q2_k
#define CK_FILE_BLOCK ck_q2_k
#define CK_PACKED_BLOCK ck_r16_q2_k
#define CK_BLOCK_COLUMNS 256

static inline void pack_block(ck_r16_q2_k* dst, int row, const ck_q2_k* src) {
    dst->d[row] = src->d;
    dst->dmin[row] = src->dmin;
    for (int s = 0; s < 16; s++)
        dst->scales[s][row] = src->scales[s];
    for (int s = 0; s < 8; s++)
        ck_pack_pairs(dst->q[s], row, src->q + s / 4 * 32, s % 4 * 2);
}

#include "pack.inc"
