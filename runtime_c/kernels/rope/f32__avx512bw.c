#define CK_ROPE ck_rope_f32__avx512bw
#include "rope.inc"
