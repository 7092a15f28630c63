#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q6_k__avx2
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES
#define CK_OFFSET 0
#define CK_U_MAX 63

static inline __m256 scales(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void*)p)));
}

static inline void widen_half(ck_wide* out, const uint8_t* panel, int64_t b, int h) {
    const ck_r16_q6_k* w = (const ck_r16_q6_k*)panel + b / 8;
    const ck_r16_q6_k_sub* sub = &w->sub[b % 8];
    ck_widen_nibbles256(out->u, sub->q, 32 * h);
    // Bits 2g and 2g + 1 of a byte go to bits 4 and 5 of group g of the four that the vector serves.
    for (int v = 0; v < 2; v++) {
        const __m256i bits = ck_load256(sub->h[v] + 32 * h);
        ck_set_bits256(out->u[4 * v] + 32 * h, _mm256_slli_epi16(bits, 4), 48);
        ck_set_bits256(out->u[4 * v + 1] + 32 * h, _mm256_slli_epi16(bits, 2), 48);
        ck_set_bits256(out->u[4 * v + 2] + 32 * h, bits, 48);
        ck_set_bits256(out->u[4 * v + 3] + 32 * h, _mm256_srli_epi16(bits, 2), 48);
    }
    _mm256_storeu_ps(out->d + 8 * h, ck_half256(w->d + 8 * h));
    _mm256_storeu_ps(out->m + 8 * h, scales(w->sc[2 * (b % 8)] + 8 * h));
    _mm256_storeu_ps(out->s + 8 * h, scales(w->sc[2 * (b % 8) + 1] + 8 * h));
}

#include "avx2.inc"
