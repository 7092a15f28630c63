#include "../iq4.h"
#include "dequantize.h"

void ck_dequantize_iq4_nl(float* dst, const void* src, int64_t n) {
    const ck_iq4_nl* block = src;
    for (const float* end = dst + n; dst < end; dst += 32, block++) {
        const float d = ck_f16_float(block->d);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)ck_iq4_value(block->q[i] & 15);
            dst[i + 16] = d * (float)ck_iq4_value(block->q[i] >> 4);
        }
    }
}
