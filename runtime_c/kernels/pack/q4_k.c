#include "pack.h"

#define CK_PACK_NAME ck_pack_q4_k
#define CK_FILE_BLOCK ck_q4_k
#define CK_PACKED_BLOCK ck_r16_q4_k
#define CK_BLOCK_COLUMNS 256

static inline void pack_scales(ck_r16_q4_k* dst, int row, const uint8_t* scales) {
    for (int s = 0; s < 4; s++) {
        dst->sub[s].sc[row] = scales[s] & 63;
        dst->sub[s].mn[row] = scales[s + 4] & 63;
        dst->sub[s + 4].sc[row] = (uint8_t)((scales[s + 8] & 15) | scales[s] >> 6 << 4);
        dst->sub[s + 4].mn[row] = (uint8_t)(scales[s + 8] >> 4 | scales[s + 4] >> 6 << 4);
    }
}

static inline void pack_block(ck_r16_q4_k* dst, int row, const ck_q4_k* src) {
    dst->d[row] = src->d;
    dst->dmin[row] = src->dmin;
    pack_scales(dst, row, src->scales);
    // The file pairs a column of sub-block 2i with one of 2i + 1; r16, groups v and v + 4 of one sub-block.
    for (int i = 0; i < 4; i++)
        for (int v = 0; v < 4; v++) {
            const uint8_t* q = src->q + 32 * i + 4 * v;
            const uint32_t a = ck_load_u32(q), b = ck_load_u32(q + 16);
            ck_store_lane(dst->sub[2 * i].q[v], row, (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4);
            ck_store_lane(dst->sub[2 * i + 1].q[v], row, (a >> 4 & 0x0f0f0f0fu) | (b & 0xf0f0f0f0u));
        }
}

#include "pack.inc"
