// quantize: rows of activations to 15 bits, or to 8 in ck_quantize_rows_q8, with an f32 scale a block of 32
// and the sums that offsets need.
//
//   d[b]    = max_i |x[i]| / M                          i in block b; M = 16256 = 127 * 128, q8: 127
//   q[i]    = rint(x[i] * (1 / d[b])), ties to even     in -M..M; 0 when d[b] is 0 or subnormal
//   high[i] = floor((q[i] + 64) / 128)                  in -127..127; q8: q[i], and there is no low
//   low[i]  = q[i] - 128 * high[i]                      in -64..63
//   sum[h]  = sum_i q[i]                                i in half-block h: 16 columns
//   A block with a NaN or an infinity has d = NaN and q = 0, so that what is computed from it is NaN.
//
// n        rows
// k        columns, a multiple of 32
// y        n q16 or q8 rows (blocks.h), 4-byte aligned; overlaps nothing
// x        [n][k] f32
// bits     the same on every path
// threads  slices of rows
#pragma once

#include "../../ck_rt.h"
#include "../dispatch.h"

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL
