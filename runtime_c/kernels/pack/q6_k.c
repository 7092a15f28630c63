#include "pack.h"

#define CK_PACK_NAME ck_pack_q6_k
#define CK_FILE_BLOCK ck_q6_k
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256

// 32 columns: low bits in nibble `k >> 1` of ql [32], upper bits in bits 2k and 2k + 1 of qh [32].
static inline void pack_sub(ck_r16_q6_k_sub* dst, int row, int k, const uint8_t* ql, const uint8_t* qh) {
    const int shift = (k >> 1) * 4;
    for (int v = 0; v < 4; v++) {
        const uint32_t a = ck_load_u32(ql + 4 * v) >> shift, b = ck_load_u32(ql + 16 + 4 * v) >> shift;
        ck_store_lane(dst->q[v], row, (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4);
    }
    for (int h = 0; h < 2; h++) {
        uint32_t bits = 0;
        for (int g = 0; g < 4; g++)
            bits |= (ck_load_u32(qh + 16 * h + 4 * g) >> 2 * k & 0x03030303u) << 2 * g;
        ck_store_lane(dst->h[h], row, bits);
    }
}

static inline void pack_block(ck_r16_q6_k* dst, int row, const ck_q6_k* src) {
    dst->d[row] = src->d;
    for (int s = 0; s < 16; s++)
        dst->sc[s][row] = src->sc[s];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 4; k++)
            pack_sub(&dst->sub[4 * i + k], row, k, src->ql + 64 * i + 32 * (k & 1), src->qh + 32 * i);
}

#include "pack.inc"
