#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_q8_0__scalar
#define CK_PACKED_BLOCK ck_r16_q8_0
#define CK_BLOCK_COLUMNS 32

static void add_block(float* acc, const ck_r16_q8_0* w, const ck_q16_row* x, int64_t b) {
    const int32_t xs = x->sum[2 * b] + x->sum[2 * b + 1];
    int32_t isum[CK_PANEL] = {0};
    for (int g = 0; g < 8; g++)
        ck_add_group(isum, w->q[g], x, 32 * b + 4 * g);
    for (int r = 0; r < CK_PANEL; r++)
        acc[r] += ck_f16_float(w->d[r]) * x->d[b] * (float)(isum[r] - 128 * xs);
}

#include "scalar.inc"
