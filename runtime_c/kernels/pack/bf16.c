#include "pack.h"

#define CK_PACK_NAME ck_pack_bf16
#define CK_ELEMENT_BYTES 2

#include "floats.inc"
