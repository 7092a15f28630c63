#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_iq4_xs__avx512vnni
#define CK_PACKED_BLOCK ck_r16_iq4_xs
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 128

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_iq4_xs* w = (const ck_r16_iq4_xs*)panel + b / 8;
    ck_block512 block = ck_iq4_512(ck_nibbles512(w->sub[b % 8].q));
    block.d = _mm512_mul_ps(ck_half512(w->d), _mm512_cvtepi32_ps(ck_signed512(w->sub[b % 8].sc)));
    return block;
}

#include "avx512vnni.inc"
