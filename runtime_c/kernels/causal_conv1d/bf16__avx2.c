#define CK_CAUSAL_CONV1D ck_causal_conv1d_bf16__avx2
#define CK_W uint16_t
#define CK_LOAD_W(p) ck_v_load_bf16(p)
#include "causal_conv1d.inc"
