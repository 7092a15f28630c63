// ck_rt: what generated code may call. The kernels' dispatchers, the thread pool and the CPU's features.
//
// Every kernel: outputs, inputs (with n live rows and pos, the position of the first), immediates, tid, nth.
//   threads  the call computes slice tid of nth (0 <= tid < nth) and returns; results do not depend on nth.
//            Kernels split by rows take rows [n*tid/nth, n*(tid+1)/nth), all of them the same.
//   bits     the formula and the order of every sum stand in kernels/<family>/<family>.h.
// A trailing _<w> is a storage type: f32 f16 bf16 q4_1 q5_0 q8_0 q4_k q6_k. Packed weights (`r16`) and
// quantised activations are drawn in blocks.h. Sizes are in elements unless named _bytes.
#pragma once

#include <stdint.h>

#pragma GCC visibility push(default)

#define CK_STORAGE_TYPES(X) X(f32) X(f16) X(bf16) X(q4_1) X(q5_0) X(q8_0) X(q4_k) X(q6_k)

// linear: y[t][o] = sum_k x[t][k] * w[o][k], y [n][n_out], x [n][n_in] f32, or q16 rows if w is quantised.
// Split: panels of 16 outputs.
// linear_add: y = residual + that; y may be residual.
// glu: y = act(x . w_gate) * (x . w_up); act 0 silu, 1 gelu_tanh.
#define CK_DECLARE_LINEAR(w) \
    void ck_linear_##w(float* y, const void* x, const void* weight, int64_t n, int64_t n_out, int64_t n_in, \
                       int tid, int nth); \
    void ck_linear_add_##w(float* y, const void* x, const void* weight, const float* residual, int64_t n, \
                           int64_t n_out, int64_t n_in, int tid, int nth); \
    void ck_glu_##w(float* y, const void* x, const void* w_gate, const void* w_up, int64_t n, int64_t n_out, \
                    int64_t n_in, int64_t act, int tid, int nth);
CK_STORAGE_TYPES(CK_DECLARE_LINEAR)

// quantize_rows: x [n][k] f32 -> n q16 rows (15 bits in two int8 planes). Split: rows.
void ck_quantize_rows(void* y, const float* x, int64_t n, int64_t k, int tid, int nth);

// embed: y[t] = row tokens[t] of w [n_vocab][d] (r16), as f32. Split: rows.
#define CK_DECLARE_EMBED(w) \
    void ck_embed_##w(float* y, const int32_t* tokens, const void* weight, int64_t n, int64_t n_vocab, \
                      int64_t d, int tid, int nth);
CK_STORAGE_TYPES(CK_DECLARE_EMBED)

// rope: rotate the first dims columns of each head; mode 0 interleaved, 1 neox; y may be x. Split: rows.
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
