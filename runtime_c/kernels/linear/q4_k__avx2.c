#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q4_k__avx2
#define CK_PACKED_BLOCK ck_r16_q4_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_MIN
#define CK_OFFSET 0
#define CK_U_MAX 15

static inline __m256 scales(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void*)p)));
}

static inline void widen_half(ck_wide* out, const uint8_t* panel, int64_t b, int h) {
    const ck_r16_q4_k* w = (const ck_r16_q4_k*)panel + b / 8;
    const ck_r16_q4_k_sub* sub = &w->sub[b % 8];
    const __m256 minus_dmin = _mm256_xor_ps(ck_half256(w->dmin + 8 * h), _mm256_set1_ps(-0.0f));
    ck_widen_nibbles256(out->u, sub->q, 32 * h);
    _mm256_storeu_ps(out->d + 8 * h, _mm256_mul_ps(ck_half256(w->d + 8 * h), scales(sub->sc + 8 * h)));
    _mm256_storeu_ps(out->m + 8 * h, _mm256_mul_ps(minus_dmin, scales(sub->mn + 8 * h)));
}

#include "avx2.inc"
