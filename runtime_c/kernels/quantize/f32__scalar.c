#include "quantize_scale.h"

#define CK_QUANTIZE_ISA scalar

static void quantize_block(ck_x_out y, const float* x) {
    uint32_t largest = 0;
    for (int i = 0; i < 32; i++) {
        const uint32_t bits = ck_float_bits(x[i]) & 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    const ck_quantize_scale scale = ck_quantize_scale_of(largest, ck_x_max(y));
    y.sum[0] = y.sum[1] = 0;
    for (int i = 0; i < 32; i++) {
        // Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits.
        const float shifted = x[i] * scale.inverse + 12582912.0f;
        const int32_t q = scale.inverse > 0.0f ? (int32_t)(ck_float_bits(shifted) - 0x4b400000u) : 0;
        y.sum[i / 16] += q;
        if (y.low == NULL) {
            y.high[i] = (int8_t)q;
            continue;
        }
        // Shifted as a number above zero: q + 64 >= -127 * 128.
        const int32_t high = ((q + 64 + 128 * 128) >> 7) - 128;
        y.high[i] = (int8_t)high;
        y.low[i] = (int8_t)(q - 128 * high);
    }
    *y.d = scale.d;
}

#include "rows.inc"
