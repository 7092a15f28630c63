#include "quantize.h"

CK_DISPATCH(ck_quantize_rows, (void* y, const float* x, int64_t n, int64_t k, int tid, int nth),
            (y, x, n, k, tid, nth))
CK_DISPATCH(ck_quantize_rows_q8, (void* y, const float* x, int64_t n, int64_t k, int tid, int nth),
            (y, x, n, k, tid, nth))

#define CK_KERNEL CK_CHOOSE_KERNEL
CK_CHOOSE {
#include "kernels.inc"
}
