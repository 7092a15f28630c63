#define CK_LINEAR_NAME ck_linear_f16__scalar
#define CK_W uint16_t
#define CK_FLOAT(w) ck_f16_float(w)
#include "float_scalar.inc"
