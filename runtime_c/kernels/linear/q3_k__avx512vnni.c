#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_q3_k__avx512vnni
#define CK_PACKED_BLOCK ck_r16_q3_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES
#define CK_OFFSET 4

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_q3_k* w = (const ck_r16_q3_k*)panel + b / 8;
    const ck_r16_q3_k_sub* sub = &w->sub[b % 8];
    const __m512i h = ck_load512(sub->h);
    ck_block512 block = ck_pairs512(sub->q);
    block.u0 = ck_with_bits512(block.u0, _mm512_slli_epi16(h, 2), 4);
    block.u1 = ck_with_bits512(block.u1, _mm512_slli_epi16(h, 1), 4);
    block.u2 = ck_with_bits512(block.u2, h, 4);
    block.u3 = ck_with_bits512(block.u3, _mm512_srli_epi16(h, 1), 4);
    block.u4 = ck_with_bits512(block.u4, _mm512_srli_epi16(h, 2), 4);
    block.u5 = ck_with_bits512(block.u5, _mm512_srli_epi16(h, 3), 4);
    block.u6 = ck_with_bits512(block.u6, _mm512_srli_epi16(h, 4), 4);
    block.u7 = ck_with_bits512(block.u7, _mm512_srli_epi16(h, 5), 4);
    block.d = ck_half512(w->d);
    block.sc0 = ck_signed512(w->sc[2 * (b % 8)]);
    block.sc1 = ck_signed512(w->sc[2 * (b % 8) + 1]);
    return block;
}

#include "avx512vnni.inc"
