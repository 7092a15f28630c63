#define CK_LINEAR_NAME ck_linear_f32__scalar
#define CK_W float
#define CK_FLOAT(w) (w)
#include "float_scalar.inc"
