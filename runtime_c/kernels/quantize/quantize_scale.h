// The scale of a block, from the bits of its largest magnitude.
#pragma once

#include "../../blocks.h"
#include "../../ck_math.h"
#include "../slice.h"
#include "quantize.h"

// The largest |q| of q16 rows and of q8 rows.
#define CK_Q16_MAX 16256.0f
#define CK_Q8_MAX 127.0f

typedef struct {
    float d, inverse;  // inverse: 0 where q must be 0
} ck_quantize_scale;

// Where a row or a block goes: its columns' planes, its scales and its sums. low: NULL for q8, which has q
// itself in high.
typedef struct {
    int8_t *high, *low;
    float* d;
    int32_t* sum;
} ck_x_out;

// Block b of a row, or of what begins at a block.
static inline ck_x_out ck_x_block(ck_x_out y, int64_t b) {
    return (ck_x_out){y.high + 32 * b, y.low != NULL ? y.low + 32 * b : NULL, y.d + b, y.sum + 2 * b};
}

static inline float ck_x_max(ck_x_out y) {
    return y.low != NULL ? CK_Q16_MAX : CK_Q8_MAX;
}

// largest: the largest bits of |x|, as integers: so compared, NaN is above infinity, and that above the rest.
// max: what becomes of it, ck_x_max.
static inline ck_quantize_scale ck_quantize_scale_of(uint32_t largest, float max) {
    const float d = ck_bits_float(largest) / max;
    if (largest >= 0x7f800000u)
        return (ck_quantize_scale){ck_bits_float(0x7fc00000u), 0.0f};
    // Below the smallest normal number 1 / d could be infinite.
    return d >= 0x1p-126f ? (ck_quantize_scale){d, 1.0f / d} : (ck_quantize_scale){0.0f, 0.0f};
}
