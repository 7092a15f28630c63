#include "../k_scales.h"
#include "dequantize.h"

void ck_dequantize_q5_k(float* dst, const void* src, int64_t n) {
    const ck_q5_k* block = src;
    for (const float* end = dst + n; dst < end; dst += 256, block++) {
        const float d = ck_f16_float(block->d), dmin = ck_f16_float(block->dmin);
        for (int s = 0; s < 8; s++) {
            const float scale = d * (float)ck_k_scale(block->scales, s);
            const float low = dmin * (float)ck_k_minimum(block->scales, s);
            const uint8_t* q = block->q + s / 2 * 32;
            for (int i = 0; i < 32; i++) {
                const int u = (q[i] >> s % 2 * 4 & 15) | (block->h[i] >> s & 1) << 4;
                dst[32 * s + i] = scale * (float)u - low;
            }
        }
    }
}
