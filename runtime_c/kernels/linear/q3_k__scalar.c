#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_q3_k__scalar
#define CK_PACKED_BLOCK ck_r16_q3_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES
#define CK_OFFSET 4

static void unpack_block(ck_columns* to, const ck_r16_q3_k* w, int64_t b) {
    const ck_r16_q3_k_sub* sub = &w->sub[b % 8];
    for (int c = 0; c < 32; c++)
        for (int r = 0; r < CK_PANEL; r++) {
            const int upper = sub->h[4 * r + c % 4] >> c / 4 & 1;
            to->u[c][r] = (int16_t)(ck_pair(sub->q, c, r) | upper << 2);
        }
    ck_half_floats(to->d, w->d);
    for (int r = 0; r < CK_PANEL; r++) {
        to->sc[0][r] = w->sc[2 * (b % 8)][r];
        to->sc[1][r] = w->sc[2 * (b % 8) + 1][r];
    }
}

#include "scalar.inc"
