#include "../k_scales.h"
#include "pack.h"

#define CK_PACK_NAME ck_pack_iq4_xs
#define CK_FILE_BLOCK ck_iq4_xs
#define CK_PACKED_BLOCK ck_r16_iq4_xs
#define CK_BLOCK_COLUMNS 256

static inline void pack_block(ck_r16_iq4_xs* dst, int row, const ck_iq4_xs* src) {
    dst->d[row] = src->d;
    for (int s = 0; s < 8; s++) {
        dst->sub[s].sc[row] = (int8_t)ck_iq4_xs_scale(src->low, src->high, s);
        ck_pack_nibbles(dst->sub[s].q, row, src->q + 16 * s);
    }
}

#include "pack.inc"
