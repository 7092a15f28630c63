#include "dequantize.h"

void ck_dequantize_q2_k(float* dst, const void* src, int64_t n) {
    const ck_q2_k* block = src;
    for (const float* end = dst + n; dst < end; dst += 256, block++) {
        const float d = ck_f16_float(block->d), dmin = ck_f16_float(block->dmin);
        for (int s = 0; s < 16; s++) {
            const uint8_t* q = block->q + s / 8 * 32 + s % 2 * 16;
            const float scale = d * (float)(block->scales[s] & 15);
            const float low = dmin * (float)(block->scales[s] >> 4);
            for (int l = 0; l < 16; l++)
                dst[16 * s + l] = scale * (float)(q[l] >> s % 8 / 2 * 2 & 3) - low;
        }
    }
}
