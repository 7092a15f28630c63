// f32 rounded to the values of bf16: to nearest, ties to even; NaN stays NaN. The result is an f32.
#pragma once

#include "../simd.h"

static inline float ck_round_bf16(float x) {
    const uint32_t bits = ck_float_bits(x);
    const uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1);
    return ck_bits_float((x == x ? nearest : bits | 0x400000) & 0xffff0000);
}

// The same, lane by lane.
static inline ck_vf ck_v_round_bf16(ck_vf x) {
    const ck_vu bits = (ck_vu)x;
    const ck_vu nearest = bits + 0x7fff + (bits >> 16 & 1);
    return (ck_vf)((ck_vu)ck_v_select(x == x, (ck_vf)nearest, (ck_vf)(bits | 0x400000)) & 0xffff0000);
}
