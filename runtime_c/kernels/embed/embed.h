// embed: y[t] = row tokens[t] of w, as f32.
//
// n        rows; 0 writes nothing
// tokens   [n]; a token outside [0, n_vocab) gives a row of NaN
// w        [n_vocab][d] in layout r16 (blocks.h); quantised: any alignment, floats: aligned to the element
// d        a multiple of the type's block
// y        [n][d] f32, overlaps nothing
// bits     those of ck_dequantize: (d * sc) * q - dmin * mn and so on, each operation rounded
// threads  rows
#pragma once

#include <math.h>

#include "../../blocks.h"
#include "../../ck_rt.h"
#include "../half.h"
#include "../slice.h"

// Group g of row `row`, four values of 4 bits, from q: the first of four nibble vectors.
static inline void ck_row_nibbles(int u[4], const uint8_t* q, int g, int row) {
    for (int j = 0; j < 4; j++)
        u[j] = q[g % 4 * 64 + 4 * row + j] >> (g / 4 * 4) & 15;
}

// Column j of group g of row `row`, 2 bits of pair vectors p.
static inline int ck_row_pair(const uint8_t (*p)[64], int g, int row, int j) {
    return p[g / 4][4 * row + j] >> g % 4 * 2 & 3;
}
