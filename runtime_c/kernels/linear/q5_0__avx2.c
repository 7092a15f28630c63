#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q5_0__avx2
#define CK_PACKED_BLOCK ck_r16_q5_0
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 16
#define CK_U_MAX 31

static inline void widen_half(ck_wide* out, const uint8_t* panel, int64_t b, int h) {
    const ck_r16_q5_0* w = (const ck_r16_q5_0*)panel + b;
    const __m256i bits = ck_load256(w->h + 32 * h);
    ck_widen_nibbles256(out->u, w->q, 32 * h);
    // Bit g of a byte goes to bit 4 of group g.
    for (int g = 0; g < 4; g++) {
        ck_set_bits256(out->u[g] + 32 * h, _mm256_slli_epi16(bits, 4 - g), 16);
        ck_set_bits256(out->u[g + 4] + 32 * h, _mm256_srli_epi16(bits, g), 16);
    }
    _mm256_storeu_ps(out->d + 8 * h, ck_half256(w->d + 8 * h));
}

#include "avx2.inc"
