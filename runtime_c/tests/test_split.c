// split_bwd: the part where it belongs, zeros where they are wanted, every other byte as it was; slices.
#include "../kernels/split/split.h"
#include "check.h"

static bool is_right(float got, float was, const float* x, int64_t c, int64_t before, int64_t first,
                     int64_t width, int64_t zeros) {
    if (c >= first && c < first + width)
        return memcmp(&got, x + (c - first), 4) == 0;
    const bool is_zero = c >= first - before && c < first + width + zeros;
    return memcmp(&got, is_zero ? &(float){0.0f} : &was, 4) == 0;
}

static void check(int64_t n, int64_t rows_per_token, int64_t d, int64_t before, int64_t first, int64_t width,
                  int64_t zeros, int nth) {
    const int64_t rows = n * rows_per_token;
    const ck_buffer x = ck_buffer_of(rows * width * 4, 4), y = ck_buffer_of(rows * d * 4, 4),
                    was = ck_buffer_of(rows * d * 4, 4);
    int64_t wrong = 0;
    ck_random_floats(x.p, rows * width);
    ck_random_floats(was.p, rows * d);
    memcpy(y.p, was.p, (size_t)(rows * d * 4));
    for (int tid = 0; tid < nth; tid++)
        ck_split_bwd(y.p, x.p, n, rows_per_token, d, before, first, width, zeros, tid, nth);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < d; c++)
            wrong += !is_right(((float*)y.p)[r * d + c], ((float*)was.p)[r * d + c],
                               (float*)x.p + r * width, c, before, first, width, zeros);
    CK_CHECK(wrong == 0, "n %d rows %d d %d first %d width %d: %d elements are wrong", (int)n,
             (int)rows_per_token, (int)d, (int)first, (int)width, (int)wrong);
    ck_buffer_free(x);
    ck_buffer_free(y);
    ck_buffer_free(was);
}

int main(void) {
    static const int64_t sizes[][7] = {
        // n, rows a token, d, before, first, width, zeros
        {0, 1, 8, 0, 0, 8, 0}, {1, 1, 1, 0, 0, 1, 0},   {5, 3, 40, 7, 7, 33, 0},
        {7, 1, 65, 0, 0, 1, 3}, {4, 2, 100, 3, 20, 48, 5}, {9, 1, 33, 0, 16, 17, 0},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t* s = sizes[i];
        for (int nth = 1; nth < 5; nth++)
            check(s[0], s[1], s[2], s[3], s[4], s[5], s[6], nth);
    }
    return ck_finish();
}
