// linear with float weights: f32, f16 or bf16 in layout r16, times f32 activations.
//
//   dot[t][o] = sum_k x[t][k] * w[o][k]; linear, linear_add and glu end as linear.h says
//
// n, n_out, y, residual, threads   as linear.h
// w, w_up   r16, aligned to their elements, read only
// n_in      columns, any number >= 0
// x         [n][n_in] f32
// bits      four accumulators, each from 0; column k is added to accumulator k mod 4, in order of k, by fma
//           (scalar: product rounded, then added); they join as (0 + 1) + (2 + 3). So one row and 512 rows
//           return the same bits, and so do avx2 and avx512bw.
// stack     about 24 KiB
#pragma once

#include "../slice.h"
#include "store.h"
