// What the scalar files share.
#pragma once

#include "../slice.h"
#include "rows.h"
#include "store.h"

// A block of 32 columns, unpacked: u [column][row of the panel], and its factors, as the type needs them.
typedef struct {
    int16_t u[32][CK_PANEL];
    float d[CK_PANEL], m[CK_PANEL], m1[CK_PANEL];
    int32_t sc[2][CK_PANEL];
} ck_columns;

// u of column c (of 32) and row r, from vectors and from nibble vectors.
static inline int ck_byte(const uint8_t (*q)[64], int c, int r) {
    return q[c / 4][4 * r + c % 4];
}

static inline int ck_nibble(const uint8_t (*q)[64], int c, int r) {
    return q[c / 4 % 4][4 * r + c % 4] >> c / 16 * 4 & 15;
}

// A nibble with its fifth bit, bit g of a byte of h for group g.
static inline int ck_fifth(const uint8_t (*q)[64], const uint8_t* h, int c, int r) {
    return ck_nibble(q, c, r) | (h[4 * r + c % 4] >> c / 4 & 1) << 4;
}

// Two bits of pair vectors.
static inline int ck_pair(const uint8_t (*p)[64], int c, int r) {
    return p[c / 16][4 * r + c % 4] >> c / 4 % 4 * 2 & 3;
}

static inline void ck_half_floats(float* to, const void* from) {
    for (int r = 0; r < CK_PANEL; r++) {
        uint16_t half;
        memcpy(&half, (const uint8_t*)from + 2 * r, 2);
        to[r] = ck_f16_float(half);
    }
}

// isum[h][r] = sum over the 16 columns of half h of u * q, with block b of row x. Not inlined: in a larger
// function gcc 12 makes half the speed of it.
__attribute__((noinline)) static void ck_dot_columns(int32_t isum[2][CK_PANEL], const ck_columns* w,
                                                     const ck_x_row* x, int64_t b) {
    int16_t q[32];
    for (int c = 0; c < 32; c++)
        q[c] = (int16_t)(x->low == NULL ? x->high[32 * b + c]
                                        : 128 * x->high[32 * b + c] + x->low[32 * b + c]);
    for (int h = 0; h < 2; h++)
        for (int r = 0; r < CK_PANEL; r++) {
            int32_t sum = 0;
            for (int c = 0; c < 16; c++)
                sum += w->u[16 * h + c][r] * q[16 * h + c];
            isum[h][r] = sum;
        }
}
