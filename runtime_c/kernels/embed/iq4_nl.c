#include "../iq4.h"
#include "embed.h"

#define CK_EMBED_NAME ck_embed_iq4_nl
#define CK_PACKED_BLOCK ck_r16_iq4_nl
#define CK_BLOCK_COLUMNS 32

static void unpack_row(float* y, const ck_r16_iq4_nl* w, int row) {
    const float d = ck_f16_float(w->d[row]);
    for (int g = 0; g < 8; g++) {
        int u[4];
        ck_row_nibbles(u, w->q[0], g, row);
        for (int j = 0; j < 4; j++)
            y[4 * g + j] = d * (float)ck_iq4_value(u[j]);
    }
}

#include "embed.inc"
