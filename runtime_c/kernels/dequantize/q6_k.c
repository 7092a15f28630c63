#include "dequantize.h"

void ck_dequantize_q6_k(float* dst, const void* src, int64_t n) {
    const ck_q6_k* block = src;
    for (const float* end = dst + n; dst < end; dst += 256, block++) {
        const float d = ck_f16_float(block->d);
        // Sub-block s of 16 columns: half i, quarter k of the half, and the first or second 16 of the
        // quarter.
        for (int s = 0; s < 16; s++) {
            const int i = s / 8, k = s / 2 % 4, first = s % 2 * 16;
            const uint8_t *ql = block->ql + 64 * i + 32 * (k & 1) + first, *qh = block->qh + 32 * i + first;
            const float scale = d * (float)block->sc[s];
            for (int l = 0; l < 16; l++)
                dst[16 * s + l] =
                    scale * (float)(((ql[l] >> (k >> 1) * 4 & 15) | (qh[l] >> 2 * k & 3) << 4) - 32);
        }
    }
}
