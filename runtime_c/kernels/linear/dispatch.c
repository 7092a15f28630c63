#include "linear.h"

#include "../dispatch.h"

static int ck_linear_ahead;

#define CK_KERNEL(symbol, isa, function) ck_linear_fn function;
#include "kernels.inc"
#undef CK_KERNEL

// What a symbol passes on: its arguments by their names, and what it has of its own.
#define CK_ARGS(w_up, residual, act, planes) \
    {y, x, w, w_up, residual, n, n_out, n_in, act, planes, ck_linear_ahead, tid, nth}

// The three symbols of a type and its rows of x, over its one kernel.
#define CK_DISPATCH_ROWS(w_type, suffix, planes) \
    void ck_linear_##w_type##suffix(float* y, const void* x, const void* w, int64_t n, int64_t n_out, \
                                    int64_t n_in, int tid, int nth) { \
        const ck_linear_args args = CK_ARGS(NULL, NULL, 0, planes); \
        ck_linear_##w_type##_chosen(&args); \
    } \
    void ck_linear_add_##w_type##suffix(float* y, const void* x, const void* w, const float* residual, \
                                        int64_t n, int64_t n_out, int64_t n_in, int tid, int nth) { \
        const ck_linear_args args = CK_ARGS(NULL, residual, 0, planes); \
        ck_linear_##w_type##_chosen(&args); \
    } \
    void ck_glu_##w_type##suffix(float* y, const void* x, const void* w, const void* w_up, int64_t n, \
                                 int64_t n_out, int64_t n_in, int64_t act, int tid, int nth) { \
        const ck_linear_args args = CK_ARGS(w_up, NULL, act, planes); \
        ck_linear_##w_type##_chosen(&args); \
    }

#define CK_DISPATCH_LINEAR(w_type) \
    static ck_linear_fn* ck_linear_##w_type##_chosen; \
    CK_DISPATCH_ROWS(w_type, , 2)

// Of quantised weights, whose rows of x have two forms.
#define CK_DISPATCH_QUANTIZED(w_type) \
    CK_DISPATCH_LINEAR(w_type) \
    CK_DISPATCH_ROWS(w_type, _q8, 1)

CK_DISPATCH_QUANTIZED(q8_0)
CK_DISPATCH_QUANTIZED(q4_0)
CK_DISPATCH_QUANTIZED(q4_1)
CK_DISPATCH_QUANTIZED(q5_0)
CK_DISPATCH_QUANTIZED(q5_1)
CK_DISPATCH_QUANTIZED(iq4_nl)
CK_DISPATCH_QUANTIZED(q2_k)
CK_DISPATCH_QUANTIZED(q3_k)
CK_DISPATCH_QUANTIZED(q4_k)
CK_DISPATCH_QUANTIZED(q5_k)
CK_DISPATCH_QUANTIZED(q6_k)
CK_DISPATCH_QUANTIZED(iq4_xs)
CK_DISPATCH_LINEAR(f32)
CK_DISPATCH_LINEAR(f16)
CK_DISPATCH_LINEAR(bf16)

#define CK_KERNEL CK_CHOOSE_KERNEL
CK_CHOOSE {
    ck_linear_ahead = ck_cpu_ahead();
#include "kernels.inc"
}
