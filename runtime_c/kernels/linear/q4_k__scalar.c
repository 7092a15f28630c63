#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_q4_k__scalar
#define CK_PACKED_BLOCK ck_r16_q4_k
#define CK_BLOCK_COLUMNS 256

static void add_block(float* acc, const ck_r16_q4_k* w, const ck_q16_row* x, int64_t b) {
    const ck_r16_q4_k_sub* sub = &w->sub[b % 8];
    const float s = x->d[b] * (float)(x->sum[2 * b] + x->sum[2 * b + 1]);
    int32_t isum[CK_PANEL] = {0};
    uint8_t u[64];
    for (int g = 0; g < 8; g++) {
        ck_nibble_group(u, sub->q[g % 4], g);
        ck_add_group(isum, u, x, 32 * b + 4 * g);
    }
    for (int r = 0; r < CK_PANEL; r++) {
        const float d = ck_f16_float(w->d[r]) * (float)sub->sc[r];
        const float m = -(ck_f16_float(w->dmin[r]) * (float)sub->mn[r]);
        acc[r] += d * x->d[b] * (float)isum[r] + m * s;
    }
}

#include "scalar.inc"
