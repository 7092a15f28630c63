// matmul: products of row-major f32 matrices, all three of a linear layer's training step.
//
//   nt  y[t][o] = sum_k x[t][k] * w[o][k]     forward: x [n][n_in], w [n_out][n_in], y [n][n_out]
//   nn  y[t][j] = sum_k x[t][k] * w[k][j]     to the inputs: x [n][n_in], w [n_in][n_out], y [n][n_out]
//   tn  y[i][j] = sum_t a[t][i] * b[t][j]     to the weights: a [n][n_out], b [n][n_in], y [n_out][n_in]
//   nt_add, nn_add   addend + that; tn_add   y + that
//   f32 takes the operands as they are, bf16 rounds both to bf16 first (round.h); the rest is f32 for both
//
// n        live rows; nt and nn write n rows, tn sums over n and writes all of y for any n
// n_out    any number >= 0
// n_in     any number >= 0
// x, w, a, b   f32, aligned to 4 bytes, read only
// y        f32, overlaps nothing but addend, to which it may be equal
// addend   [n][n_out] f32, nt_add and nn_add only
// bits     the depth (k, or t for tn) is cut in blocks of 256 from index 0. One accumulator a block and
//          output starts from 0 and takes the products in order of depth, by fma (scalar: product rounded,
//          then added). With block sums s0, s1, .. the result is ((s0 + s1) + s2) + .., or
//          (((addend + s0) + s1) + s2) + ..; without depth it is 0, or addend. So one row and 4096 rows
//          return the same bits, and so do avx2 and avx512bw.
// threads  a grid over y: slices of its rows by slices of its strips of columns
// stack    about 260 KiB
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { CK_DEPTH_BLOCK = 256 };

// y [n_rows][n_columns] = addend + sum_k a(row, k) * b(k, column), k in [0, depth).
typedef struct {
    float* y;
    const float *a, *b;
    const float* addend; // NULL: none
    int64_t n_rows, n_columns, depth;
    int tid, nth;
} ck_matmul_args;

typedef void ck_matmul_fn(const ck_matmul_args* args);
