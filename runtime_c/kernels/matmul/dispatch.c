#include "matmul.h"

#include "../dispatch.h"

#define CK_KERNEL(symbol, isa, function) ck_matmul_fn function;
#include "kernels.inc"
#undef CK_KERNEL

// The two symbols of a form that is given rows, x [n][n_in] -> y [n][n_out], over its one kernel.
#define CK_DISPATCH_ROWS(form, type) \
    static ck_matmul_fn* ck_matmul_##form##_##type##_chosen; \
    void ck_matmul_##form##_##type(float* y, const float* x, const void* w, int64_t n, int64_t n_out, \
                                   int64_t n_in, int tid, int nth) { \
        const ck_matmul_args args = {y, x, w, NULL, n, n_out, n_in, tid, nth}; \
        ck_matmul_##form##_##type##_chosen(&args); \
    } \
    void ck_matmul_##form##_add_##type(float* y, const float* x, const void* w, const float* addend, \
                                       int64_t n, int64_t n_out, int64_t n_in, int tid, int nth) { \
        const ck_matmul_args args = {y, x, w, addend, n, n_out, n_in, tid, nth}; \
        ck_matmul_##form##_##type##_chosen(&args); \
    }

// Those of the form that sums over rows.
#define CK_DISPATCH_SUMS(type) \
    static ck_matmul_fn* ck_matmul_tn_##type##_chosen; \
    void ck_matmul_tn_##type(void* y, const float* a, const float* b, int64_t n, int64_t n_out, \
                             int64_t n_in, int tid, int nth) { \
        const ck_matmul_args args = {y, a, b, NULL, n_out, n_in, n, tid, nth}; \
        ck_matmul_tn_##type##_chosen(&args); \
    } \
    void ck_matmul_tn_add_##type(void* y, const float* a, const float* b, int64_t n, int64_t n_out, \
                                 int64_t n_in, int tid, int nth) { \
        const ck_matmul_args args = {y, a, b, y, n_out, n_in, n, tid, nth}; \
        ck_matmul_tn_##type##_chosen(&args); \
    }

CK_DISPATCH_ROWS(nt, f32)
CK_DISPATCH_ROWS(nn, f32)
CK_DISPATCH_SUMS(f32)
CK_DISPATCH_ROWS(nt, bf16)
CK_DISPATCH_ROWS(nn, bf16)
CK_DISPATCH_SUMS(bf16)

#define CK_KERNEL CK_CHOOSE_KERNEL
CK_CHOOSE {
#include "kernels.inc"
}
