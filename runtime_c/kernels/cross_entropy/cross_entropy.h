// cross_entropy: the loss over a vocabulary and its gradients, a chunk of rows at a time, so that the logits
// of the whole batch never stand in memory.
//
//   logits[r][v] = sum_k hidden[first + r][k] * w[v][k]
//   rows         nll[first + r] = log(s) + (m - logits[r][target]), m = max_v logits[r][v],
//                s = sum_v e^(logits[r][v] - m); 0 where target < 0
//   grad_rows    that, and logits[r][v] = (e^(logits[r][v] - m) * (1 / s) - [v == target]) * dnll[first + r]
//                in its place; 0 where target < 0, whatever dnll and logits hold
//   dhidden[first + r][k] = sum_v dlogits[r][v] * w[v][k]
//   dw[v][k]     = sum_r dlogits[r][v] * hidden[first + r][k], or dw[v][k] + that if add is 1
//
// n         live rows of the batch
// first, rows   the chunk: rows first .. first + rows of the batch, of which those below n are live; the
//           others are neither read nor written
// n_vocab, d    any number >= 0
// hidden, dhidden   [n][d] f32;  w, dw  [n_vocab][d] f32
// targets   [n]; a target of n_vocab or more gives NaN: its nll, and its row of logits
// nll, dnll     [n] f32
// logits, dlogits   [rows][n_vocab] f32, of one chunk
// bits      logits, dhidden, dw: those of ck_matmul_nt, _nn and _tn (matmul.h), chunk by chunk for dw.
//           rows, grad_rows: each operation rounded to f32, e^x and log by ck_math.h. s has 64 sums: v is
//           added to sum v mod 64, in order of v; they join as (i + (i + 16)) + ((i + 32) + (i + 48)), then
//           as ck_v_sum16. All paths return the same bits; a row that holds a NaN or +inf gives NaN.
// threads   rows, grad_rows: rows; the products: those of matmul
#pragma once

#include "../../ck_rt.h"

// The live rows of the chunk, counted from first.
static inline int64_t ck_chunk_live(int64_t n, int64_t first, int64_t rows) {
    const int64_t left = n - first;
    return left < 0 ? 0 : left < rows ? left : rows;
}
