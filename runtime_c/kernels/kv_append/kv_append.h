// kv_append: write n rows of keys and values, at positions pos .. pos + n - 1, into one layer's cache.
//
//   slot(p) = p mod capacity
//   K of head h: [capacity / 64][head_dim][64], the 64 positions of a block side by side in each column
//   V of head h: [capacity][head_dim]
//   kv = K of heads 0 .. kv_heads - 1, then V of heads 0 .. kv_heads - 1
//
// n         rows, at most capacity; 0 writes nothing
// k, v      [n][kv_heads][head_dim] f32
// kv        2 * kv_heads * capacity * head_dim elements of f16 or f32
// capacity  a multiple of 64;  head_dim any
// bits      f16: rounded to nearest, ties to even; above 65504 infinity. The same on every path.
// threads   rows
#pragma once

#include "../../ck_rt.h"
