#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_q5_0__avx512vnni
#define CK_PACKED_BLOCK ck_r16_q5_0
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 16

// u with bit 4 set where `bits` has it; the other bits of `bits` may be anything.
static inline __m512i with_bit(__m512i u, __m512i bits) {
    // u | (bits & 16)
    return _mm512_ternarylogic_epi32(u, bits, _mm512_set1_epi8(16), 0xf8);
}

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_q5_0* w = (const ck_r16_q5_0*)panel + b;
    const __m512i h = ck_load512(w->h);
    ck_block512 block = ck_nibbles512(w->q);
    block.u0 = with_bit(block.u0, _mm512_slli_epi16(h, 4));
    block.u1 = with_bit(block.u1, _mm512_slli_epi16(h, 3));
    block.u2 = with_bit(block.u2, _mm512_slli_epi16(h, 2));
    block.u3 = with_bit(block.u3, _mm512_slli_epi16(h, 1));
    block.u4 = with_bit(block.u4, h);
    block.u5 = with_bit(block.u5, _mm512_srli_epi16(h, 1));
    block.u6 = with_bit(block.u6, _mm512_srli_epi16(h, 2));
    block.u7 = with_bit(block.u7, _mm512_srli_epi16(h, 3));
    block.d = ck_half512(w->d);
    return block;
}

#include "avx512vnni.inc"
