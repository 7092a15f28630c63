#include "embed.h"

#define CK_EMBED_NAME ck_embed_f32
#define CK_PACKED_BLOCK ck_column
#define CK_BLOCK_COLUMNS 1

typedef struct {
    float x[CK_PANEL];
} ck_column;

static void unpack_row(float* y, const ck_column* w, int row) {
    *y = w->x[row];
}

#include "embed.inc"
