#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_iq4_xs__avx2
#define CK_PACKED_BLOCK ck_r16_iq4_xs
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 128

static inline __m256i load_group(const ck_r16_iq4_xs* w, int64_t b, int g, int h) {
    return ck_iq4_256(ck_nibbles256(w[b / 8].sub[b % 8].q, g, h));
}

static inline __m256 load_d(const ck_r16_iq4_xs* w, int64_t b, int h) {
    const __m256i sc = ck_signed256(w[b / 8].sub[b % 8].sc + 8 * h);
    return _mm256_mul_ps(ck_half256(w[b / 8].d + 8 * h), _mm256_cvtepi32_ps(sc));
}

#include "avx2.inc"
