#include "../iq4.h"
#include "../k_scales.h"
#include "dequantize.h"

void ck_dequantize_iq4_xs(float* dst, const void* src, int64_t n) {
    const ck_iq4_xs* block = src;
    for (const float* end = dst + n; dst < end; dst += 256, block++) {
        const float d = ck_f16_float(block->d);
        for (int s = 0; s < 8; s++) {
            const float scale = d * (float)ck_iq4_xs_scale(block->low, block->high, s);
            const uint8_t* q = block->q + 16 * s;
            for (int i = 0; i < 16; i++) {
                dst[32 * s + i] = scale * (float)ck_iq4_value(q[i] & 15);
                dst[32 * s + i + 16] = scale * (float)ck_iq4_value(q[i] >> 4);
            }
        }
    }
}
