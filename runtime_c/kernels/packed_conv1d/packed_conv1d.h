// packed_conv1d: causal_conv1d (kernels/causal_conv1d) of packed documents for training, both ways, f32.
//
//   y[t][c]   = sum_i w[c][i] * x[t - (taps - 1) + i][c]        over rows of t's document; others count as
//             zeros
// and, given dy:
//   dx[r][c]  = sum_i w[c][i] * dy[r + (taps - 1) - i][c]       over rows of r's document
//   dw[c][i]  = sum_t dy[t][c] * x[t - (taps - 1) + i][c]       likewise, or dw[c][i] + that if add is 1
//
// n       live rows; rows from n on are neither read nor written; 0 writes no y and no dx, and dw is 0 or
//         stays
// x, y, dx, dy  [n][d] f32;  w, dw  [d][taps] f32, taps 2 to 8;  outputs overlap nothing
// starts  [n] i32: the first row of row t's document; never falls, starts[t] <= t
// bits    y, dx: products are rounded, then added over i in order, from the first one, zeros included
//         dw: rows are cut in blocks of 64 from row 0; a block's sum starts from 0 and takes rounded products
//         of its rows in order; the result is ((0 + s0) + s1) + .., or dw + that
//         the same on every path
// threads  channels, 16 together
#pragma once

#include "../../ck_rt.h"
