#include "avx2.h"

#define CK_LINEAR_NAME ck_linear_q8_0__avx2
#define CK_PACKED_BLOCK ck_r16_q8_0
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 128
#define CK_U_MAX 255

static inline void widen_half(ck_wide* out, const uint8_t* panel, int64_t b, int h) {
    const ck_r16_q8_0* w = (const ck_r16_q8_0*)panel + b;
    for (int g = 0; g < 8; g++)
        ck_store256(out->u[g] + 32 * h, ck_load256(w->q[g] + 32 * h));
    _mm256_storeu_ps(out->d + 8 * h, ck_half256(w->d + 8 * h));
}

#include "avx2.inc"
