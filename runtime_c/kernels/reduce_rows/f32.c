#include "../simd.h"
#include "reduce_rows.h"

enum { BLOCK_ROWS = 64, COLUMNS = 16 };

// y [n] (+)= the sum of rows [from, to) of x at its columns; n <= COLUMNS.
static void add_columns(float* y, const float* x, int64_t ldx, int64_t rows, int64_t n, int64_t add) {
    float sum[COLUMNS] = {0.0f};
    for (int64_t r = 0; r < rows; r++, x += ldx)
        for (int64_t j = 0; j < n; j++)
            sum[j] += x[j];
    for (int64_t j = 0; j < n; j++)
        y[j] = add ? y[j] + sum[j] : sum[j];
}

// The same for COLUMNS columns, in registers.
static void add_all_columns(float* y, const float* x, int64_t ldx, int64_t rows, int64_t add) {
    ck_vf4 sum[COLUMNS / 4] = {0}, part[COLUMNS / 4];
    for (int64_t r = 0; r < rows; r++, x += ldx) {
        memcpy(part, x, sizeof part);
        for (int i = 0; i < COLUMNS / 4; i++)
            sum[i] += part[i];
    }
    memcpy(part, y, sizeof part);
    for (int i = 0; i < COLUMNS / 4; i++)
        part[i] = add ? part[i] + sum[i] : sum[i];
    memcpy(y, part, sizeof part);
}

void ck_reduce_rows(float* y, const float* x, int64_t n, int64_t rows_per_token, int64_t d, int64_t add,
                    int tid, int nth) {
    const ck_slice groups = ck_slice_of((d + COLUMNS - 1) / COLUMNS, tid, nth);
    const int64_t n_rows = n * rows_per_token;
    int64_t from = 0;
    do {
        const int64_t rows = n_rows - from < BLOCK_ROWS ? n_rows - from : BLOCK_ROWS;
        for (int64_t group = groups.begin; group < groups.end; group++) {
            const int64_t first = group * COLUMNS, left = d - first;
            if (left >= COLUMNS)
                add_all_columns(y + first, x + from * d + first, d, rows, add || from > 0);
            else
                add_columns(y + first, x + from * d + first, d, rows, left, add || from > 0);
        }
        from += BLOCK_ROWS;
    } while (from < n_rows);
}
