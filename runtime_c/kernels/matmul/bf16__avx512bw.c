#define CK_MATMUL_NAME(form) ck_matmul_##form##_bf16__avx512bw
#define CK_ROUND ck_round_bf16
#define CK_V_ROUND ck_v_round_bf16
#include "matmul.inc"
