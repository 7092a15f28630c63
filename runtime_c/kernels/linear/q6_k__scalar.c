#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_q6_k__scalar
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256

static void unpack_block(ck_columns* to, const ck_r16_q6_k* w, int64_t b) {
    const ck_r16_q6_k_sub* sub = &w->sub[b % 8];
    for (int c = 0; c < 32; c++)
        for (int r = 0; r < CK_PANEL; r++) {
            const int upper = sub->h[c / 16][4 * r + c % 4] >> c / 4 % 4 * 2 & 3;
            to->u[c][r] = (int16_t)(ck_nibble(sub->q, c, r) | upper << 4);
        }
    ck_half_floats(to->d, w->d);
    for (int r = 0; r < CK_PANEL; r++) {
        to->sc[0][r] = w->sc[2 * (b % 8)][r];
        to->sc[1][r] = w->sc[2 * (b % 8) + 1][r];
    }
}

static void add_term(float* acc, const ck_columns* w, int32_t (*isum)[CK_PANEL], const ck_q16_row* x,
                     int64_t b) {
    for (int r = 0; r < CK_PANEL; r++) {
        const int32_t first = w->sc[0][r] * (isum[0][r] - 32 * x->sum[2 * b]);
        const int32_t second = w->sc[1][r] * (isum[1][r] - 32 * x->sum[2 * b + 1]);
        acc[r] += w->d[r] * x->d[b] * (float)(first + second);
    }
}

#include "scalar.inc"
