// A row of quantised activations, taken apart (blocks.h).
#pragma once

#include <stdint.h>

#include "../../blocks.h"

typedef struct {
    const int8_t* q;     // [k]
    const float* d;      // [k / 32]
    const int16_t* sum;  // [k / 16]
} ck_q8_row;

static inline ck_q8_row ck_q8_row_of(const void* rows, int64_t t, int64_t k) {
    const int8_t* q = (const int8_t*)rows + t * CK_Q8_ROW_BYTES(k);
    return (ck_q8_row){q, (const float*)(const void*)(q + k), (const int16_t*)(const void*)(q + k + k / 8)};
}
