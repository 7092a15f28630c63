// A row of quantised activations, taken apart (blocks.h).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../../blocks.h"

typedef struct {
    const int8_t *high, *low;  // [k]; high is q, and low NULL, in a q8 row
    const float* d;            // [k / 32]
    const int32_t* sum;        // [k / 16]
} ck_x_row;

static inline ck_x_row ck_x_row_of(const void* rows, int planes, int64_t t, int64_t k) {
    const int8_t* high = (const int8_t*)rows + t * CK_ROW_BYTES(planes, k);
    const void *d = high + planes * k, *sum = high + planes * k + k / 8;
    return (ck_x_row){high, planes == 2 ? high + k : NULL, (const float*)d, (const int32_t*)sum};
}
