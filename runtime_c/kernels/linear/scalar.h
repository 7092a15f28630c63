// What the scalar files share.
#pragma once

#include "../slice.h"
#include "rows.h"
#include "store.h"

// isum[r] += sum over 4 columns of the group's vector u [64] and x [4].
static inline void ck_add_group(int32_t isum[CK_PANEL], const uint8_t* u, const int8_t* x) {
    for (int r = 0; r < CK_PANEL; r++)
        isum[r] += u[4 * r] * x[0] + u[4 * r + 1] * x[1] + u[4 * r + 2] * x[2] + u[4 * r + 3] * x[3];
}

// u [64] = group g, from its nibble vector q [64].
static inline void ck_nibble_group(uint8_t* u, const uint8_t* q, int g) {
    for (int i = 0; i < 64; i++)
        u[i] = (uint8_t)(q[i] >> (g / 4 * 4) & 15);
}
