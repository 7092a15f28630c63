#include "../dispatch.h"

CK_DISPATCH(ck_cross_entropy_rows,
            (float* nll, const float* logits, const int32_t* targets, int64_t n, int64_t first, int64_t rows,
             int64_t n_vocab, int tid, int nth),
            (nll, logits, targets, n, first, rows, n_vocab, tid, nth))
CK_DISPATCH(ck_cross_entropy_grad_rows,
            (float* nll, float* logits, const int32_t* targets, const float* dnll, int64_t n, int64_t first,
             int64_t rows, int64_t n_vocab, int tid, int nth),
            (nll, logits, targets, dnll, n, first, rows, n_vocab, tid, nth))

#define CK_KERNEL CK_DECLARE_KERNEL
#include "kernels.inc"
#undef CK_KERNEL

CK_CHOOSE {
#define CK_KERNEL CK_CHOOSE_KERNEL
#include "kernels.inc"
}
