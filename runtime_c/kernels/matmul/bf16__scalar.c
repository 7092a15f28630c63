#define CK_MATMUL_NAME(form) ck_matmul_##form##_bf16__scalar
#define CK_ROUND ck_round_bf16
#include "scalar.inc"
