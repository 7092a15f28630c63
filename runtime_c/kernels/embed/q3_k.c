#include "embed.h"

#define CK_EMBED_NAME ck_embed_q3_k
#define CK_PACKED_BLOCK ck_r16_q3_k
#define CK_BLOCK_COLUMNS 256

static void unpack_row(float* y, const ck_r16_q3_k* w, int row) {
    const float d = ck_f16_float(w->d[row]);
    for (int s = 0; s < 8; s++)
        for (int g = 0; g < 8; g++) {
            const float scale = d * (float)w->sc[2 * s + g / 4][row];
            for (int j = 0; j < 4; j++) {
                const int low = ck_row_pair(w->sub[s].q, g, row, j), high = w->sub[s].h[4 * row + j] >> g & 1;
                y[32 * s + 4 * g + j] = scale * (float)((low | high << 2) - 4);
            }
        }
}

#include "embed.inc"
