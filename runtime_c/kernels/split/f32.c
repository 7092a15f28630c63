#include <string.h>

#include "../slice.h"
#include "split.h"

void ck_split_bwd(float* y, const float* x, int64_t n, int64_t rows_per_token, int64_t d, int64_t before,
                  int64_t first, int64_t width, int64_t zeros, int tid, int nth) {
    const ck_slice tokens = ck_slice_of(n, tid, nth);
    for (int64_t r = tokens.begin * rows_per_token; r < tokens.end * rows_per_token; r++) {
        float* to = y + r * d + first;
        memset(to - before, 0, (size_t)before * sizeof *y);
        memcpy(to, x + r * width, (size_t)width * sizeof *y);
        memset(to + width, 0, (size_t)zeros * sizeof *y);
    }
}
