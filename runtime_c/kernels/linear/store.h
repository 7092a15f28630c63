// What becomes of the 16 dots of one row of x and one panel: the ends of linear, linear_add and glu.
#pragma once

#include "../../blocks.h"
#include "../../ck_math.h"
#include "linear.h"

// The first n of 16. All 16 lanes are computed, in local arrays: y may be the residual, which a loop over the
// two would have to mind.
static inline __attribute__((always_inline)) void ck_linear_store_n(const ck_linear_args* a, int64_t at,
                                                                    const float* dot, const float* up,
                                                                    size_t n) {
    float out[CK_PANEL] = {0};
    if (a->w_up != NULL && a->act == 0)
        for (int r = 0; r < CK_PANEL; r++)
            out[r] = ck_silu(dot[r]) * up[r];
    else if (a->w_up != NULL)
        for (int r = 0; r < CK_PANEL; r++)
            out[r] = ck_gelu_tanh(dot[r]) * up[r];
    else if (a->residual != NULL) {
        memcpy(out, a->residual + at, n * sizeof *out);
        for (int r = 0; r < CK_PANEL; r++)
            out[r] += dot[r];
    } else
        memcpy(out, dot, sizeof out);
    memcpy(a->y + at, out, n * sizeof *out);
}

// dot [16]: the panel's dots (gate, for glu); up [16]: of w_up, for glu only. Writes no column past n_out.
static inline void ck_linear_store(const ck_linear_args* a, int64_t t, int64_t panel, const float* dot,
                                   const float* up) {
    const int64_t first = panel * CK_PANEL, left = a->n_out - first;
    if (left >= CK_PANEL)
        ck_linear_store_n(a, t * a->n_out + first, dot, up, CK_PANEL);
    else
        ck_linear_store_n(a, t * a->n_out + first, dot, up, (size_t)left);
}
