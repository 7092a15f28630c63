#include "dequantize.h"

void ck_dequantize_q4_0(float* dst, const void* src, int64_t n) {
    const ck_q4_0* block = src;
    for (const float* end = dst + n; dst < end; dst += 32, block++) {
        const float d = ck_f16_float(block->d);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((block->q[i] & 15) - 8);
            dst[i + 16] = d * (float)((block->q[i] >> 4) - 8);
        }
    }
}
