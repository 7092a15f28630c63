#define CK_MATMUL_NAME(form) ck_matmul_##form##_f32__scalar
#define CK_ROUND(x) (x)
#include "scalar.inc"
