#include "embed.h"

#define CK_EMBED_NAME ck_embed_q8_0
#define CK_PACKED_BLOCK ck_r16_q8_0
#define CK_BLOCK_COLUMNS 32

static void unpack_row(float* y, const ck_r16_q8_0* w, int row) {
    const float d = ck_f16_float(w->d[row]);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)(w->q[i / 4][4 * row + i % 4] - 128);
}

#include "embed.inc"
