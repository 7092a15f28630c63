#define CK_LINEAR_NAME ck_linear_f32__avx512bw
#define CK_W float
#define CK_LOAD_W ck_v_load_f32
#include "float_weights.inc"
