#include <immintrin.h>

#include "quantize_scale.h"

#define CK_QUANTIZE_ISA avx512bw
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

// Sixteen columns: their planes (low NULL: the one), and their sum.
static inline int32_t round_half(int8_t* high, int8_t* low, __m512 x, __mmask16 lanes, __m512 inverse) {
    const __m512i q = _mm512_maskz_cvtps_epi32(lanes, _mm512_mul_ps(x, inverse));
    if (low == NULL)
        _mm_storeu_si128((void*)high, _mm512_cvtepi32_epi8(q));
    else {
        const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(64)), 7);
        _mm_storeu_si128((void*)high, _mm512_cvtepi32_epi8(upper));
        _mm_storeu_si128((void*)low, _mm512_cvtepi32_epi8(_mm512_sub_epi32(q, _mm512_slli_epi32(upper, 7))));
    }
    return _mm512_reduce_add_epi32(q);
}

static inline void quantize_block(ck_x_out y, const float* x) {
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    const ck_quantize_scale scale =
        ck_quantize_scale_of(reduce_max(_mm512_max_epu32(magnitude(a), magnitude(b))), ck_x_max(y));
    const __mmask16 lanes = scale.inverse > 0.0f ? 0xffff : 0;
    const __m512 inverse = _mm512_set1_ps(scale.inverse);
    y.sum[0] = round_half(y.high, y.low, a, lanes, inverse);
    y.sum[1] = round_half(y.high + 16, y.low != NULL ? y.low + 16 : NULL, b, lanes, inverse);
    *y.d = scale.d;
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

// One block's 32 words. packs works within 128-bit quarters: quarter i holds columns 4i..4i+3 of each half.
static inline __m512i round_block(const float* x, float inverse) {
    const __m512 factor = _mm512_set1_ps(inverse);
    return _mm512_packs_epi32(round_sixteen(x, factor), round_sixteen(x + 16, factor));
}

// The bytes of two blocks of words, put in order.
static inline void store_bytes(int8_t* p, __m512i first, __m512i second) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, _mm512_packs_epi16(first, second)));
}

// Two blocks' planes. Returns, in each quarter, a part of the sums of their four half-blocks.
static inline __m512i round_two(int8_t* high, int8_t* low, const float* x, const float* inverse) {
    const __m512i first = round_block(x, inverse[0]), second = round_block(x + 32, inverse[1]);
    const __m512i half = _mm512_set1_epi16(64), ones = _mm512_set1_epi16(1);
    if (low == NULL)
        store_bytes(high, first, second);
    else {
        const __m512i upper_first = _mm512_srai_epi16(_mm512_add_epi16(first, half), 7);
        const __m512i upper_second = _mm512_srai_epi16(_mm512_add_epi16(second, half), 7);
        store_bytes(high, upper_first, upper_second);
        store_bytes(low, _mm512_sub_epi16(first, _mm512_slli_epi16(upper_first, 7)),
                    _mm512_sub_epi16(second, _mm512_slli_epi16(upper_second, 7)));
    }
    const __m512 a = _mm512_castsi512_ps(_mm512_madd_epi16(first, ones));
    const __m512 b = _mm512_castsi512_ps(_mm512_madd_epi16(second, ones));
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xdd)));
}

static inline __m256i add_halves(__m512i v) {
    return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
}

static inline void quantize_four(ck_x_out y, const float* x) {
    const __m128i largest = reduce_max_four(block_magnitude(x), block_magnitude(x + 32),
                                            block_magnitude(x + 64), block_magnitude(x + 96));
    const __m128 scale = _mm_div_ps(_mm_castsi128_ps(largest), _mm_set1_ps(ck_x_max(y)));
    const __mmask8 finite = _mm_cmplt_epu32_mask(largest, _mm_set1_epi32(0x7f800000));
    // Zeros, NaN and infinities are for the careful path.
    if (_mm_mask_cmp_ps_mask(finite, scale, _mm_set1_ps(0x1p-126f), _CMP_GE_OQ) != 15) {
        for (int b = 0; b < 4; b++)
            quantize_block(ck_x_block(y, b), x + 32 * b);
        return;
    }
    float inverse[4];
    _mm_storeu_ps(y.d, scale);
    _mm_storeu_ps(inverse, _mm_div_ps(_mm_set1_ps(1.0f), scale));
    const __m256i first = add_halves(round_two(y.high, y.low, x, inverse));
    int8_t* low = y.low != NULL ? y.low + 64 : NULL;
    const __m256i last = add_halves(round_two(y.high + 64, low, x + 64, inverse + 2));
    _mm256_storeu_si256((void*)y.sum, _mm256_add_epi32(_mm256_permute2x128_si256(first, last, 0x20),
                                                       _mm256_permute2x128_si256(first, last, 0x31)));
}

#include "rows.inc"
