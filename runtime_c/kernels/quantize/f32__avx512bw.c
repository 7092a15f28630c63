#include <immintrin.h>

#include "quantize_scale.h"

#define CK_QUANTIZE_NAME ck_quantize_rows__avx512bw

static inline __m512i rounded(__m512 x, ck_quantize_scale scale) {
    const __m512 product = _mm512_mul_ps(x, _mm512_set1_ps(scale.inverse));
    return _mm512_maskz_cvtps_epi32(scale.inverse > 0.0f ? 0xffff : 0, product);
}

static inline void quantize_block(int8_t* q, float* d, int16_t* sum, const float* x) {
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i largest = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                                             _mm512_and_si512(_mm512_castps_si512(b), magnitude));
    const ck_quantize_scale scale = ck_quantize_scale_of(_mm512_reduce_max_epu32(largest));
    const __m512i qa = rounded(a, scale), qb = rounded(b, scale);
    _mm_storeu_si128((void*)q, _mm512_cvtepi32_epi8(qa));
    _mm_storeu_si128((void*)(q + 16), _mm512_cvtepi32_epi8(qb));
    sum[0] = (int16_t)_mm512_reduce_add_epi32(qa);
    sum[1] = (int16_t)_mm512_reduce_add_epi32(qb);
    *d = scale.d;
}

#include "rows.inc"
