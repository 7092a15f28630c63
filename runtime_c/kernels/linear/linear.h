// linear: products of quantised weights with quantised activations; ck_linear, ck_linear_add and ck_glu.
//
//   dot[t][o] = sum_b term(t, o, b), b in [0, n_in / 32): blocks of 32 columns
//   linear      y[t][o] = dot[t][o]
//   linear_add  y[t][o] = residual[t][o] + dot[t][o]
//   glu         y[t][o] = act(dot_gate[t][o]) * dot_up[t][o], act 0 silu, 1 gelu_tanh (ck_math.h)
//
// term, with u the weight's bytes, q the activation's 15 bits (128 * high + low) or 8, dx its scale
// (blocks.h):
//   isum = sum_i u[i] * q[i], xs = sum_i q[i] over the block, isum0, xs0, isum1, xs1 over its halves of 16:
//   exact in int32, then rounded to f32
//   OFFSET      (d * dx) * (float)(isum - offset * xs)
//                 q4_0 8, q5_0 16, q8_0 and iq4_nl 128; iq4_xs 128 with d * sc, exact, for d
//   MIN         (d * dx) * (float)isum + m * (dx * (float)xs)
//                 q4_1, q5_1; q4_k, q5_k with d * sc and -(dmin * mn), both exact, for d and m
//   HALVES      (d * dx) * (float)(sc0 * (isum0 - offset * xs0) + sc1 * (isum1 - offset * xs1))
//                 q6_k 32, q3_k 4; exact in int32 too: 32 columns * 128 * 32 * 16256 < 2^31
//   HALVES_MIN  (d * dx) * (float)(sc0 * isum0 + sc1 * isum1) + m0 * (dx * (float)xs0)
//                 + m1 * (dx * (float)xs1); q2_k with -(dmin * mn), exact, for m0 and m1
//
// n         rows of x, y and residual; 0 writes nothing
// n_out     rows of w, any number >= 0; nothing is written past column n_out of y
// n_in      columns, a multiple of the type's block, at most 262144; 0 makes every dot 0
// y         [n][n_out] f32; overlaps nothing but residual, to which it may be equal
// x         n q16 rows, of two planes, or q8 rows, of one, 4-byte aligned; |q| <= 16256 keeps the sums of
//           q6_k in int32
// w, w_up   r16, any alignment, read only
// residual  [n][n_out] f32, linear_add only
// bits      every operation is rounded to f32, in the order written (no fma); dot starts from 0 and adds the
//           terms in order of b. So one row and 512 rows, and all paths, return the same bits.
// threads   slices of the ceil(n_out / 16) panels
// stack     about 700 KiB
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CK_KIND_OFFSET 0
#define CK_KIND_MIN 1
#define CK_KIND_HALVES 2
#define CK_KIND_HALVES_MIN 3
#define CK_HAS_HALVES(kind) ((kind) >= CK_KIND_HALVES)

typedef struct {
    float* y;
    const void* x;
    const void* w;         // gate, for glu
    const void* w_up;      // NULL unless glu
    const float* residual; // NULL unless linear_add
    int64_t n, n_out, n_in, act;
    int planes;            // of x: 2 for q16 rows, 1 for q8 rows; float weights ignore it
    int ahead;             // bytes before their use that quantised weights are asked for; y is the same
    int tid, nth;
} ck_linear_args;

typedef void ck_linear_fn(const ck_linear_args* args);
