// What the scalar files share.
#pragma once

#include "../slice.h"
#include "rows.h"
#include "store.h"

// isum[r] += sum over the 4 columns from `column` of the group's vector u [64] and x.
static inline void ck_add_group(int32_t isum[CK_PANEL], const uint8_t* u, const ck_q16_row* x,
                                int64_t column) {
    for (int j = 0; j < 4; j++) {
        const int32_t q = 128 * x->high[column + j] + x->low[column + j];
        for (int r = 0; r < CK_PANEL; r++)
            isum[r] += u[4 * r + j] * q;
    }
}

// u [64] = group g, from its nibble vector q [64].
static inline void ck_nibble_group(uint8_t* u, const uint8_t* q, int g) {
    for (int i = 0; i < 64; i++)
        u[i] = (uint8_t)(q[i] >> (g / 4 * 4) & 15);
}
