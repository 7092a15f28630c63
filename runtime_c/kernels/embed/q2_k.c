#include "embed.h"

#define CK_EMBED_NAME ck_embed_q2_k
#define CK_PACKED_BLOCK ck_r16_q2_k
#define CK_BLOCK_COLUMNS 256

static void unpack_row(float* y, const ck_r16_q2_k* w, int row) {
    const float d = ck_f16_float(w->d[row]), dmin = ck_f16_float(w->dmin[row]);
    for (int s = 0; s < 8; s++)
        for (int g = 0; g < 8; g++) {
            const int both = w->scales[2 * s + g / 4][row];
            const float scale = d * (float)(both & 15), low = dmin * (float)(both >> 4);
            for (int j = 0; j < 4; j++)
                y[32 * s + 4 * g + j] = scale * (float)ck_row_pair(w->q[s], g, row, j) - low;
        }
}

#include "embed.inc"
