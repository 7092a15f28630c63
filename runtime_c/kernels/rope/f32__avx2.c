#define CK_ROPE ck_rope_f32__avx2
#include "rope.inc"
