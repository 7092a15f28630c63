#include "pack.h"

#define CK_PACK_NAME ck_pack_q5_0
#define CK_FILE_BLOCK ck_q5_0
#define CK_PACKED_BLOCK ck_r16_q5_0
#define CK_BLOCK_COLUMNS 32

// Bits 0, 4, 8, .. 28 of h as the low 8 bits.
static inline uint32_t every_fourth_bit(uint32_t h) {
    h &= 0x11111111u;
    h = (h | h >> 3) & 0x03030303u;
    h = (h | h >> 6) & 0x000f000fu;
    return (h | h >> 12) & 0xffu;
}

static inline void pack_block(ck_r16_q5_0* dst, int row, const ck_q5_0* src) {
    const uint32_t h = ck_load_u32(src->h);
    uint32_t bits = 0;
    dst->d[row] = src->d;
    for (int v = 0; v < 4; v++)
        ck_store_lane(dst->q[v], row, ck_load_u32(src->q + 4 * v));
    // Byte j of the lane: bit g is the file's bit of column 4g + j.
    for (int j = 0; j < 4; j++)
        bits |= every_fourth_bit(h >> j) << 8 * j;
    ck_store_lane(dst->h, row, bits);
}

#include "pack.inc"
