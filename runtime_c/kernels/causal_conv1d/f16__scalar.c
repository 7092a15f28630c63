#define CK_CAUSAL_CONV1D ck_causal_conv1d_f16__scalar
#define CK_W uint16_t
#define CK_LOAD_W(p) ck_v_load_f16(p)
#include "causal_conv1d.inc"
