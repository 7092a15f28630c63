// The widest f32 vector of the file's instruction set: ck_vf, of CK_VW lanes. Templates written on it do the
// same operations lane by lane at every width; only ck_v_fma differs (one rounding with AVX2 and up, two
// without).
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "half.h"

#if defined(__AVX512F__)
#define CK_VW 16
#elif defined(__AVX2__)
#define CK_VW 8
#else
#define CK_VW 4
#endif

typedef float ck_vf __attribute__((vector_size(4 * CK_VW)));
typedef int32_t ck_vi __attribute__((vector_size(4 * CK_VW)));
typedef uint32_t ck_vu __attribute__((vector_size(4 * CK_VW)));
typedef float ck_vf4 __attribute__((vector_size(16)));

static inline ck_vf ck_v_load_f32(const float* p) {
    ck_vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void ck_v_store_f32(float* p, ck_vf v) {
    memcpy(p, &v, sizeof v);
}

static inline ck_vf ck_v_set(float x) {
    return x - (ck_vf){0};
}

// Lane i of the result is mask[i] ? a[i] : b[i]; a mask's lanes are 0 or -1.
static inline ck_vf ck_v_select(ck_vi mask, ck_vf a, ck_vf b) {
    return (ck_vf)((mask & (ck_vi)a) | (~mask & (ck_vi)b));
}

// Lane by lane a > b ? a : b.
static inline ck_vf ck_v_max(ck_vf a, ck_vf b) {
#if CK_VW == 16
    return _mm512_max_ps(a, b);
#elif CK_VW == 8
    return _mm256_max_ps(a, b);
#else
    return _mm_max_ps(a, b);
#endif
}

// Lane by lane x < limit ? 0 : y.
static inline ck_vf ck_v_zero_below(ck_vf x, float limit, ck_vf y) {
#if CK_VW == 16
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_NLT_UQ), y);
#else
    return (ck_vf)(~(x < limit) & (ck_vi)y);
#endif
}

static inline ck_vf ck_v_fma(ck_vf a, ck_vf b, ck_vf c) {
#if CK_VW == 16
    return _mm512_fmadd_ps(a, b, c);
#elif CK_VW == 8
    return _mm256_fmadd_ps(a, b, c);
#else
    return a * b + c;
#endif
}

static inline ck_vf ck_v_load_f16(const uint16_t* p) {
#if CK_VW == 16
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif CK_VW == 8
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
    return (ck_vf){ck_f16_float(p[0]), ck_f16_float(p[1]), ck_f16_float(p[2]), ck_f16_float(p[3])};
#endif
}

static inline ck_vf ck_v_load_bf16(const uint16_t* p) {
    uint16_t half __attribute__((vector_size(2 * CK_VW)));
    memcpy(&half, p, sizeof half);
    return (ck_vf)(__builtin_convertvector(half, ck_vu) << 16);
}

static inline void ck_v_store_f16(uint16_t* p, ck_vf v) {
#if CK_VW == 16
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif CK_VW == 8
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < CK_VW; i++)
        p[i] = ck_float_f16(v[i]);
#endif
}

// ck_exp (ck_math.h) for x <= 0 or NaN: the same bits.
static inline ck_vf ck_v_exp_nonpositive(ck_vf x) {
    const ck_vf shifted = x * 1.44269504f + 12582912.0f;
    const ck_vf n = shifted - 12582912.0f;
    const ck_vf r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    ck_vf p = ck_v_set(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const ck_vf y = (p * (r * r) + r) + 1.0f;
    const ck_vf power = (ck_vf)(((ck_vu)shifted - (0x4b400000u - 127)) << 23);
    return ck_v_zero_below(x, -87.33654f, y * power);
}

// The 16 lanes of 16 / CK_VW vectors joined as a tree: (i, i + 8), then (i, i + 4), (i, i + 2), (0, 1).
static inline float ck_v_sum16(const ck_vf* v) {
    ck_vf4 part[4];
    memcpy(part, v, sizeof part);
    const ck_vf4 four = (part[0] + part[2]) + (part[1] + part[3]);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

// Their maximum; for no NaN.
static inline float ck_v_max16(const ck_vf* v) {
    ck_vf4 part[4];
    memcpy(part, v, sizeof part);
    const ck_vf4 four = _mm_max_ps(_mm_max_ps(part[0], part[1]), _mm_max_ps(part[2], part[3]));
    const ck_vf4 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return two[0] > two[1] ? two[0] : two[1];
}
