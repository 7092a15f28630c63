// attention: prefill of 512, decode at 512 and 4096 positions, shapes of the two demo models, one thread.
#include "../kernels/attention/attention.h"

#include "bench.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/attention/kernels.inc"
#undef CK_KERNEL

typedef struct {
    __typeof__(ck_attention_f16)* kernel;
    float *y, *q;
    void* kv;
    int64_t n, pos, heads, kv_heads, head_dim, capacity;
} ck_case;

static void call(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    c->kernel(c->y, c->q, c->kv, c->n, c->pos, c->heads, c->kv_heads, c->head_dim, c->capacity, 0, 0.125f,
              tid, nth);
}

static void bench(const char* name, __typeof__(ck_attention_f16)* kernel, int is_f16, int64_t n, int64_t pos,
                  int64_t heads, int64_t kv_heads, int64_t head_dim) {
    const int64_t capacity = (pos + n + 63) / 64 * 64, width = kv_heads * head_dim;
    ck_case c = {kernel, NULL, NULL, NULL, n, pos, heads, kv_heads, head_dim, capacity};
    float* rows = ck_noise((size_t)(capacity * width));
    c.y = ck_noise((size_t)(n * heads * head_dim));
    c.q = ck_noise((size_t)(n * heads * head_dim));
    c.kv = ck_noise((size_t)(2 * capacity * width));
    (is_f16 ? ck_kv_append_f16 : ck_kv_append_f32)(c.kv, rows, rows, capacity, 0, kv_heads, head_dim,
                                                   capacity, 0, 1);
    const double seconds = ck_measure(call, &c), pairs = (double)n * ((double)pos + 0.5 * (double)(n + 1));
    printf("%-28s n %4d pos %4d heads %d/%d x %3d  %9.1f us  %6.1f GFLOP/s\n", name, (int)n, (int)pos,
           (int)heads, (int)kv_heads, (int)head_dim, seconds * 1e6,
           4e-9 * pairs * (double)(heads * head_dim) / seconds);
    free(rows);
    free(c.y);
    free(c.q);
    free(c.kv);
}

static void bench_all(const char* name, __typeof__(ck_attention_f16)* kernel, int is_f16) {
    for (int gemma = 0; gemma < 2; gemma++) {
        const int64_t heads = gemma ? 4 : 9, kv_heads = gemma ? 1 : 3, head_dim = gemma ? 256 : 64;
        bench(name, kernel, is_f16, 512, 0, heads, kv_heads, head_dim);
        bench(name, kernel, is_f16, 1, 511, heads, kv_heads, head_dim);
        bench(name, kernel, is_f16, 1, 4095, heads, kv_heads, head_dim);
    }
}

int main(void) {
#define CK_KERNEL(symbol, isa, function) \
    if (ck_cpu_features() & CK_ISA_##isa) \
        bench_all(#function, function, strstr(#symbol, "f16") != NULL);
#include "../kernels/attention/kernels.inc"
    return 0;
}
