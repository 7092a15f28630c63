// packed_attention: causal grouped-query attention of packed documents for training, both ways, f32.
//
//   s[t][p] = scale * sum_d q[t][d] * k[p][d]              p visible to row t
//   lse[t]  = log sum_p e^s[t][p]
//   y[t][d] = sum_p w[t][p] * v[p][d]                      w[t][p] = e^(s[t][p] - lse[t])
// and, given dy, the gradient of y:
//   delta[t]  = sum_d dy[t][d] * y[t][d]
//   ds[t][p]  = w[t][p] * (sum_d dy[t][d] * v[p][d] - delta[t])
//   dq[t][d]  = scale * sum_p ds[t][p] * k[p][d]
//   dk[p][d]  = scale * sum_t ds[t][p] * q[t][d]           over the rows t of all heads that read k
//   dv[p][d]  = sum_t w[t][p] * dy[t][d]
//
// Row t sees p with max(starts[t], t - window + 1) <= p <= t, and all starts[t] <= p <= t when window is 0.
// Query head h reads key/value head h / (heads / kv_heads). No more than a block of scores is ever stored:
// the backward computes them again, from lse.
//
// n              live rows; 0 writes nothing; rows from n on are neither read nor written
// q, y, dy, dq   [n][heads][head_dim] f32
// k, v, dk, dv   [n][kv_heads][head_dim] f32
// lse            [n][heads] f32, natural logarithm
// starts         [n] i32: the first row of row t's document; starts[0] = 0, never falls, starts[t] <= t
// head_dim       1 to 512, fastest in multiples of 16;  heads a multiple of kv_heads
// overlap        outputs overlap nothing
// values         NaN or infinity in a document reaches no other; within its own it may reach rows that do not
//                see it
// bits           positions are counted from the document's first row: a document's bits depend neither on
//                where it lies nor on what else is packed, and a row's y and lse on no later row. fma is mul,
//                add on the scalar path; avx2 and avx512bw return the same bits.
//   s, dy . v    acc from 0 over d in order, fma; s over (scale * q[d]) * log2 e, so weights are powers of 2
//   delta        lane i of 16 adds d = i, i + 16, .. from 0, fma; lanes join i with i + 8, then i + 4, 2, 1
//   y, lse       over blocks of 48 positions in order, from m = -FLT_MAX, l = 0, y = 0:
//                  m' = max(m, max s); c = 2^(m - m'); e = 2^(s - m'), 0 where not visible
//                  l = l * c, then l += e[p] over p in order
//                  y = y * c, then y += e[p] * v[p] over p in order, fma
//                and last y * (1 / l), m * ln 2 + ck_log(l)
//   w, ds        2^(s - lse * log2 e), 0 where not visible; w * (dy . v - delta)
//   dq           from 0 over p in order, fma(ds, k, dq); then * scale
//   dk, dv       from 0, fma(ds, scale * q, dk) and fma(w, dy, dv): over chunks of 16 rows t in order, in
//                each over the heads in order, in each over t in order
// threads        the forward deals out strips of up to 4 chunks of one key/value head's queries, the backward
//                documents' key/value heads; a head that must be shared is computed as dq by strips and then
//                as dk, dv by blocks of 48 positions, which returns the same bits
// stack          about 195 KiB
// Source: Dao et al. 2022, arXiv:2205.14135, algorithms 1 and 4.
#pragma once

#include "../../ck_rt.h"
