// The 16 numbers that a nibble of iq4_nl and iq4_xs stands for, plus 128.
// Source: ggml's table of non-linear 4-bit values.
#pragma once

#include <stdint.h>

static const uint8_t ck_iq4_bytes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                         129, 141, 153, 166, 181, 197, 217, 241};

static inline int ck_iq4_value(int u) {
    return ck_iq4_bytes[u] - 128;
}
