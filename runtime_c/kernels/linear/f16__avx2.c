#define CK_LINEAR_NAME ck_linear_f16__avx2
#define CK_W uint16_t
#define CK_LOAD_W ck_v_load_f16
#include "float_weights.inc"
