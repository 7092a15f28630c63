#include "../k_scales.h"
#include "dequantize.h"

void ck_dequantize_q3_k(float* dst, const void* src, int64_t n) {
    const ck_q3_k* block = src;
    for (const float* end = dst + n; dst < end; dst += 256, block++) {
        const float d = ck_f16_float(block->d);
        for (int s = 0; s < 16; s++) {
            const uint8_t *q = block->q + s / 8 * 32 + s % 2 * 16, *h = block->h + s % 2 * 16;
            const float scale = d * (float)ck_q3_k_scale(block->scales, s);
            for (int l = 0; l < 16; l++) {
                const int u = (q[l] >> s % 8 / 2 * 2 & 3) | (h[l] >> s / 2 & 1) << 2;
                dst[16 * s + l] = scale * (float)(u - 4);
            }
        }
    }
}
