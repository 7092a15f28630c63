#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_iq4_nl__avx2
#define CK_PACKED_BLOCK ck_r16_iq4_nl
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 128

static inline __m256i load_group(const ck_r16_iq4_nl* w, int64_t b, int g, int h) {
    return ck_iq4_256(ck_nibbles256(w[b].q, g, h));
}

static inline __m256 load_d(const ck_r16_iq4_nl* w, int64_t b, int h) {
    return ck_half256(w[b].d + 8 * h);
}

#include "avx2.inc"
