#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_q5_0__avx512vnni
#define CK_PACKED_BLOCK ck_r16_q5_0
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 16

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_q5_0* w = (const ck_r16_q5_0*)panel + b;
    ck_block512 block = ck_fifths512(w->q, w->h);
    block.d = ck_half512(w->d);
    return block;
}

#include "avx512vnni.inc"
