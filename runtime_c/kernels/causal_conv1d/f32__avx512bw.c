#define CK_CAUSAL_CONV1D ck_causal_conv1d_f32__avx512bw
#define CK_W float
#define CK_LOAD_W(p) ck_v_load_f32(p)
#include "causal_conv1d.inc"
