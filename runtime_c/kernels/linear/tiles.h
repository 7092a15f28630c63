// What the vector paths share: how the work is cut.
//
// Many rows: up to 128 rows of x at a time go over the panels in pairs (gate and up, for glu). 32 blocks of
// a pair are widened once into ck_wide, bytes and f32 scales, and then multiplied with all those rows, in
// tiles of a few rows. One row: four panels, far apart in memory, are read at the same time: four streams get
// more of the bandwidth than one.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../slice.h"
#include "rows.h"
#include "store.h"

// A panel's block of 32 columns, widened. d is the factor of isum; m and s depend on the kind.
typedef struct {
    uint8_t u[8][64];
    float d[16], m[16], s[16];
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
//   HALVES  q6_k: a.i, b = -32 * xs0, -32 * xs1, where isum0 and isum1 start; m = sc0, s = sc1
#define CK_KIND_OFFSET 0
#define CK_KIND_MIN 1
#define CK_KIND_HALVES 2

enum {
    CK_ROWS = 128,      // rows of x at a time
    CK_SEGMENT = 32,    // blocks widened at a time
    CK_FACTORS = 8192,  // rows times blocks at a time
    CK_STREAMS = 4,     // panels at a time for one row
};

typedef struct {
    _Alignas(64) ck_wide wide[2][CK_SEGMENT];
    float acc[CK_ROWS][2][CK_PANEL];
    ck_factor factors[CK_FACTORS];  // [tile of rows][block][row of the tile]
} ck_scratch;
