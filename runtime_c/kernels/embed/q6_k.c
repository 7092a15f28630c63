#include "embed.h"

#define CK_EMBED_NAME ck_embed_q6_k
#define CK_PACKED_BLOCK ck_r16_q6_k
#define CK_BLOCK_COLUMNS 256

static void unpack_row(float* y, const ck_r16_q6_k* w, int row) {
    const float d = ck_f16_float(w->d[row]);
    for (int s = 0; s < 8; s++) {
        for (int g = 0; g < 8; g++) {
            const float scale = d * (float)w->sc[2 * s + g / 4][row];
            int u[4];
            ck_row_nibbles(u, w->sub[s].q[0], g, row);
            for (int j = 0; j < 4; j++) {
                const int high = ck_row_pair(w->sub[s].h, g, row, j);
                y[32 * s + 4 * g + j] = scale * (float)((u[j] | high << 4) - 32);
            }
        }
    }
}

#include "embed.inc"
