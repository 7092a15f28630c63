// What becomes of the 16 dots of one row of x and one panel: the ends of linear, linear_add and glu.
#pragma once

#include "../../blocks.h"
#include "../../ck_math.h"
#include "linear.h"

// dot [16]: the panel's dots (gate, for glu); up [16]: of w_up, read for glu only. Writes only columns <
// n_out.
static inline void ck_linear_store(const ck_linear_args* a, int64_t t, int64_t panel, const float* dot,
                                   const float* up) {
    const int64_t first = panel * CK_PANEL, left = a->n_out - first;
    const int64_t n = left < CK_PANEL ? left : CK_PANEL;
    float* y = a->y + t * a->n_out + first;
    if (a->residual != NULL)
        for (int64_t r = 0; r < n; r++)
            y[r] = a->residual[t * a->n_out + first + r] + dot[r];
    else if (a->w_up == NULL)
        memcpy(y, dot, (size_t)n * sizeof *y);
    else if (a->act == 0)
        for (int64_t r = 0; r < n; r++)
            y[r] = ck_silu(dot[r]) * up[r];
    else
        for (int64_t r = 0; r < n; r++)
            y[r] = ck_gelu_tanh(dot[r]) * up[r];
}
