#include "dequantize.h"

void ck_dequantize_q5_1(float* dst, const void* src, int64_t n) {
    const ck_q5_1* block = src;
    for (const float* end = dst + n; dst < end; dst += 32, block++) {
        const float d = ck_f16_float(block->d), m = ck_f16_float(block->m);
        uint32_t high;
        memcpy(&high, block->h, sizeof high);
        for (int i = 0; i < 16; i++) {
            const int low = (block->q[i] & 15) | (int)(high >> i & 1) << 4;
            const int upper = block->q[i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
            dst[i] = d * (float)low + m;
            dst[i + 16] = d * (float)upper + m;
        }
    }
}
