// attention: causal grouped-query attention of n query rows over one layer's key/value cache.
//
//   s[t][p] = scale * sum_d q[t][d] * K[p][d]                          p visible to the row at position t
//   y[t][d] = sum_p e^(s[t][p] - m) * V[p][d] / sum_p e^(s[t][p] - m)  m = max_p s[t][p]
//
// Row i is at position t = pos + i. It sees p with t - window < p <= t, and all p <= t when window is 0.
// Query head h reads key/value head h / (heads / kv_heads).
//
// n         query rows; 0 writes nothing
// q, y      [n][heads][head_dim] f32; y overlaps nothing
// kv        one layer's cache (kv_append.h); visible positions have been appended, others may hold anything
// head_dim  a multiple of 16;  heads a multiple of kv_heads
// capacity  a multiple of 64, at least window + n, or pos + n when window is 0
// bits      positions are taken in blocks of 64 aligned to absolute positions, in order, blocks without a
//           visible position left out. In a block:
//             s = scale * acc, acc from 0 over d in order, fma (scalar: mul, add)
//             m' = max(m, max s); c = e^(m - m'); e = e^(s - m'), 0 where not visible (ck_exp)
//             l = l * c + sum e: lane i of 16 adds positions i, i + 16, i + 32, i + 48; lanes join i with
//             i + 8, then i + 4, i + 2, 1
//             y = y * c, then y += e[p] * V[p] over visible p in order, fma (scalar: mul, add)
//           and last y * (1 / l). So avx2 and avx512bw return the same bits, and a row's bits depend neither
//           on n nor on which rows are computed with it.
// threads   the query rows of all heads are dealt out in items of up to 96 rows
// stack     about 140 KiB
#pragma once

#include "../../ck_rt.h"
