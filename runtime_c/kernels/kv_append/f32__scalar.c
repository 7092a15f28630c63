#define CK_KV_APPEND ck_kv_append_f32__scalar
#define CK_KV float
#define CK_STORE_KV(to, from) ck_v_store_f32(to, ck_v_load_f32(from))
#define CK_STORE_ONE(to, from) (*(to) = *(from))
#include "kv_append.inc"
