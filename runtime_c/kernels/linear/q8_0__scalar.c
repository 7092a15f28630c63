#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_q8_0__scalar
#define CK_PACKED_BLOCK ck_r16_q8_0
#define CK_BLOCK_COLUMNS 32

static void unpack_block(ck_columns* to, const ck_r16_q8_0* w, int64_t b) {
    (void)b;
    for (int c = 0; c < 32; c++)
        for (int r = 0; r < CK_PANEL; r++)
            to->u[c][r] = (int16_t)ck_byte(w->q, c, r);
    ck_half_floats(to->d, w->d);
}

static void add_term(float* acc, const ck_columns* w, int32_t (*isum)[CK_PANEL], const ck_q16_row* x,
                     int64_t b) {
    const int32_t xs = x->sum[2 * b] + x->sum[2 * b + 1];
    for (int r = 0; r < CK_PANEL; r++)
        acc[r] += w->d[r] * x->d[b] * (float)(isum[0][r] + isum[1][r] - 128 * xs);
}

#include "scalar.inc"
