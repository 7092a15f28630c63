#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_q6_k__scalar
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256

static void add_block(float* acc, const ck_r16_q6_k* w, const ck_q16_row* x, int64_t b) {
    const ck_r16_q6_k_sub* sub = &w->sub[b % 8];
    const int8_t(*sc)[CK_PANEL] = &w->sc[2 * (b % 8)];
    int32_t isum[2][CK_PANEL] = {{0}};
    uint8_t u[64];
    for (int g = 0; g < 8; g++) {
        ck_nibble_group(u, sub->q[g % 4], g);
        for (int i = 0; i < 64; i++)
            u[i] |= (uint8_t)((sub->h[g / 4][i] >> g % 4 * 2 & 3) << 4);
        ck_add_group(isum[g / 4], u, x, 32 * b + 4 * g);
    }
    for (int r = 0; r < CK_PANEL; r++) {
        const float first = (float)(isum[0][r] - 32 * x->sum[2 * b]) * (float)sc[0][r];
        const float second = (float)(isum[1][r] - 32 * x->sum[2 * b + 1]) * (float)sc[1][r];
        acc[r] += ck_f16_float(w->d[r]) * x->d[b] * (first + second);
    }
}

#include "scalar.inc"
