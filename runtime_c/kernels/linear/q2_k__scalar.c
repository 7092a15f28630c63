#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_q2_k__scalar
#define CK_PACKED_BLOCK ck_r16_q2_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES_MIN
#define CK_OFFSET 0

static void unpack_block(ck_columns* to, const ck_r16_q2_k* w, int64_t b) {
    const uint8_t(*scales)[CK_PANEL] = w->scales + 2 * (b % 8);
    for (int c = 0; c < 32; c++)
        for (int r = 0; r < CK_PANEL; r++)
            to->u[c][r] = (int16_t)ck_pair(w->q[b % 8], c, r);
    ck_half_floats(to->d, w->d);
    ck_half_floats(to->m, w->dmin);
    for (int r = 0; r < CK_PANEL; r++) {
        to->sc[0][r] = scales[0][r] & 15;
        to->sc[1][r] = scales[1][r] & 15;
        to->m1[r] = to->m[r] * -(float)(scales[1][r] >> 4);
        to->m[r] *= -(float)(scales[0][r] >> 4);
    }
}

#include "scalar.inc"
