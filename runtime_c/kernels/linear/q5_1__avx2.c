#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q5_1__avx2
#define CK_PACKED_BLOCK ck_r16_q5_1
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_MIN
#define CK_OFFSET 0

static inline __m256i load_group(const ck_r16_q5_1* w, int64_t b, int g, int h) {
    return ck_bits256(ck_nibbles256(w[b].q, g, h), w[b].h + 32 * h, g, 4, 1);
}

static inline __m256 load_d(const ck_r16_q5_1* w, int64_t b, int h) {
    return ck_half256(w[b].d + 8 * h);
}

static inline __m256 load_m(const ck_r16_q5_1* w, int64_t b, int h) {
    return ck_half256(w[b].m + 8 * h);
}

#include "avx2.inc"
