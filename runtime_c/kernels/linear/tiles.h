// What the vector paths share: how the work is cut.
//
// Many rows: up to 64 rows of x at a time go over the panels in pairs (gate and up, for glu). The two planes
// of x are joined once into 16-bit numbers, and a few blocks of a pair of panels are widened to 16 bits too;
// then they are multiplied with all those rows, in tiles of a few rows. Where bytes can be multiplied
// (CK_BYTES) the one plane of q8 rows and the blocks stay bytes. One row: four panels, far apart in memory,
// are read at the same time: four streams get more of the bandwidth than one.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../slice.h"
#include "rows.h"
#include "store.h"

// A block's 32 columns as 16 pairs of 16-bit numbers, as splitting words into their low and their high bytes
// makes them: pair g < 8 is columns 4g and 4g + 2, pair g + 8 is columns 4g + 1 and 4g + 3.

// A panel's block of 32 columns, widened: pairs of 16 rows, the factors of isum and, for MIN, of xs, for
// HALVES_MIN of xs0 and xs1. Or its bytes, by groups, and for halves their scales.
typedef struct {
    union {
        int16_t w[16][2 * CK_PANEL];
        struct {
            uint8_t u[8][4 * CK_PANEL];
            int32_t sc[2][CK_PANEL];
        };
    };
    float d[CK_PANEL], m[CK_PANEL], m1[CK_PANEL];
} ck_wide;

typedef union {
    int32_t i;
    float f;
} ck_word;

// What a block of one row of x multiplies with, by the kind of term.
//   OFFSET      a.i = -offset * xs, where isum starts
//   MIN         a.f = dx * xs, the factor of m
//   HALVES      a.i, b.i = -offset * xs0, -offset * xs1, where the sums of bytes start; pairs are of
//               sc * (u - offset)
//   HALVES_MIN  a.f, b.f = dx * xs0, dx * xs1, the factors of m0 and m1; pairs are of sc * u
typedef struct {
    float d;
    ck_word a, b;
} ck_factor;

enum {
    CK_ROWS = 64,       // rows of x at a time
    CK_SEGMENT = 8,     // blocks widened at a time
    CK_FACTORS = 8192,  // rows times blocks at a time
    CK_STREAMS = 4,     // panels at a time for one row
};

typedef struct {
    _Alignas(64) ck_wide wide[2][CK_SEGMENT];
    float acc[CK_ROWS][2][CK_PANEL];
    // [segment][tile of rows][block][row of the tile]: 16 pairs, or the block's bytes
    union {
        int16_t x[CK_FACTORS][32];
        int8_t x8[CK_FACTORS][32];
    };
    ck_factor factors[CK_FACTORS];  // likewise
} ck_scratch;
