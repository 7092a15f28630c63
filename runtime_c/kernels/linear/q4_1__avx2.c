#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q4_1__avx2
#define CK_PACKED_BLOCK ck_r16_q4_1
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_MIN
#define CK_OFFSET 0
#define CK_U_MAX 15

static inline void widen_half(ck_wide* out, const uint8_t* panel, int64_t b, int h) {
    const ck_r16_q4_1* w = (const ck_r16_q4_1*)panel + b;
    ck_widen_nibbles256(out->u, w->q, 32 * h);
    _mm256_storeu_ps(out->d + 8 * h, ck_half256(w->d + 8 * h));
    _mm256_storeu_ps(out->m + 8 * h, ck_half256(w->m + 8 * h));
}

#include "avx2.inc"
