#include "../iq4.h"
#include "scalar.h"

#define CK_LINEAR_NAME ck_linear_iq4_nl__scalar
#define CK_PACKED_BLOCK ck_r16_iq4_nl
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 128

static void unpack_block(ck_columns* to, const ck_r16_iq4_nl* w, int64_t b) {
    (void)b;
    for (int c = 0; c < 32; c++)
        for (int r = 0; r < CK_PANEL; r++)
            to->u[c][r] = ck_iq4_bytes[ck_nibble(w->q, c, r)];
    ck_half_floats(to->d, w->d);
}

#include "scalar.inc"
