#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_q6_k__avx512vnni
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES
#define CK_OFFSET 32

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_q6_k* w = (const ck_r16_q6_k*)panel + b / 8;
    const ck_r16_q6_k_sub* sub = &w->sub[b % 8];
    const __m512i h0 = ck_load512(sub->h[0]), h1 = ck_load512(sub->h[1]);
    ck_block512 block = ck_nibbles512(sub->q);
    block.u0 = ck_with_bits512(block.u0, _mm512_slli_epi16(h0, 4), 48);
    block.u1 = ck_with_bits512(block.u1, _mm512_slli_epi16(h0, 2), 48);
    block.u2 = ck_with_bits512(block.u2, h0, 48);
    block.u3 = ck_with_bits512(block.u3, _mm512_srli_epi16(h0, 2), 48);
    block.u4 = ck_with_bits512(block.u4, _mm512_slli_epi16(h1, 4), 48);
    block.u5 = ck_with_bits512(block.u5, _mm512_slli_epi16(h1, 2), 48);
    block.u6 = ck_with_bits512(block.u6, h1, 48);
    block.u7 = ck_with_bits512(block.u7, _mm512_srli_epi16(h1, 2), 48);
    block.d = ck_half512(w->d);
    block.sc0 = ck_signed512(w->sc[2 * (b % 8)]);
    block.sc1 = ck_signed512(w->sc[2 * (b % 8) + 1]);
    return block;
}

#include "avx512vnni.inc"
