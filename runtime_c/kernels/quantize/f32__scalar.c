#include "quantize_scale.h"

#define CK_QUANTIZE_NAME ck_quantize_rows__scalar

static void quantize_block(int8_t* q, float* d, int16_t* sum, const float* x) {
    uint32_t largest = 0;
    for (int i = 0; i < 32; i++) {
        const uint32_t bits = ck_float_bits(x[i]) & 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    const ck_quantize_scale scale = ck_quantize_scale_of(largest);
    for (int i = 0; i < 32; i++) {
        // Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits.
        const float shifted = x[i] * scale.inverse + 12582912.0f;
        q[i] = scale.inverse > 0.0f ? (int8_t)(ck_float_bits(shifted) - 0x4b400000u) : 0;
    }
    for (int h = 0; h < 2; h++) {
        int total = 0;
        for (int i = 0; i < 16; i++)
            total += q[16 * h + i];
        sum[h] = (int16_t)total;
    }
    *d = scale.d;
}

#include "rows.inc"
