#include <emmintrin.h>

#include "optimizer.h"

void ck_clip(float* norm, const float* partials, const float* hyper, int64_t n_partials, int tid, int nth) {
    (void)nth;
    if (tid != 0)
        return;
    double sum = 0;
    for (int64_t i = 0; i < n_partials; i++)
        sum += (double)partials[i];
    norm[0] = (float)_mm_cvtsd_f64(_mm_sqrt_pd(_mm_set1_pd(sum)));
    const float factor = 1.0f / (norm[0] + 1e-6f) * hyper[7];
    norm[1] = !(hyper[7] > 0.0f) || factor > 1.0f ? 1.0f : factor;
}
