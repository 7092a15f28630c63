#include "../iq4.h"
#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_iq4_xs__scalar
#define CK_PACKED_BLOCK ck_r16_iq4_xs
#define CK_BLOCK_COLUMNS 256
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 128

static void unpack_block(ck_columns* to, const ck_r16_iq4_xs* w, int64_t b) {
    const ck_r16_iq4_xs_sub* sub = &w->sub[b % 8];
    for (int c = 0; c < 32; c++)
        for (int r = 0; r < CK_PANEL; r++)
            to->u[c][r] = ck_iq4_bytes[ck_nibble(sub->q, c, r)];
    ck_half_floats(to->d, w->d);
    for (int r = 0; r < CK_PANEL; r++)
        to->d[r] *= (float)sub->sc[r];
}

#include "scalar.inc"
