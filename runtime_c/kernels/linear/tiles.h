// What the vector paths share: how the work is cut.
//
// Many rows: up to 64 rows of x at a time go over the panels in pairs (gate and up, for glu). The two planes
// of x are joined once into 16-bit numbers, and a few blocks of a pair of panels are widened to 16 bits too;
// then they are multiplied with all those rows, in tiles of a few rows. One row: four panels, far apart in
// memory, are read at the same time: four streams get more of the bandwidth than one.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../slice.h"
#include "rows.h"
#include "store.h"

// Where the columns of a block go when its bytes, taken as 16-bit words, are split: word 0..15 is column
// 2 * word (the low bytes), word 16..31 is column 2 * (word - 16) + 1. Two words are a 32-bit lane, so a block
// has 16 pairs: pair g of the first 8 is columns 4g and 4g + 2, pair g of the last 8 is 4g + 1 and 4g + 3.

// A panel's block of 32 columns, widened: pairs of 16 rows, the factors of isum and, for MIN, of xs.
typedef struct {
    int16_t w[16][2 * CK_PANEL];
    float d[CK_PANEL], m[CK_PANEL];
} ck_wide;

// What a block of one row of x multiplies with. a and b depend on the kind.
typedef struct {
    float d;
    union {
        int32_t i;
        float f;
    } a;
    int32_t b;
} ck_factor;

// The kinds of term (linear.h).
//   OFFSET  q8_0, q5_0: a.i = -offset * xs, where isum starts
//   MIN     q4_1, q4_k: a.f = dx * xs, the factor of m
//   HALVES  q6_k: a.i, b = -32 * xs0, -32 * xs1, where the sums of bytes start; wide has sc * (u - 32)
#define CK_KIND_OFFSET 0
#define CK_KIND_MIN 1
#define CK_KIND_HALVES 2

enum {
    CK_ROWS = 64,       // rows of x at a time
    CK_SEGMENT = 8,     // blocks widened at a time
    CK_FACTORS = 8192,  // rows times blocks at a time
    CK_STREAMS = 4,     // panels at a time for one row
};

typedef struct {
    _Alignas(64) ck_wide wide[2][CK_SEGMENT];
    float acc[CK_ROWS][2][CK_PANEL];
    int16_t x[CK_FACTORS][32];      // [tile of rows][block][row of the tile]: 16 pairs
    ck_factor factors[CK_FACTORS];  // likewise
} ck_scratch;
