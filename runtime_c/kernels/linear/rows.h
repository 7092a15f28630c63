// A row of quantised activations, taken apart (blocks.h).
#pragma once

#include <stdint.h>

#include "../../blocks.h"

typedef struct {
    const int8_t *high, *low;  // [k]
    const float* d;            // [k / 32]
    const int32_t* sum;        // [k / 16]
} ck_q16_row;

static inline ck_q16_row ck_q16_row_of(const void* rows, int64_t t, int64_t k) {
    const int8_t* high = (const int8_t*)rows + t * CK_Q16_ROW_BYTES(k);
    const void *d = high + 2 * k, *sum = high + 2 * k + k / 8;
    return (ck_q16_row){high, high + k, (const float*)d, (const int32_t*)sum};
}
