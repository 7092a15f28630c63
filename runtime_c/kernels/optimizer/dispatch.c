#include "../dispatch.h"

CK_DISPATCH(ck_accumulate, (void* y, const float* g, int64_t n_elements, int tid, int nth),
            (y, g, n_elements, tid, nth))
CK_DISPATCH(ck_square_sums,
            (float* partials, const void* g, int64_t n_elements, int64_t first, int tid, int nth),
            (partials, g, n_elements, first, tid, nth))
CK_DISPATCH(ck_adamw,
            (void* w, void* g, void* m, void* v, const float* norm, const float* hyper, int64_t n_elements,
             int64_t decay, float toward, int tid, int nth),
            (w, g, m, v, norm, hyper, n_elements, decay, toward, tid, nth))
CK_DISPATCH(ck_sgd,
            (void* w, void* g, void* momentum, const float* norm, const float* hyper, int64_t n_elements,
             int64_t decay, float toward, int tid, int nth),
            (w, g, momentum, norm, hyper, n_elements, decay, toward, tid, nth))

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
