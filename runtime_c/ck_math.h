// Scalar arithmetic that every path shares, so that all of them return the same bits. Branch-free: loops
// over these functions vectorise. Compile with -ffp-contract=off; nothing here depends on the rounding mode
// but "to nearest".
#pragma once

#include <stdint.h>
#include <string.h>

static inline uint32_t ck_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float ck_bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// The value of f16 bits, exact, subnormals included; NaN stays NaN.
static inline float ck_f16_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t rest = (uint32_t)(half & 0x7fff) << 13;
    uint32_t small = ck_float_bits(ck_bits_float(rest + (113u << 23)) - ck_bits_float(113u << 23));
    uint32_t normal = rest + (rest >= (31u << 23) ? 224u << 23 : 112u << 23);
    return ck_bits_float(sign | (rest < (1u << 23) ? small : normal));
}

// e^x within 2 ulp: 0 below -87.33654, inf above 88.72283, NaN stays NaN. Each product is rounded before
// the add. Polynomial: Cephes, expf (Moshier 1992).
static inline float ck_exp(float x) {
    float shifted = x * 1.44269504f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float y = (p * (r * r) + r) + 1.0f;
    // The low bits of `shifted` are the integer n; n = 128 does not fit an exponent, so it scales twice.
    int32_t exponent = (int32_t)(ck_float_bits(shifted) - 0x4b400000u);
    int32_t first = exponent > 127 ? 127 : exponent;
    y = y * ck_bits_float((uint32_t)(first + 127) << 23) * (exponent > 127 ? 2.0f : 1.0f);
    y = x > 88.72283f ? ck_bits_float(0x7f800000u) : y;
    return x < -87.33654f ? 0.0f : y;
}

// Natural logarithm within 1 ulp: -inf at 0, NaN below, inf and NaN stay. x = 2^e * (1 + z), with 1 + z
// around 1 by a factor of sqrt(2). Each product is rounded before the add. Polynomial: Cephes, logf (Moshier
// 1992).
static inline float ck_log(float x) {
    const int small = x < 1.17549435e-38f;
    const uint32_t bits = ck_float_bits(small ? x * 8388608.0f : x);
    // Exponents are counted from sqrt(1/2), so that what is left lies around 1.
    const int32_t exponent = (int32_t)(bits - 0x3f3504f3u) >> 23;
    const float z = ck_bits_float(bits - ((uint32_t)exponent << 23)) - 1.0f;
    const float e = (float)(exponent - (small ? 23 : 0));
    float p = 7.0376836292e-2f;
    p = p * z - 1.1514610310e-1f;
    p = p * z + 1.1676998740e-1f;
    p = p * z - 1.2420140846e-1f;
    p = p * z + 1.4249322787e-1f;
    p = p * z - 1.6668057665e-1f;
    p = p * z + 2.0000714765e-1f;
    p = p * z - 2.4999993993e-1f;
    p = p * z + 3.3333331174e-1f;
    const float square = z * z;
    float y = p * z * square + e * -2.12194440e-4f;
    y = (y - 0.5f * square) + z;
    y = y + e * 0.693359375f;
    y = x < ck_bits_float(0x7f800000u) ? y : x;
    return x > 0.0f ? y : x == 0.0f ? ck_bits_float(0xff800000u) : ck_bits_float(0x7fc00000u);
}

// x / (1 + e^-x)
static inline float ck_silu(float x) {
    return x / (1.0f + ck_exp(-x));
}

// x * (1 / (1 + e^(-2u))), u = sqrt(2 / pi) * (x + 0.044715 x^3): the tanh form of GELU.
static inline float ck_gelu_tanh(float x) {
    float u = 0.7978845608f * (x + 0.044715f * (x * x * x));
    return x * (1.0f / (1.0f + ck_exp(-2.0f * u)));
}
