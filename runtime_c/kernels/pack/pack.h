// pack: a quantised matrix from the rows of a file to layout r16 (blocks.h). Exact: bits move, none change.
//
// dst      ceil(n_out / 16) panels of n_in / block packed blocks; bytes of rows past n_out become 0
// src      n_out rows of n_in / block file blocks, any alignment, read only
// n_out    any number >= 0
// n_in     a multiple of the type's block
// threads  slices of panels
#pragma once

#include <string.h>

#include "../../blocks.h"
#include "../../ck_rt.h"
#include "../slice.h"

static inline uint32_t ck_load_u32(const void* p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

// Lane `row` of a 64-byte vector.
static inline void ck_store_lane(uint8_t* vector, int row, uint32_t v) {
    memcpy(vector + 4 * row, &v, 4);
}
