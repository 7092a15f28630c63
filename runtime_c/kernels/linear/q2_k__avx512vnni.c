#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_q2_k__avx512vnni
#define CK_PACKED_BLOCK ck_r16_q2_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES_MIN
#define CK_OFFSET 0

static inline __m512i low_nibbles(__m512i both) {
    return _mm512_and_si512(both, _mm512_set1_epi32(15));
}

static inline __m512 high_nibbles(__m512i both) {
    return _mm512_cvtepi32_ps(_mm512_srli_epi32(both, 4));
}

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_q2_k* w = (const ck_r16_q2_k*)panel + b / 8;
    const uint8_t(*scales)[CK_PANEL] = w->scales + 2 * (b % 8);
    const __m512i both0 = ck_unsigned512(scales[0]), both1 = ck_unsigned512(scales[1]);
    const __m512 minus_dmin = _mm512_xor_ps(ck_half512(w->dmin), _mm512_set1_ps(-0.0f));
    ck_block512 block = ck_pairs512(w->q[b % 8]);
    block.d = ck_half512(w->d);
    block.sc0 = low_nibbles(both0);
    block.sc1 = low_nibbles(both1);
    block.m = _mm512_mul_ps(minus_dmin, high_nibbles(both0));
    block.m1 = _mm512_mul_ps(minus_dmin, high_nibbles(both1));
    return block;
}

#include "avx512vnni.inc"
