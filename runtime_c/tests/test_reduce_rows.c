// reduce_rows: bit for bit the order of its contract, close to the sum in double; slices, odd sizes.
#include <math.h>

#include "../kernels/reduce_rows/reduce_rows.h"
#include "check.h"

// Column j in the order of the contract.
static float contract(const float* x, int64_t n_rows, int64_t d, int64_t j, float y, int64_t add) {
    float sum = add ? y : 0;
    for (int64_t first = 0; first < n_rows; first += 64) {
        float block = 0;
        for (int64_t r = first; r < first + 64 && r < n_rows; r++)
            block += x[r * d + j];
        sum = first == 0 && !add ? block : sum + block;
    }
    return sum;
}

static void check_column(const float* x, int64_t n_rows, int64_t d, int64_t j, float before, float after,
                         int64_t add) {
    double want = add ? (double)before : 0;
    for (int64_t r = 0; r < n_rows; r++)
        want += (double)x[r * d + j];
    // |x| <= 1: n_rows + 1 additions of partial sums up to that.
    const double size = (double)n_rows + 1, bound = 0x1p-24 * size * size;
    CK_CHECK(fabs((double)after - want) <= bound, "rows %d d %d: column %d is %g, want %g", (int)n_rows,
             (int)d, (int)j, (double)after, want);
    const float exact = contract(x, n_rows, d, j, before, add);
    CK_CHECK(memcmp(&after, &exact, 4) == 0, "rows %d d %d add %d: column %d has other bits", (int)n_rows,
             (int)d, (int)add, (int)j);
}

static void check(int64_t n, int64_t rows_per_token, int64_t d, int64_t add, int nth) {
    const int64_t n_rows = n * rows_per_token;
    const ck_buffer x = ck_buffer_of(n_rows * d * 4, 4), y = ck_buffer_of(d * 4, 4),
                    before = ck_buffer_of(d * 4, 4);
    ck_random_floats(x.p, n_rows * d);
    ck_random_floats(before.p, d);
    memcpy(y.p, before.p, (size_t)d * 4);
    for (int tid = 0; tid < nth; tid++)
        ck_reduce_rows(y.p, x.p, n, rows_per_token, d, add, tid, nth);
    for (int64_t j = 0; j < d; j++)
        check_column(x.p, n_rows, d, j, ((const float*)before.p)[j], ((const float*)y.p)[j], add);
    ck_buffer_free(x);
    ck_buffer_free(y);
    ck_buffer_free(before);
}

int main(void) {
    static const int64_t sizes[][3] = {{0, 1, 8},   {1, 1, 1},   {5, 3, 0},    {63, 1, 15}, {64, 1, 16},
                                       {65, 1, 17}, {30, 9, 50}, {200, 1, 33}, {7, 2, 100}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int64_t add = 0; add < 2; add++)
            for (int nth = 1; nth < 6; nth++)
                check(sizes[i][0], sizes[i][1], sizes[i][2], add, nth);
    return ck_finish();
}
