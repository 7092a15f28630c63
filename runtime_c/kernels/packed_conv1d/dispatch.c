#include "../dispatch.h"

CK_DISPATCH(ck_packed_conv1d,
            (float* y, const float* x, const void* w, const int32_t* starts, int64_t n, int64_t d,
             int64_t taps, int tid, int nth),
            (y, x, w, starts, n, d, taps, tid, nth))
CK_DISPATCH(ck_packed_conv1d_bwd,
            (float* dx, void* dw, const float* x, const void* w, const float* dy, const int32_t* starts,
             int64_t n, int64_t d, int64_t taps, int64_t add, int tid, int nth),
            (dx, dw, x, w, dy, starts, n, d, taps, add, tid, nth))

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
