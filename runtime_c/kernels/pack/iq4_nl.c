#include "pack.h"

#define CK_PACK_NAME ck_pack_iq4_nl
#define CK_FILE_BLOCK ck_iq4_nl
#define CK_PACKED_BLOCK ck_r16_iq4_nl
#define CK_BLOCK_COLUMNS 32

static inline void pack_block(ck_r16_iq4_nl* dst, int row, const ck_iq4_nl* src) {
    dst->d[row] = src->d;
    ck_pack_nibbles(dst->q, row, src->q);
}

#include "pack.inc"
