// The scales of sub-blocks, as file blocks of K types pack them (blocks.h).
#pragma once

#include <stdint.h>

// q4_k, q5_k: scale and minimum of sub-block s of 32 columns, 6 bits each, of 12 bytes p.
static inline int ck_k_scale(const uint8_t* p, int s) {
    return s < 4 ? p[s] & 63 : (p[s + 4] & 15) | p[s - 4] >> 6 << 4;
}

static inline int ck_k_minimum(const uint8_t* p, int s) {
    return s < 4 ? p[s + 4] & 63 : p[s + 4] >> 4 | p[s] >> 6 << 4;
}

// q3_k: scale of sub-block s of 16 columns, -32..31, of 12 bytes p.
static inline int ck_q3_k_scale(const uint8_t* p, int s) {
    return ((p[s % 8] >> s / 8 * 4 & 15) | (p[8 + s % 4] >> s / 4 * 2 & 3) << 4) - 32;
}

// iq4_xs: scale of sub-block s of 32 columns, -32..31.
static inline int ck_iq4_xs_scale(const uint8_t* low, int high, int s) {
    return ((low[s / 2] >> s % 2 * 4 & 15) | (high >> 2 * s & 3) << 4) - 32;
}
