#define CK_KV_APPEND ck_kv_append_f16__avx2
#define CK_KV uint16_t
#define CK_STORE_KV(to, from) ck_v_store_f16(to, ck_v_load_f32(from))
#define CK_STORE_ONE(to, from) (*(to) = ck_float_f16(*(from)))
#include "kv_append.inc"
