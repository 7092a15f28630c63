// packed_delta_rule: delta_rule (kernels/delta_rule) of packed documents for training, both ways, f32.
//
// The forward is delta_rule's from a state of zeros in each document. Every 64th row of a document is a
// border; what of states is no border's is zeros:
//   states[t / 64][h] = S before row t        t - starts[t] a multiple of 64, not 0
//
// The backward takes a document in pieces of 64 rows, the last one first, the state before each being known.
// Over the L rows of a piece, with c[i] the sum of g to row i, u = e^c, e[i][j] = e^(c[i] - c[j]) for j <= i,
// and all rows of one head as matrices:
//   A[i][j] = beta[i] * e[i][j] * (k[i] . k[j]), j < i, else 0;   M[i][j] = e[i][j] * (q[i] . k[j]), j <= i
//   R = V - u K S;  (I + A) D = beta R
//   Y = scale * (u Q S + M D);  S' = u[L - 1] S + sum_j e[L - 1][j] k[j] (x) D[j]
// From dY, here times scale, and G, the gradient of S':
//   (I + A)^T X = M^T dY + e[L - 1] K G
//   dM = dY D^T, dA = -X D^T, each where its matrix is not zero; N = dM e, H = dA beta e
//   dQ = u dY S^T + N K
//   dK = N^T Q + (H + H^T) K - u beta X S^T + e[L - 1] D G^T
//   dV = beta X;  dbeta = X . R + the rows' sums of dA A / beta
//   dg[t] = sum over what spans row t: pairs i >= t > j of dM M - dA A, rows j < t to the end, rows i >= t
//           from S, and S to the end. Differences of sums over rows would cancel where e is 0 or 1.
//   the gradient of S = u[L - 1] G + Q^T (u dY) - K^T (u beta X)
//
// n        live rows; 0 writes nothing; rows from n on are neither read nor written
// q, k, dq, dk  [n][key_heads][key_dim];  v, y, dy, dv  [n][heads][value_dim]
// g, beta, dg, dbeta  [n][heads]
// states   [(n + 63) / 64][heads][key_dim][value_dim]
// starts   [n] i32: the first row of row t's document; never falls, starts[t] <= t
// heads    a multiple of key_heads; head h reads key head h / (heads / key_heads), or h % key_heads if cyclic
// key_dim, value_dim  1 to 128, fastest in multiples of 16;  all f32, outputs overlap nothing
// values   NaN or infinity in a document reaches no other
// bits     rows are counted from the document's first: a document's bits depend neither on where it lies nor
//          on what else is packed. y and states are delta_rule's bits. In the backward products take k, i or
//          j in order into one accumulator, fma; a solve takes blocks of 16 rows; dq and dk add up over the
//          heads of a key head in order. fma is mul, add on the scalar path; avx2 and avx512bw return the
//          same bits
// threads  heads' columns, 32, 16 or 8 together; in the backward documents' key heads
// stack    about 700 KiB
// Source: Yang et al. 2024, arXiv:2412.06464, section 3.3 and appendix A (the chunked form).
#pragma once

#include "../../ck_rt.h"

enum { CK_DELTA_WIDEST = 128 };
