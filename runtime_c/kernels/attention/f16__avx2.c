#define CK_ATTENTION ck_attention_f16__avx2
#define CK_KV uint16_t
#define CK_LOAD_KV ck_v_load_f16
#define CK_KV_IS_HALF
#include "attention.inc"
