// delta_rule: every value head's state decays, takes in one row's key and value, and answers its query.
//
//   a      = e^g[t][h]
//   d[j]   = beta[t][h] * (v[t][h][j] - a * sum_i S[i][j] * k[t][c][i])
//   S[i][j] = a * S[i][j] + k[t][c][i] * d[j]
//   y[t][h][j] = scale * sum_i S[i][j] * q[t][c][i]
//
// for t = 0, 1, .. in order; c, the key head of value head h, is h / (heads / key_heads), or h % key_heads if
// cyclic is 1. Columns j of a head know nothing of each other.
//
// state  [heads][key_dim][value_dim] f32: S before row 0, becomes S after row n - 1; at pos 0 S starts as
//        zeros, and nothing that the state holds is read
// n      rows; 0 writes nothing
// q, k   [n][key_heads][key_dim];  v, y  [n][heads][value_dim];  g, beta  [n][heads], all f32
// heads  a multiple of key_heads;  key_dim 1 to 256;  value_dim any;  y and state overlap nothing
// bits   sums over i: accumulator m of 4 takes i = m, m + 4, .. in order from 0, fma; they join as
//        (0 + 1) + (2 + 3). a is ck_exp; d is beta * (v - a * sum); S is fma(k, d, a * S). fma is mul, add on
//        the scalar path; avx2 and avx512bw return the same bits. A row does the same whatever it comes with:
//        one row at a time and all at once give the same bits
// threads  heads' columns, 32, 16 or 8 together
// Source: Yang et al. 2024, arXiv:2412.06464, eq. 10: S' = a S (I - beta k k^T) + beta v k^T, there
// transposed.
#pragma once

#include "../../ck_rt.h"

enum { CK_DELTA_KEYS = 256 };
