#include "../dispatch.h"

CK_DISPATCH(ck_packed_attention,
            (float* y, float* lse, const float* q, const float* k, const float* v, const int32_t* starts,
             int64_t n, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t window, float scale,
             int tid, int nth),
            (y, lse, q, k, v, starts, n, heads, kv_heads, head_dim, window, scale, tid, nth))
CK_DISPATCH(ck_packed_attention_bwd,
            (float* dq, float* dk, float* dv, const float* q, const float* k, const float* v, const float* y,
             const float* lse, const float* dy, const int32_t* starts, int64_t n, int64_t heads,
             int64_t kv_heads, int64_t head_dim, int64_t window, float scale, int tid, int nth),
            (dq, dk, dv, q, k, v, y, lse, dy, starts, n, heads, kv_heads, head_dim, window, scale, tid, nth))

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
