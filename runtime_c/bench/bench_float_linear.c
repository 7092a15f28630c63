// linear with float weights: products of 512 rows and of one row, the shapes of SmolLM2, one thread.
#include "../kernels/linear/linear.h"

#include "bench.h"

#define CK_KERNEL(symbol, isa, function) ck_linear_fn function;
#include "../kernels/linear/kernels.inc"
#undef CK_KERNEL

typedef struct {
    ck_linear_fn* kernel;
    ck_linear_args args;
} ck_case;

static void call(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    (void)tid, (void)nth;
    c->kernel(&c->args);
}

static void bench(const char* name, ck_linear_fn* kernel, int w_bytes, int64_t n, int64_t n_out,
                  int64_t n_in) {
    float *y = ck_noise((size_t)(n * n_out)), *x = ck_noise((size_t)(n * n_in)),
          *w = ck_noise((size_t)(n_out * n_in));
    ck_case c = {kernel, {.y = y, .x = x, .w = w, .n = n, .n_out = n_out, .n_in = n_in, .nth = 1}};
    memset(w, 0, (size_t)(n_out * n_in) * sizeof *w);
    const double seconds = ck_measure(call, &c);
    printf("%-26s n %4d  %5d x %4d  %9.1f us  %6.1f GFLOP/s  %5.1f GB/s\n", name, (int)n, (int)n_out,
           (int)n_in, seconds * 1e6, 2e-9 * (double)(n * n_out * n_in) / seconds,
           1e-9 * (double)(n_out * n_in * w_bytes) / seconds);
    free(y);
    free(x);
    free(w);
}

static void bench_all(const char* symbol, const char* name, ck_linear_fn* kernel) {
    const char* type = symbol + sizeof "ck_linear_" - 1;
    const int w_bytes = strcmp(type, "f32") == 0 ? 4 : 2;
    if (strcmp(type, "f32") != 0 && strcmp(type, "f16") != 0 && strcmp(type, "bf16") != 0)
        return;
    bench(name, kernel, w_bytes, 512, 1536, 576);
    bench(name, kernel, w_bytes, 512, 576, 1536);
    bench(name, kernel, w_bytes, 1, 1536, 576);
    bench(name, kernel, w_bytes, 1, 49152, 576);
}

int main(void) {
#define CK_KERNEL(symbol, isa, function) \
    if (ck_cpu_features() & CK_ISA_##isa) \
        bench_all(#symbol, #function, function);
#include "../kernels/linear/kernels.inc"
    return 0;
}
