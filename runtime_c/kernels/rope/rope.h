// rope: rotate pairs of the first `dims` columns of each head by the angles of its row.
//
//   a' = a * cos - b * sin,  b' = a * sin + b * cos      for pair i in [0, dims / 2)
//   mode 0, interleaved: a, b = columns 2i, 2i + 1;  mode 1, neox: columns i, i + dims / 2
//   mode + 2: the same turned back, sin negated: the gradient of the turn
//
// n         rows; 0 writes nothing
// x, y      [n][heads][head_dim] f32; y is x, or overlaps it nowhere; columns from dims on are copied
// table     [n][dims] f32: dims / 2 cosines, then dims / 2 sines
// dims      even, at most head_dim; 0 copies
// bits      each product rounded, then the sum: the same on every path
// threads   rows
// Source: Su et al. 2021, arXiv:2104.09864, eq. 34.
#pragma once

#include "../../ck_rt.h"
