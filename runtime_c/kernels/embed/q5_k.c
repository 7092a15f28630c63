#include "embed.h"

#define CK_EMBED_NAME ck_embed_q5_k
#define CK_PACKED_BLOCK ck_r16_q5_k
#define CK_BLOCK_COLUMNS 256

static void unpack_row(float* y, const ck_r16_q5_k* w, int row) {
    const float d = ck_f16_float(w->d[row]), dmin = ck_f16_float(w->dmin[row]);
    for (int s = 0; s < 8; s++) {
        const float scale = d * (float)w->sub[s].sc[row], low = dmin * (float)w->sub[s].mn[row];
        for (int g = 0; g < 8; g++) {
            int u[4];
            ck_row_nibbles(u, w->sub[s].q[0], g, row);
            for (int j = 0; j < 4; j++) {
                const int high = w->sub[s].h[4 * row + j] >> g & 1;
                y[32 * s + 4 * g + j] = scale * (float)(u[j] | high << 4) - low;
            }
        }
    }
}

#include "embed.inc"
