#include "../dispatch.h"

CK_DISPATCH(ck_delta_rule,
            (float* state, float* y, const float* q, const float* k, const float* v, const float* g,
             const float* beta, int64_t n, int64_t pos, int64_t heads, int64_t key_heads, int64_t key_dim,
             int64_t value_dim, int64_t cyclic, float scale, int tid, int nth),
            (state, y, q, k, v, g, beta, n, pos, heads, key_heads, key_dim, value_dim, cyclic, scale, tid,
             nth))

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
