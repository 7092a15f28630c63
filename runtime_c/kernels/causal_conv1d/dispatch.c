#include "../dispatch.h"

#define CK_DISPATCH_CONV(symbol) \
    CK_DISPATCH(symbol, \
                (float* state, float* y, const float* x, const void* w, int64_t n, int64_t pos, int64_t d, \
                 int64_t taps, int tid, int nth), \
                (state, y, x, w, n, pos, d, taps, tid, nth))

CK_DISPATCH_CONV(ck_causal_conv1d_f32)
CK_DISPATCH_CONV(ck_causal_conv1d_f16)
CK_DISPATCH_CONV(ck_causal_conv1d_bf16)

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
