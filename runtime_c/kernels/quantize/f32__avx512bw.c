#include <immintrin.h>

#include "quantize_scale.h"

#define CK_QUANTIZE_NAME ck_quantize_rows__avx512bw
#define CK_QUANTIZE_FOUR

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

// The largest lane of each of four vectors.
static inline __m128i reduce_max_four(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i ab = _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_max_epu32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i all = _mm512_max_epu32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half = _mm256_max_epu32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_max_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

static inline __m512i block_magnitude(const float* x) {
    return _mm512_max_epu32(magnitude(_mm512_loadu_ps(x)), magnitude(_mm512_loadu_ps(x + 16)));
}

static inline __m512i round_sixteen(const float* x, __m512 inverse) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), inverse));
}

// Two blocks' int8, and the sums of their eight groups of eight, each with 8 * 128 added, as 64-bit lanes.
static inline __m512i round_two(int8_t* q, const float* x, const float* inverse) {
    const __m512 a = _mm512_set1_ps(inverse[0]), b = _mm512_set1_ps(inverse[1]);
    const __m512i first = _mm512_packs_epi32(round_sixteen(x, a), round_sixteen(x + 16, a));
    const __m512i second = _mm512_packs_epi32(round_sixteen(x + 32, b), round_sixteen(x + 48, b));
    // packs works within 128-bit quarters: quarter i holds columns 4i..4i+3 of each of four sixteens.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(first, second));
    _mm512_storeu_si512(q, bytes);
    return _mm512_sad_epu8(_mm512_xor_si512(bytes, _mm512_set1_epi8(-128)), _mm512_setzero_si512());
}

static inline void quantize_four(int8_t* q, float* d, int16_t* sum, const float* x) {
    const __m128i largest = reduce_max_four(block_magnitude(x), block_magnitude(x + 32),
                                            block_magnitude(x + 64), block_magnitude(x + 96));
    const __m128 scale = _mm_div_ps(_mm_castsi128_ps(largest), _mm_set1_ps(127.0f));
    const __mmask8 finite = _mm_cmplt_epu32_mask(largest, _mm_set1_epi32(0x7f800000));
    // Zeros, NaN and infinities are for the careful path.
    if (_mm_mask_cmp_ps_mask(finite, scale, _mm_set1_ps(0x1p-126f), _CMP_GE_OQ) != 15) {
        for (int b = 0; b < 4; b++)
            quantize_block(q + 32 * b, d + b, sum + 2 * b, x + 32 * b);
        return;
    }
    float inverse[4];
    _mm_storeu_ps(d, scale);
    _mm_storeu_ps(inverse, _mm_div_ps(_mm_set1_ps(1.0f), scale));
    const __m512i low = round_two(q, x, inverse), high = round_two(q + 64, x + 64, inverse + 2);
    // Quarter i: sums of half-block i of the first two blocks in lane 0, and of the last two in lane 1.
    __m512i sums = _mm512_or_si512(low, _mm512_slli_epi64(high, 32));
    sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, 0x4e));
    sums = _mm512_sub_epi32(sums, _mm512_set1_epi32(16 * 128));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i in_order = _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, sums));
    _mm_storeu_si128((void*)sum, _mm256_cvtepi32_epi16(in_order));
}

#include "rows.inc"
