#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_q6_k__avx512vnni
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES
#define CK_OFFSET 32

// u with bits 4 and 5 set where `bits` has them; the other bits of `bits` may be anything.
static inline __m512i with_bits(__m512i u, __m512i bits) {
    // u | (bits & 48)
    return _mm512_ternarylogic_epi32(u, bits, _mm512_set1_epi8(48), 0xf8);
}

static inline __m512i scales(const int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void*)p));
}

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_q6_k* w = (const ck_r16_q6_k*)panel + b / 8;
    const ck_r16_q6_k_sub* sub = &w->sub[b % 8];
    const __m512i h0 = ck_load512(sub->h[0]), h1 = ck_load512(sub->h[1]);
    ck_block512 block = ck_nibbles512(sub->q);
    block.u0 = with_bits(block.u0, _mm512_slli_epi16(h0, 4));
    block.u1 = with_bits(block.u1, _mm512_slli_epi16(h0, 2));
    block.u2 = with_bits(block.u2, h0);
    block.u3 = with_bits(block.u3, _mm512_srli_epi16(h0, 2));
    block.u4 = with_bits(block.u4, _mm512_slli_epi16(h1, 4));
    block.u5 = with_bits(block.u5, _mm512_slli_epi16(h1, 2));
    block.u6 = with_bits(block.u6, h1);
    block.u7 = with_bits(block.u7, _mm512_srli_epi16(h1, 2));
    block.d = ck_half512(w->d);
    block.sc0 = scales(w->sc[2 * (b % 8)]);
    block.sc1 = scales(w->sc[2 * (b % 8) + 1]);
    return block;
}

#include "avx512vnni.inc"
