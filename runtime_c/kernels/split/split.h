// split_bwd: put a part of rows where it belongs in wider rows, and zeros around it.
//
//   y[r][first + j] = x[r][j]       j in [0, width)
//   y[r][c] = 0            c in [first - before, first) and [first + width, first + width + zeros)
//
// n        tokens, of rows_per_token rows of x and of y each
// x        [n * rows_per_token][width] f32, read only;  y  [n * rows_per_token][d] f32, overlaps nothing
// before   at most first;  first + width + zeros at most d; other columns of y are not touched
// threads  rows of tokens
#pragma once

#include "../../ck_rt.h"
