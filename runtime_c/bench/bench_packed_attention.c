// packed_attention: forward and backward of 8 query and 4 key/value heads over documents of 512 rows, one
// thread.
#include "../kernels/packed_attention/packed_attention.h"

#include "bench.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/packed_attention/kernels.inc"
#undef CK_KERNEL

enum { LENGTH = 512, HEADS = 8, KV_HEADS = 4 };

typedef struct {
    __typeof__(ck_packed_attention)* forward;
    __typeof__(ck_packed_attention_bwd)* backward;
    float *q, *k, *v, *y, *lse, *dy, *dq, *dk, *dv;
    int32_t* starts;
    int64_t n, head_dim;
} ck_case;

static void forward(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    c->forward(c->y, c->lse, c->q, c->k, c->v, c->starts, c->n, HEADS, KV_HEADS, c->head_dim, 0, 0.125f, tid,
               nth);
}

static void backward(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    c->backward(c->dq, c->dk, c->dv, c->q, c->k, c->v, c->y, c->lse, c->dy, c->starts, c->n, HEADS, KV_HEADS,
                c->head_dim, 0, 0.125f, tid, nth);
}

static void print(const char* name, const char* pass, const ck_case* c, int products, double seconds) {
    const double pairs = (double)c->n * 0.5 * (LENGTH + 1);
    printf("%-10s %s n %4d heads %d/%d x %3d  %9.1f us  %6.1f GFLOP/s\n", name, pass, (int)c->n, HEADS,
           KV_HEADS, (int)c->head_dim, seconds * 1e6,
           2e-9 * products * pairs * (double)(HEADS * c->head_dim) / seconds);
}

static void bench(const char* name, __typeof__(ck_packed_attention)* forward_kernel,
                  __typeof__(ck_packed_attention_bwd)* backward_kernel, int64_t documents, int64_t head_dim) {
    const size_t n = (size_t)(documents * LENGTH), q_floats = n * HEADS * (size_t)head_dim,
                 kv_floats = n * KV_HEADS * (size_t)head_dim;
    ck_case c = {.forward = forward_kernel, .backward = backward_kernel, .n = (int64_t)n};
    c.head_dim = head_dim;
    float** const arrays[9] = {&c.q, &c.y, &c.dy, &c.dq, &c.k, &c.v, &c.dk, &c.dv, &c.lse};
    for (int i = 0; i < 9; i++)
        *arrays[i] = ck_noise(i < 4 ? q_floats : i < 8 ? kv_floats : n * HEADS);
    c.starts = malloc(n * sizeof *c.starts);
    for (size_t t = 0; c.starts != NULL && t < n; t++)
        c.starts[t] = (int32_t)(t / LENGTH * LENGTH);
    print(name, "forward ", &c, 2, ck_measure(forward, &c));
    print(name, "backward", &c, 5, ck_measure(backward, &c));
    for (int i = 0; i < 9; i++)
        free(*arrays[i]);
    free(c.starts);
}

#define BENCH(isa) \
    if (ck_cpu_features() & CK_ISA_##isa) \
        for (int64_t documents = 1; documents <= 8; documents += 7) \
            for (int64_t head_dim = 16; head_dim <= 64; head_dim *= 2) \
                bench(#isa, ck_packed_attention__##isa, ck_packed_attention_bwd__##isa, documents, head_dim);

int main(void) {
    BENCH(scalar)
    BENCH(avx2)
    BENCH(avx512bw)
    return 0;
}
