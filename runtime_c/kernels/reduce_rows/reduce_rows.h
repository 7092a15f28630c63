// reduce_rows: the sum of the rows of a matrix, column by column: gradients of what every row shares.
//
//   y[j] = sum_r x[r][j], or y[j] + that if add is 1; r in [0, n * rows_per_token)
//
// n        live rows, of rows_per_token rows of x each; without rows y is 0, or stays
// x        [n * rows_per_token][d] f32, read only
// y        [d] f32, overlaps nothing
// bits     rows are cut in blocks of 64 from row 0; a block's sum starts from 0 and takes its rows in order.
//          With block sums s0, s1, .. the result is (s0 + s1) + .., or ((y + s0) + s1) + ..
// threads  columns, 16 together
#pragma once

#include "../../ck_rt.h"
#include "../slice.h"
