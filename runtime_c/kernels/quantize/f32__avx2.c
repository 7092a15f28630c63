#include <immintrin.h>

#include "quantize_scale.h"

#define CK_QUANTIZE_ISA avx2

static inline __m256i magnitude(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}

static inline uint32_t reduce_max(__m256i v) {
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static inline __m128i pack_bytes(__m256i words) {
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

// Sixteen columns: their planes (low NULL: the one), and their sum.
static inline int32_t round_half(int8_t* high, int8_t* low, __m256 a, __m256 b, float inverse) {
    const __m256 factor = _mm256_set1_ps(inverse);
    const __m256i qa = _mm256_cvtps_epi32(_mm256_mul_ps(a, factor));
    const __m256i qb = _mm256_cvtps_epi32(_mm256_mul_ps(b, factor));
    // packs works within 128-bit halves: the permutation puts the four quarters back in order.
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(qa, qb), 0xd8);
    if (low == NULL)
        _mm_storeu_si128((void*)high, pack_bytes(words));
    else {
        const __m256i upper = _mm256_srai_epi16(_mm256_add_epi16(words, _mm256_set1_epi16(64)), 7);
        _mm_storeu_si128((void*)high, pack_bytes(upper));
        _mm_storeu_si128((void*)low, pack_bytes(_mm256_sub_epi16(words, _mm256_slli_epi16(upper, 7))));
    }
    const __m256i pairs = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
}

static inline void quantize_block(ck_x_out y, const float* x) {
    __m256 v[4] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16),
                   _mm256_loadu_ps(x + 24)};
    const __m256i largest = _mm256_max_epu32(_mm256_max_epu32(magnitude(v[0]), magnitude(v[1])),
                                             _mm256_max_epu32(magnitude(v[2]), magnitude(v[3])));
    const ck_quantize_scale scale = ck_quantize_scale_of(reduce_max(largest), ck_x_max(y));
    // Times 0 would leave NaN and infinity NaN.
    if (!(scale.inverse > 0.0f))
        v[0] = v[1] = v[2] = v[3] = _mm256_setzero_ps();
    y.sum[0] = round_half(y.high, y.low, v[0], v[1], scale.inverse);
    y.sum[1] = round_half(y.high + 16, y.low != NULL ? y.low + 16 : NULL, v[2], v[3], scale.inverse);
    *y.d = scale.d;
}

#include "rows.inc"
