#include "dequantize.h"

void ck_dequantize_bf16(float* dst, const void* src, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, (const char*)src + 2 * i, sizeof half);
        dst[i] = ck_bf16_float(half);
    }
}
