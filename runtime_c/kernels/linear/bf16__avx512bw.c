#define CK_LINEAR_NAME ck_linear_bf16__avx512bw
#define CK_W uint16_t
#define CK_LOAD_W ck_v_load_bf16
#include "float_weights.inc"
