#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_q5_k__scalar
#define CK_PACKED_BLOCK ck_r16_q5_k
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_MIN
#define CK_OFFSET 0

static void unpack_block(ck_columns* to, const ck_r16_q5_k* w, int64_t b) {
    for (int c = 0; c < 32; c++)
        for (int r = 0; r < CK_PANEL; r++)
            to->u[c][r] = (int16_t)ck_fifth(w->sub[b % 8].q, w->sub[b % 8].h, c, r);
    ck_half_floats(to->d, w->d);
    ck_half_floats(to->m, w->dmin);
    for (int r = 0; r < CK_PANEL; r++) {
        to->d[r] *= (float)w->sub[b % 8].sc[r];
        to->m[r] *= -(float)w->sub[b % 8].mn[r];
    }
}

#include "scalar.inc"
