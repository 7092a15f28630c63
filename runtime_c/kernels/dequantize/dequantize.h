// dequantize: n elements of a file's blocks (blocks.h) as f32.
//
//   f32 f16 bf16  the value              q8_0  d * q
//   q4_0  d * (u - 8)                    q4_1  d * u + m
//   q5_0  d * (u - 16)                   q5_1  d * u + m
//   iq4_nl  d * table[u]                 iq4_xs  (d * sc) * table[u]
//   q2_k, q4_k, q5_k  (d * sc) * u - dmin * mn
//   q3_k  (d * sc) * (u - 4)             q6_k  (d * sc) * (u - 32)
//
// n        a multiple of the type's block; 0 writes nothing
// src      n / block file blocks, any alignment, read only
// dst      [n] f32, overlaps nothing
// bits     each operation rounded, as written: equal to gguf.quants.dequantize, NaN as NaN
// threads  none: the caller splits
#pragma once

#include "../../blocks.h"
#include "../../ck_rt.h"
#include "../half.h"
