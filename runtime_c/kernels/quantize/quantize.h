// quantize: rows of activations to int8, an f32 scale for each block of 32, and the sums that offsets need.
//
//   d[b]   = max_i |x[i]| / 127                        i in block b
//   q[i]   = rint(x[i] * (1 / d[b])), ties to even     in -127..127; 0 when d[b] is 0 or subnormal
//   sum[h] = sum_i q[i]                                i in half-block h: 16 columns
//   A block with a NaN or an infinity has d = NaN and q = 0, so that what is computed from it is NaN.
//
// n        rows
// k        columns, a multiple of 32
// y        n q8 rows (blocks.h) of CK_Q8_ROW_BYTES(k) bytes, 4-byte aligned; overlaps nothing
// x        [n][k] f32
// bits     the same on every path
// threads  slices of rows
#pragma once

#include "../../ck_rt.h"
#include "../dispatch.h"

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL
