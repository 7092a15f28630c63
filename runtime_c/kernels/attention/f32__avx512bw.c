#define CK_ATTENTION ck_attention_f32__avx512bw
#define CK_KV float
#define CK_LOAD_KV ck_v_load_f32
#include "attention.inc"
