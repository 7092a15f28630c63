// f32 -> f16, and bf16, as their bits, one at a time, in plain C. f16 -> f32 is ck_f16_float (ck_math.h).
#pragma once

#include "../ck_math.h"

static inline float ck_bf16_float(uint16_t half) {
    return ck_bits_float((uint32_t)half << 16);
}

// To nearest, ties to even; NaN stays NaN.
static inline uint16_t ck_float_f16(float value) {
    const uint32_t bits = ck_float_bits(value);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    // 65520 is where rounding to f16 reaches infinity.
    if (magnitude >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00);
    // Below the smallest normal, 2^-14: adding 0.5 leaves the subnormal's integer in the low bits, rounded.
    if (magnitude < 0x38800000)
        return (uint16_t)(sign | (ck_float_bits(ck_bits_float(magnitude) + 0.5f) & 0xffff));
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}
