#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q2_k__avx2
#define CK_PACKED_BLOCK ck_r16_q2_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES_MIN
#define CK_OFFSET 0

static inline __m256i load_group(const ck_r16_q2_k* w, int64_t b, int g, int h) {
    return ck_pairs256(w[b / 8].q[b % 8], g, h);
}

// Scale and minimum of columns 16 i .. 16 i + 15.
static inline __m256i load_both(const ck_r16_q2_k* w, int64_t b, int i, int h) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void*)(w[b / 8].scales[2 * (b % 8) + i] + 8 * h)));
}

static inline __m256i load_sc(const ck_r16_q2_k* w, int64_t b, int i, int h) {
    return _mm256_and_si256(load_both(w, b, i, h), _mm256_set1_epi32(15));
}

static inline __m256 load_d(const ck_r16_q2_k* w, int64_t b, int h) {
    return ck_half256(w[b / 8].d + 8 * h);
}

static inline __m256 minimum(const ck_r16_q2_k* w, int64_t b, int i, int h) {
    const __m256 minus_dmin = _mm256_xor_ps(ck_half256(w[b / 8].dmin + 8 * h), _mm256_set1_ps(-0.0f));
    return _mm256_mul_ps(minus_dmin, _mm256_cvtepi32_ps(_mm256_srli_epi32(load_both(w, b, i, h), 4)));
}

static inline __m256 load_m(const ck_r16_q2_k* w, int64_t b, int h) {
    return minimum(w, b, 0, h);
}

static inline __m256 load_m1(const ck_r16_q2_k* w, int64_t b, int h) {
    return minimum(w, b, 1, h);
}

#include "avx2.inc"
