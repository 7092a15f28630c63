#define CK_MATMUL_NAME(form) ck_matmul_##form##_f32__avx512bw
#define CK_ROUND(x) (x)
#define CK_V_ROUND(v) (v)
#include "matmul.inc"
