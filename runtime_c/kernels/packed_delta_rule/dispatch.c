#include "../dispatch.h"

CK_DISPATCH(ck_packed_delta_rule,
            (float* y, float* states, const float* q, const float* k, const float* v, const float* g,
             const float* beta, const int32_t* starts, int64_t n, int64_t heads, int64_t key_heads,
             int64_t key_dim, int64_t value_dim, int64_t cyclic, float scale, int tid, int nth),
            (y, states, q, k, v, g, beta, starts, n, heads, key_heads, key_dim, value_dim, cyclic, scale, tid,
             nth))
CK_DISPATCH(ck_packed_delta_rule_bwd,
            (float* dq, float* dk, float* dv, float* dg, float* dbeta, const float* q, const float* k,
             const float* v, const float* g, const float* beta, const float* states, const float* dy,
             const int32_t* starts, int64_t n, int64_t heads, int64_t key_heads, int64_t key_dim,
             int64_t value_dim, int64_t cyclic, float scale, int tid, int nth),
            (dq, dk, dv, dg, dbeta, q, k, v, g, beta, states, dy, starts, n, heads, key_heads, key_dim,
             value_dim, cyclic, scale, tid, nth))

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
