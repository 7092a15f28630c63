#include "embed.h"

#define CK_EMBED_NAME ck_embed_f16
#define CK_PACKED_BLOCK ck_column
#define CK_BLOCK_COLUMNS 1

typedef struct {
    uint16_t x[CK_PANEL];
} ck_column;

static void unpack_row(float* y, const ck_column* w, int row) {
    *y = ck_f16_float(w->x[row]);
}

#include "embed.inc"
