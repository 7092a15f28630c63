#include "../dispatch.h"

#define CK_DISPATCH_ATTENTION(symbol) \
    CK_DISPATCH( \
        symbol, \
        (float* y, const float* q, const void* kv, int64_t n, int64_t pos, int64_t heads, int64_t kv_heads, \
         int64_t head_dim, int64_t capacity, int64_t window, float scale, int tid, int nth), \
        (y, q, kv, n, pos, heads, kv_heads, head_dim, capacity, window, scale, tid, nth))

CK_DISPATCH_ATTENTION(ck_attention_f16)
CK_DISPATCH_ATTENTION(ck_attention_f32)

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
