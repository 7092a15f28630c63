#include "pack.h"

#define CK_PACK_NAME ck_pack_q4_0
#define CK_FILE_BLOCK ck_q4_0
#define CK_PACKED_BLOCK ck_r16_q4_0
#define CK_BLOCK_COLUMNS 32

static inline void pack_block(ck_r16_q4_0* dst, int row, const ck_q4_0* src) {
    dst->d[row] = src->d;
    ck_pack_nibbles(dst->q, row, src->q);
}

#include "pack.inc"
