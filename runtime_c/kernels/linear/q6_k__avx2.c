#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q6_k__avx2
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_HALVES
#define CK_OFFSET 32

static inline __m256i load_group(const ck_r16_q6_k* w, int64_t b, int g, int h) {
    const ck_r16_q6_k_sub* sub = &w[b / 8].sub[b % 8];
    return ck_bits256(ck_nibbles256(sub->q, g, h), sub->h[g / 4] + 32 * h, 2 * (g % 4), 4, 2);
}

// The scales of columns 16 i .. 16 i + 15.
static inline __m256i load_sc(const ck_r16_q6_k* w, int64_t b, int i, int h) {
    return ck_signed256(w[b / 8].sc[2 * (b % 8) + i] + 8 * h);
}

static inline __m256 load_d(const ck_r16_q6_k* w, int64_t b, int h) {
    return ck_half256(w[b / 8].d + 8 * h);
}

#include "avx2.inc"
