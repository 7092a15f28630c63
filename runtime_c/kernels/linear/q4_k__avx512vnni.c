#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_q4_k__avx512vnni
#define CK_PACKED_BLOCK ck_r16_q4_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_MIN
#define CK_OFFSET 0

static inline __m512 scales(const uint8_t* p) {
    return _mm512_cvtepi32_ps(ck_unsigned512(p));
}

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_q4_k* w = (const ck_r16_q4_k*)panel + b / 8;
    const ck_r16_q4_k_sub* sub = &w->sub[b % 8];
    ck_block512 block = ck_nibbles512(sub->q);
    const __m512 minus_dmin = _mm512_xor_ps(ck_half512(w->dmin), _mm512_set1_ps(-0.0f));
    block.d = _mm512_mul_ps(ck_half512(w->d), scales(sub->sc));
    block.m = _mm512_mul_ps(minus_dmin, scales(sub->mn));
    return block;
}

#include "avx512vnni.inc"
