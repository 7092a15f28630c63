#define CK_ROPE ck_rope_f32__scalar
#include "rope.inc"
