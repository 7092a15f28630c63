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

// 32 columns of which byte i of q [16] holds column i in its low nibble and column i + 16 in its high one ->
// nibble vectors. The file's pairs are group v with v + 4: the lanes move as they are.
static inline void ck_pack_nibbles(uint8_t (*to)[64], int row, const uint8_t* q) {
    for (int v = 0; v < 4; v++)
        ck_store_lane(to[v], row, ck_load_u32(q + 4 * v));
}

// Bits 0, 4, 8, .. 28 of h as the low 8 bits.
static inline uint32_t ck_every_fourth_bit(uint32_t h) {
    h &= 0x11111111u;
    h = (h | h >> 3) & 0x03030303u;
    h = (h | h >> 6) & 0x000f000fu;
    return (h | h >> 12) & 0xffu;
}

// One bit of each of 32 columns, bit i of h -> bit g of byte j of the lane for column 4g + j.
static inline void ck_pack_bits(uint8_t* to, int row, uint32_t h) {
    uint32_t bits = 0;
    for (int j = 0; j < 4; j++)
        bits |= ck_every_fourth_bit(h >> j) << 8 * j;
    ck_store_lane(to, row, bits);
}

// 32 columns that share 32 bytes q with 32 others, in their low nibbles or (shift 4) in their high ones ->
// nibble vectors.
static inline void ck_pack_halves(uint8_t (*to)[64], int row, const uint8_t* q, int shift) {
    for (int v = 0; v < 4; v++) {
        const uint32_t a = ck_load_u32(q + 4 * v) >> shift, b = ck_load_u32(q + 16 + 4 * v) >> shift;
        ck_store_lane(to[v], row, (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4);
    }
}

// Bits `shift` and `shift` + 1 of 32 bytes p, one a column -> pair vectors.
static inline void ck_pack_pairs(uint8_t (*to)[64], int row, const uint8_t* p, int shift) {
    for (int v = 0; v < 2; v++) {
        uint32_t bits = 0;
        for (int g = 0; g < 4; g++)
            bits |= (ck_load_u32(p + 16 * v + 4 * g) >> shift & 0x03030303u) << 2 * g;
        ck_store_lane(to[v], row, bits);
    }
}

// Bit `shift` of 32 bytes p, one a column -> bit g of byte j of the lane for column 4g + j.
static inline void ck_pack_planes(uint8_t* to, int row, const uint8_t* p, int shift) {
    uint32_t bits = 0;
    for (int g = 0; g < 8; g++)
        bits |= (ck_load_u32(p + 4 * g) >> shift & 0x01010101u) << g;
    ck_store_lane(to, row, bits);
}
