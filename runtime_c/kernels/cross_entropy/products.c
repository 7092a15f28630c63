// The products of a chunk, by the kernels of matmul.
#include "cross_entropy.h"

#define PRODUCTS(type) \
    void ck_cross_entropy_logits_##type(float* logits, const float* hidden, const void* w, int64_t n, \
                                        int64_t first, int64_t rows, int64_t n_vocab, int64_t d, int tid, \
                                        int nth) { \
        ck_matmul_nt_##type(logits, hidden + first * d, w, ck_chunk_live(n, first, rows), n_vocab, d, tid, \
                            nth); \
    } \
    void ck_cross_entropy_dhidden_##type(float* dhidden, const float* dlogits, const void* w, int64_t n, \
                                         int64_t first, int64_t rows, int64_t n_vocab, int64_t d, int tid, \
                                         int nth) { \
        ck_matmul_nn_##type(dhidden + first * d, dlogits, w, ck_chunk_live(n, first, rows), d, n_vocab, tid, \
                            nth); \
    } \
    void ck_cross_entropy_dw_##type(void* dw, const float* dlogits, const float* hidden, int64_t n, \
                                    int64_t first, int64_t rows, int64_t n_vocab, int64_t d, int64_t add, \
                                    int tid, int nth) { \
        (add ? ck_matmul_tn_add_##type : ck_matmul_tn_##type)( \
            dw, dlogits, hidden + first * d, ck_chunk_live(n, first, rows), n_vocab, d, tid, nth); \
    }

PRODUCTS(f32)
PRODUCTS(bf16)
