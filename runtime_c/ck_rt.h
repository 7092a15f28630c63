// ck_rt: what generated code may call. The kernels' dispatchers, the thread pool and the CPU's features.
//
// Every kernel: outputs, inputs (with n live rows and pos, the position of the first), immediates, tid, nth.
//   threads  the call computes slice tid of nth (0 <= tid < nth) and returns; results do not depend on nth.
//            Kernels split by rows take rows [n*tid/nth, n*(tid+1)/nth), all of them the same.
//   bits     the formula and the order of every sum stand in kernels/<family>/<family>.h.
// A trailing _<w> is a storage type, one of CK_STORAGE_TYPES. Packed weights (`r16`), quantised activations
// are drawn in blocks.h. Sizes are in elements unless named _bytes.
#pragma once

#include <stdint.h>

#pragma GCC visibility push(default)

#define CK_QUANTIZED_TYPES(X) \
    X(q4_0) X(q4_1) X(q5_0) X(q5_1) X(q8_0) X(iq4_nl) X(q2_k) X(q3_k) X(q4_k) X(q5_k) X(q6_k) X(iq4_xs)
#define CK_STORAGE_TYPES(X) X(f32) X(f16) X(bf16) CK_QUANTIZED_TYPES(X)

// linear: y[t][o] = sum_k x[t][k] * w[o][k], y [n][n_out], x [n][n_in] f32, or if w is quantised q16 rows, in
// ck_..._<w>_q8 q8 rows. Split: panels of 16 outputs.
// linear_add: y = residual + that; y may be residual.
// glu: y = act(x . w_gate) * (x . w_up); act 0 silu, 1 gelu_tanh.
#define CK_DECLARE_LINEAR(w) \
    void ck_linear_##w(float* y, const void* x, const void* weight, int64_t n, int64_t n_out, int64_t n_in, \
                       int tid, int nth); \
    void ck_linear_add_##w(float* y, const void* x, const void* weight, const float* residual, int64_t n, \
                           int64_t n_out, int64_t n_in, int tid, int nth); \
    void ck_glu_##w(float* y, const void* x, const void* w_gate, const void* w_up, int64_t n, int64_t n_out, \
                    int64_t n_in, int64_t act, int tid, int nth);
#define CK_DECLARE_LINEAR_Q8(w) CK_DECLARE_LINEAR(w##_q8)
CK_STORAGE_TYPES(CK_DECLARE_LINEAR)
CK_QUANTIZED_TYPES(CK_DECLARE_LINEAR_Q8)

// quantize_rows: x [n][k] f32 -> n q16 rows (15 bits in two int8 planes), or q8 rows (8 bits). Split: rows.
void ck_quantize_rows(void* y, const float* x, int64_t n, int64_t k, int tid, int nth);
void ck_quantize_rows_q8(void* y, const float* x, int64_t n, int64_t k, int tid, int nth);

// embed: y[t] = row tokens[t] of w [n_vocab][d] (r16), as f32. Split: rows.
#define CK_DECLARE_EMBED(w) \
    void ck_embed_##w(float* y, const int32_t* tokens, const void* weight, int64_t n, int64_t n_vocab, \
                      int64_t d, int tid, int nth);
CK_STORAGE_TYPES(CK_DECLARE_EMBED)

// rope: rotate the first dims columns of each head; mode 0 interleaved, 1 neox, + 2 turns back; y may be x.
// Split: rows.
void ck_rope(float* y, const float* x, const float* table, int64_t n, int64_t heads, int64_t head_dim,
             int64_t mode, int64_t dims, int tid, int nth);

// kv_append: write k, v [n][kv_heads * head_dim] at positions pos.. of one layer's ring buffer. Split: rows.
// attention: y [n][heads * head_dim] = softmax(scale * q . K) . V over visible positions. Split: query rows
#define CK_DECLARE_ATTENTION(kv_type) \
    void ck_kv_append_##kv_type(void* kv, const float* k, const float* v, int64_t n, int64_t pos, \
                                int64_t kv_heads, int64_t head_dim, int64_t capacity, int tid, int nth); \
    void ck_attention_##kv_type(float* y, const float* q, const void* kv, int64_t n, int64_t pos, \
                                int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t capacity, \
                                int64_t window, float scale, int tid, int nth);
CK_DECLARE_ATTENTION(f16)
CK_DECLARE_ATTENTION(f32)

// packed_attention: attention of n training rows over themselves, each within its document, which begins at
// row starts[t]; lse [n][heads] = log sum e^scores. bwd: gradients from dy, y and lse. Split: strips of query
// rows, in bwd documents' key/value heads.
void ck_packed_attention(float* y, float* lse, const float* q, const float* k, const float* v,
                         const int32_t* starts, int64_t n, int64_t heads, int64_t kv_heads, int64_t head_dim,
                         int64_t window, float scale, int tid, int nth);
void ck_packed_attention_bwd(float* dq, float* dk, float* dv, const float* q, const float* k, const float* v,
                             const float* y, const float* lse, const float* dy, const int32_t* starts,
                             int64_t n, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t window,
                             float scale, int tid, int nth);

// causal_conv1d: y[t][c] = sum_i w[c][i] * x[t - (taps - 1) + i][c]; before row 0 the state's rows, zeros at
// pos 0; w r16. packed_conv1d: within documents of training rows, w [d][taps]; bwd: dx, and dw (+)= its
// gradient. Split: channels.
#define CK_DECLARE_CAUSAL_CONV1D(w) \
    void ck_causal_conv1d_##w(float* state, float* y, const float* x, const void* weight, int64_t n, \
                              int64_t pos, int64_t d, int64_t taps, int tid, int nth);
CK_DECLARE_CAUSAL_CONV1D(f32)
CK_DECLARE_CAUSAL_CONV1D(f16)
CK_DECLARE_CAUSAL_CONV1D(bf16)
void ck_packed_conv1d(float* y, const float* x, const void* w, const int32_t* starts, int64_t n, int64_t d,
                      int64_t taps, int tid, int nth);
void ck_packed_conv1d_bwd(float* dx, void* dw, const float* x, const void* w, const float* dy,
                          const int32_t* starts, int64_t n, int64_t d, int64_t taps, int64_t add, int tid,
                          int nth);

// delta_rule: S = e^g S; S += k (x) beta * (v - S^T k); y = scale * S^T q, one row after the other, for every
// value head; state [heads][key_dim][value_dim], zeros at pos 0. packed_delta_rule: from zeros in every
// document of training rows; states: S at every 64th row of a document, for bwd. Split: heads' columns, in
// bwd documents' key heads.
void ck_delta_rule(float* state, float* y, const float* q, const float* k, const float* v, const float* g,
                   const float* beta, int64_t n, int64_t pos, int64_t heads, int64_t key_heads,
                   int64_t key_dim, int64_t value_dim, int64_t cyclic, float scale, int tid, int nth);
void ck_packed_delta_rule(float* y, float* states, const float* q, const float* k, const float* v,
                          const float* g, const float* beta, const int32_t* starts, int64_t n, int64_t heads,
                          int64_t key_heads, int64_t key_dim, int64_t value_dim, int64_t cyclic, float scale,
                          int tid, int nth);
void ck_packed_delta_rule_bwd(float* dq, float* dk, float* dv, float* dg, float* dbeta, const float* q,
                              const float* k, const float* v, const float* g, const float* beta,
                              const float* states, const float* dy, const int32_t* starts, int64_t n,
                              int64_t heads, int64_t key_heads, int64_t key_dim, int64_t value_dim,
                              int64_t cyclic, float scale, int tid, int nth);

// Training. All f32; `n` live rows; `add` 0 overwrites the output, 1 adds to it.
// matmul: nt y[t][o] = sum_k x[t][k] * w[o][k], w [n_out][n_in]; nn y[t][j] = sum_k x[t][k] * w[k][j], w
// [n_in][n_out]; _add: addend + that, y may be addend; tn y[i][j] = sum_t a[t][i] * b[t][j], a [n][n_out],
// b [n][n_in], y [n_out][n_in]; _add: y += that. _bf16 rounds both operands to bf16. Split: a grid over y.
#define CK_DECLARE_MATMUL_ROWS(form, type) \
    void ck_matmul_##form##_##type(float* y, const float* x, const void* w, int64_t n, int64_t n_out, \
                                   int64_t n_in, int tid, int nth); \
    void ck_matmul_##form##_add_##type(float* y, const float* x, const void* w, const float* addend, \
                                       int64_t n, int64_t n_out, int64_t n_in, int tid, int nth);
#define CK_DECLARE_MATMUL(type) \
    CK_DECLARE_MATMUL_ROWS(nt, type) \
    CK_DECLARE_MATMUL_ROWS(nn, type) \
    void ck_matmul_tn_##type(void* y, const float* a, const float* b, int64_t n, int64_t n_out, \
                             int64_t n_in, int tid, int nth); \
    void ck_matmul_tn_add_##type(void* y, const float* a, const float* b, int64_t n, int64_t n_out, \
                                 int64_t n_in, int tid, int nth);
CK_DECLARE_MATMUL(f32)
CK_DECLARE_MATMUL(bf16)

// cross_entropy, by chunks: rows [first, first + rows) of the batch, of which those below n are live. hidden,
// dhidden [n][d], nll, dnll, targets [n] (below 0: ignored), w, dw [n_vocab][d]; logits [rows][n_vocab] holds
// one chunk: logits = hidden . w^T; rows: nll = log sum e^logits - logits[target]; grad_rows: that, and
// logits becomes its gradient (softmax - onehot) * dnll; dhidden = dlogits . w; dw (+)= dlogits^T . hidden.
#define CK_DECLARE_CROSS_ENTROPY(type) \
    void ck_cross_entropy_logits_##type(float* logits, const float* hidden, const void* w, int64_t n, \
                                        int64_t first, int64_t rows, int64_t n_vocab, int64_t d, int tid, \
                                        int nth); \
    void ck_cross_entropy_dhidden_##type(float* dhidden, const float* dlogits, const void* w, int64_t n, \
                                         int64_t first, int64_t rows, int64_t n_vocab, int64_t d, int tid, \
                                         int nth); \
    void ck_cross_entropy_dw_##type(void* dw, const float* dlogits, const float* hidden, int64_t n, \
                                    int64_t first, int64_t rows, int64_t n_vocab, int64_t d, int64_t add, \
                                    int tid, int nth);
CK_DECLARE_CROSS_ENTROPY(f32)
CK_DECLARE_CROSS_ENTROPY(bf16)
void ck_cross_entropy_rows(float* nll, const float* logits, const int32_t* targets, int64_t n, int64_t first,
                           int64_t rows, int64_t n_vocab, int tid, int nth);
void ck_cross_entropy_grad_rows(float* nll, float* logits, const int32_t* targets, const float* dnll,
                                int64_t n, int64_t first, int64_t rows, int64_t n_vocab, int tid, int nth);

// embed_rows: y[t] = w[tokens[t]], w [n_vocab][d]. Split: rows.
// embed_bwd: dw[tokens[t]] += dy[t] in order of t. Split: columns.
void ck_embed_rows(float* y, const int32_t* tokens, const void* w, int64_t n, int64_t n_vocab, int64_t d,
                   int tid, int nth);
void ck_embed_bwd(void* dw, const int32_t* tokens, const float* dy, int64_t n, int64_t n_vocab, int64_t d,
                  int64_t add, int tid, int nth);

// reduce_rows: y[j] (+)= sum of x[r][j] over the n * rows_per_token live rows of x. Split: columns.
void ck_reduce_rows(float* y, const float* x, int64_t n, int64_t rows_per_token, int64_t d, int64_t add,
                    int tid, int nth);

// split_bwd: y[r][first + j] = x[r][j], with zeros in `before` columns before and `zeros` after. Split: rows.
void ck_split_bwd(float* y, const float* x, int64_t n, int64_t rows_per_token, int64_t d, int64_t before,
                  int64_t first, int64_t width, int64_t zeros, int tid, int nth);

// Optimizer, over flat arrays. Split: pieces of 4096 elements.
// accumulate: y += g. square_sums: partials[first + i] = sum of the squares of piece i of g. clip: norm[0] =
// sqrt(sum partials), norm[1] = what gradients are multiplied by, for max_norm = hyper[7]; by tid 0.
// adamw, sgd: one step on w from the gradient g, which becomes 0; `decay`: pull w towards `toward`.
void ck_accumulate(void* y, const float* g, int64_t n_elements, int tid, int nth);
void ck_square_sums(float* partials, const void* g, int64_t n_elements, int64_t first, int tid, int nth);
void ck_clip(float* norm, const float* partials, const float* hyper, int64_t n_partials, int tid, int nth);
void ck_adamw(void* w, void* g, void* m, void* v, const float* norm, const float* hyper, int64_t n_elements,
              int64_t decay, float toward, int tid, int nth);
void ck_sgd(void* w, void* g, void* momentum, const float* norm, const float* hyper, int64_t n_elements,
            int64_t decay, float toward, int tid, int nth);

// Load time. pack: file rows [n_out][n_in] -> r16, split: panels. dequantize: n file elements -> f32.
#define CK_DECLARE_STORAGE(w) \
    void ck_pack_##w(void* dst, const void* src_rows, int64_t n_out, int64_t n_in, int tid, int nth); \
    void ck_dequantize_##w(float* dst, const void* src, int64_t n);
CK_STORAGE_TYPES(CK_DECLARE_STORAGE)

// Thread pool. create: n_threads in all, the caller of ck_pool_run among them; NULL when the system refuses.
// run: fn(arg, tid, nth) on nth <= n_threads threads, tid 0 on the caller, and waits for all; one run at once.
// barrier: called by all nth threads of the run; memory written before it is seen after it.
typedef struct ck_pool ck_pool;
ck_pool* ck_pool_create(int n_threads);
void ck_pool_destroy(ck_pool* pool);
void ck_pool_run(ck_pool* pool, int nth, void (*fn)(void* arg, int tid, int nth), void* arg);
void ck_barrier(ck_pool* pool);

// CPU. features: a bit per instruction-set bundle that may be used (cpu.h), after CK_ISA_MASK.
// isa_path: the name of the highest one: "scalar", "avx2", "avx512bw" or "avx512vnni".
uint64_t ck_cpu_features(void);
const char* ck_isa_path(void);

#pragma GCC visibility pop
