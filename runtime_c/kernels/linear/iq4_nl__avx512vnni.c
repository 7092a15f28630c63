#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_iq4_nl__avx512vnni
#define CK_PACKED_BLOCK ck_r16_iq4_nl
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 128

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_iq4_nl* w = (const ck_r16_iq4_nl*)panel + b;
    ck_block512 block = ck_iq4_512(ck_nibbles512(w->q));
    block.d = ck_half512(w->d);
    return block;
}

#include "avx512vnni.inc"
