#include "pack.h"

#define CK_PACK_NAME ck_pack_f32
#define CK_ELEMENT_BYTES 4

#include "floats.inc"
