#include "../dispatch.h"

#define CK_DISPATCH_KV_APPEND(symbol) \
    CK_DISPATCH(symbol, \
                (void* kv, const float* k, const float* v, int64_t n, int64_t pos, int64_t kv_heads, \
                 int64_t head_dim, int64_t capacity, int tid, int nth), \
                (kv, k, v, n, pos, kv_heads, head_dim, capacity, tid, nth))

CK_DISPATCH_KV_APPEND(ck_kv_append_f16)
CK_DISPATCH_KV_APPEND(ck_kv_append_f32)

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
