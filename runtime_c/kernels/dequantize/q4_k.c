#include "dequantize.h"

// Scale and minimum of sub-block s, 6 bits each.
static int scale_of(const ck_q4_k* block, int s) {
    const uint8_t* p = block->scales;
    return s < 4 ? p[s] & 63 : (p[s + 4] & 15) | p[s - 4] >> 6 << 4;
}

static int minimum_of(const ck_q4_k* block, int s) {
    const uint8_t* p = block->scales;
    return s < 4 ? p[s + 4] & 63 : p[s + 4] >> 4 | p[s] >> 6 << 4;
}

void ck_dequantize_q4_k(float* dst, const void* src, int64_t n) {
    const ck_q4_k* block = src;
    for (const float* end = dst + n; dst < end; dst += 256, block++) {
        const float d = ck_f16_float(block->d), dmin = ck_f16_float(block->dmin);
        for (int s = 0; s < 8; s++) {
            const float scale = d * (float)scale_of(block, s), low = dmin * (float)minimum_of(block, s);
            const uint8_t* q = block->q + s / 2 * 32;
            for (int i = 0; i < 32; i++)
                dst[32 * s + i] = scale * (float)(q[i] >> (s % 2 * 4) & 15) - low;
        }
    }
}
