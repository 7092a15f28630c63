#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q5_k__avx2
#define CK_PACKED_BLOCK ck_r16_q5_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_MIN
#define CK_OFFSET 0

static inline __m256i load_group(const ck_r16_q5_k* w, int64_t b, int g, int h) {
    const ck_r16_q5_k_sub* sub = &w[b / 8].sub[b % 8];
    return ck_bits256(ck_nibbles256(sub->q, g, h), sub->h + 32 * h, g, 4, 1);
}

static inline __m256 scales(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void*)p)));
}

static inline __m256 load_d(const ck_r16_q5_k* w, int64_t b, int h) {
    return _mm256_mul_ps(ck_half256(w[b / 8].d + 8 * h), scales(w[b / 8].sub[b % 8].sc + 8 * h));
}

static inline __m256 load_m(const ck_r16_q5_k* w, int64_t b, int h) {
    const __m256 minus_dmin = _mm256_xor_ps(ck_half256(w[b / 8].dmin + 8 * h), _mm256_set1_ps(-0.0f));
    return _mm256_mul_ps(minus_dmin, scales(w[b / 8].sub[b % 8].mn + 8 * h));
}

#include "avx2.inc"
