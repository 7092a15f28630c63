#include "../dispatch.h"

CK_DISPATCH(ck_rope,
            (float* y, const float* x, const float* table, int64_t n, int64_t heads, int64_t head_dim,
             int64_t mode, int64_t dims, int tid, int nth),
            (y, x, table, n, heads, head_dim, mode, dims, tid, nth))

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
