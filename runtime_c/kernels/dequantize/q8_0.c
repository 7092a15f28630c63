#include "dequantize.h"

void ck_dequantize_q8_0(float* dst, const void* src, int64_t n) {
    const ck_q8_0* block = src;
    for (const float* end = dst + n; dst < end; dst += 32, block++) {
        const float d = ck_f16_float(block->d);
        for (int i = 0; i < 32; i++)
            dst[i] = d * (float)block->q[i];
    }
}
