// optimizer: what happens to gradients and weights after the backward pass, over flat arrays of f32.
//
//   accumulate   y += g
//   square_sums  partials[first + i] = the sum of the squares of elements [4096 i, 4096 (i + 1)) of g
//   clip         norm[0] = sqrt(sum_i partials[i]); norm[1] = hyper[7] > 0 ? min(1, 1 / (norm[0] + 1e-6) *
//                hyper[7]) : 1, NaN if norm[0] is; written by tid 0
//   adamw        hyper: 0 keep = 1 - lr * weight_decay, 1 1 - beta1, 2 beta2, 3 1 - beta2, 4 eps,
//                5 step = lr / (1 - beta1^t), 6 root = sqrt(1 - beta2^t), 7 max_norm
//       d = g * norm[1];  w = toward + (w - toward) * keep, if decay is not 0
//       m = fma(hyper[1], d - m, m);  v = fma(hyper[3] * d, d, v * beta2)
//       w = w - (step * m) / (sqrt(v) / root + eps);  g = 0
//   sgd          hyper: 0 lr, 1 momentum, 2 weight decay, 7 max_norm
//       d = g * norm[1];  d = fma(hyper[2], w - toward, d), if decay is not 0
//       buf = buf * hyper[1] + d;  w = fma(-lr, buf, w);  g = 0
//
// n_elements, n_partials   any number >= 0
// y, w, m, v, momentum     f32, read and written; g read, in adamw and sgd zeroed; no two overlap
// partials   one a piece of 4096 elements, the last piece of what is left
// toward     what weight decay pulls towards: 0, or 1 for gains stored as 1 + w; toward 0 leaves w * keep
// bits       each operation rounded to f32, fma once (scalar: product rounded, then added). The squares are
//            exact in f64 and element i of a piece is added to sum i mod 32, in f64; they join as
//            (i + (i + 8)) + ((i + 16) + (i + 24)), then as (0, 4), (0, 2), (0, 1). clip adds the partials in
//            order in f64, takes the root there and goes on in f32. accumulate, square_sums and clip return
//            the same bits on all paths, adamw and sgd on avx2 and avx512bw: those of PyTorch's AdamW and SGD
//            for one tensor on the same CPU, but for its root, which is not the nearest.
// threads    slices of the pieces of 4096 elements
// Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
#pragma once

#include "../../ck_rt.h"
#include "../slice.h"

enum { CK_PIECE = 4096 };

// The elements of the pieces that thread tid of nth works on.
static inline ck_slice ck_pieces_of(int64_t n_elements, int tid, int nth) {
    const ck_slice pieces = ck_slice_of((n_elements + CK_PIECE - 1) / CK_PIECE, tid, nth);
    const int64_t begin = pieces.begin * CK_PIECE, end = pieces.end * CK_PIECE;
    return (ck_slice){begin, end < n_elements ? end : n_elements};
}
