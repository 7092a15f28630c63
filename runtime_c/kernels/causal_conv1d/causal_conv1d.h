// causal_conv1d: every channel's own filter over its last `taps` rows, going on from the rows before.
//
//   y[t][c] = sum_i w[c][i] * x[t - (taps - 1) + i][c]          i in [0, taps)
//
// Rows before row 0 of x are those of the state, x of positions pos - (taps - 1) .. pos - 1; where positions
// would be negative they are zeros, and at pos 0 nothing that the state holds is read.
//
// state  [taps - 1][d] f32: becomes the last taps - 1 rows
// n      rows; 0 writes nothing
// x, y   [n][d] f32; no two of y, x and state overlap
// w      d rows of `taps` f32, f16 or bf16, packed r16 (kernels/pack)
// taps   2 to 8
// bits   products are rounded, then added over i in order, from the first one: the same on every path
// threads  channels, 16 together
#pragma once

#include "../../ck_rt.h"

enum { CK_CONV_TAPS = 8 };
