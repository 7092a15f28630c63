#include <immintrin.h>

#include "quantize_scale.h"

#define CK_QUANTIZE_NAME ck_quantize_rows__avx512bw

static inline __m512i magnitude(__m512 x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

static inline uint32_t reduce_max(__m512i v) {
    const __m256i half = _mm256_max_epu32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

// Sixteen columns: their int8, and their sum.
static inline int16_t round_half(int8_t* q, __m512 x, __mmask16 lanes, __m512 inverse) {
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_maskz_cvtps_epi32(lanes, _mm512_mul_ps(x, inverse)));
    _mm_storeu_si128((void*)q, bytes);
    // sad adds unsigned bytes, eight at a time: q + 128, of which there are sixteen.
    const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return (int16_t)(_mm_cvtsi128_si32(sums) + _mm_extract_epi32(sums, 2) - 16 * 128);
}

static inline void quantize_block(int8_t* q, float* d, int16_t* sum, const float* x) {
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    const ck_quantize_scale scale =
        ck_quantize_scale_of(reduce_max(_mm512_max_epu32(magnitude(a), magnitude(b))));
    const __mmask16 lanes = scale.inverse > 0.0f ? 0xffff : 0;
    const __m512 inverse = _mm512_set1_ps(scale.inverse);
    sum[0] = round_half(q, a, lanes, inverse);
    sum[1] = round_half(q + 16, b, lanes, inverse);
    *d = scale.d;
}

#include "rows.inc"
