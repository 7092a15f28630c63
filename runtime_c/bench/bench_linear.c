// linear of quantised weights and rows of 15 bits, then of 8, on one thread and on two, the best of several
// runs. One row: GB/s of packed weights over 128 MiB of matrices, a barrier after each, as in a decode step,
// and how much that is of the rate at which plain C reads them. 512 rows: GOP/s.
#include "../cpu.h"
#include "../kernels/linear/linear.h"

#include "../blocks.h"
#include "bench.h"

#define CK_KERNEL(symbol, isa, function) ck_linear_fn function;
#include "../kernels/linear/kernels.inc"
#undef CK_KERNEL

typedef struct {
    const char* name;
    int64_t columns, packed_bytes;
} ck_row;

#define CK_ROW(w, columns) {"ck_linear_" #w, columns, sizeof(ck_r16_##w)},
static const ck_row types[] = {CK_ROW(q8_0, 32) CK_ROW(q4_0, 32) CK_ROW(q4_1, 32) CK_ROW(q5_0, 32)
                                   CK_ROW(q5_1, 32) CK_ROW(iq4_nl, 32) CK_ROW(q2_k, 256)
                                   CK_ROW(q3_k, 256) CK_ROW(q4_k, 256) CK_ROW(q5_k, 256)
                                   CK_ROW(q6_k, 256) CK_ROW(iq4_xs, 256)};

typedef struct {
    ck_linear_fn* kernel;
    ck_pool* pool;
    ck_linear_args args;
    int64_t n_matrices, matrix_bytes;
    volatile uint64_t* sink;  // [threads]
} ck_case;

static void call(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    ck_linear_args a = c->args;
    a.tid = tid;
    a.nth = nth;
    for (int64_t i = 0; i < c->n_matrices; i++) {
        c->kernel(&a);
        ck_barrier(c->pool);
        a.w = (const char*)a.w + c->matrix_bytes;
    }
}

// Reads the same bytes, in four streams a thread.
static void read_only(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    const int64_t n = c->n_matrices * c->matrix_bytes / 8 / (4 * nth);
    const uint64_t* p = (const uint64_t*)c->args.w + 4 * n * tid;
    uint64_t sum[4][8] = {{0}};
    for (int64_t i = 0; i + 8 <= n; i += 8)
        for (int s = 0; s < 4; s++) {
            __builtin_prefetch((const void*)((uintptr_t)(p + s * n + i) + 1024));
            for (int lane = 0; lane < 8; lane++)
                sum[s][lane] += p[s * n + i + lane];
        }
    for (int s = 0; s < 4; s++)
        for (int lane = 0; lane < 8; lane++)
            c->sink[tid] += sum[s][lane];
}

// Least seconds of one call on nth threads, over 5 runs.
static double measure(ck_case* c, void (*fn)(void* arg, int tid, int nth), int nth) {
    double best = 1e9;
    for (int run = 0; run < 6; run++) {
        const double start = ck_now();
        ck_pool_run(c->pool, nth, fn, c);
        const double seconds = ck_now() - start;
        if (run > 0 && seconds < best)
            best = seconds;
    }
    return best;
}

// NULL for a float type.
static const ck_row* row_of(const char* symbol) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, symbol) == 0)
            return &types[i];
    return NULL;
}

static void bench_planes(const char* name, const char* symbol, ck_linear_fn* kernel, int planes, int64_t n,
                         int64_t n_out, int64_t n_in) {
    const ck_row* row = row_of(symbol);
    volatile uint64_t sink[2] = {0};
    ck_case c = {.kernel = kernel, .pool = ck_pool_create(2), .sink = sink};
    c.matrix_bytes = (n_out + 15) / 16 * (n_in / row->columns) * row->packed_bytes;
    c.n_matrices = n == 1 ? (128 << 20) / c.matrix_bytes + 1 : 1;
    const size_t n_bytes = (size_t)(c.n_matrices * c.matrix_bytes);
    const size_t x_bytes = (size_t)(n * CK_ROW_BYTES(planes, n_in));
    char* w = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
    float *x = ck_noise((size_t)(n * n_in)), *y = ck_noise((size_t)(n * n_out));
    void* q = malloc(x_bytes);
    memset(w, 0x33, n_bytes);
    (planes == 2 ? ck_quantize_rows : ck_quantize_rows_q8)(q, x, n, n_in, 0, 1);
    c.args = (ck_linear_args){.y = y, .x = q, .w = w, .n = n, .n_out = n_out, .n_in = n_in, .planes = planes};
    c.args.ahead = ck_cpu_ahead();
    printf("%-28s %2d bits  n %3d  %6d x %4d", name, planes == 2 ? 15 : 8, (int)n, (int)n_out, (int)n_in);
    for (int nth = 1; nth <= 2; nth++) {
        const double seconds = measure(&c, call, nth);
        if (n == 1)
            printf("  %7.1f GB/s, %3.0f%%", 1e-9 * (double)n_bytes / seconds,
                   100 * measure(&c, read_only, nth) / seconds);
        else
            printf("  %7.1f GOP/s", 2e-9 * (double)(n * n_out * n_in) / seconds);
    }
    printf("\n");
    free(w);
    free(x);
    free(y);
    free(q);
    ck_pool_destroy(c.pool);
}

static void bench(const char* name, const char* symbol, ck_linear_fn* kernel, int64_t n, int64_t n_out,
                  int64_t n_in) {
    for (int planes = 1; planes <= 2; planes++)
        bench_planes(name, symbol, kernel, planes, n, n_out, n_in);
}

static void bench_all(const char* name, const char* symbol, ck_linear_fn* kernel) {
    if (row_of(symbol) == NULL)
        return;
    const int wide = row_of(symbol)->columns == 256;
    bench(name, symbol, kernel, 1, 1536, wide ? 1024 : 576);
    bench(name, symbol, kernel, 1, 640, 2048);
    bench(name, symbol, kernel, 1, 49152, wide ? 512 : 576);
    if (strstr(name, "scalar") != NULL)
        return;
    bench(name, symbol, kernel, 512, 192, wide ? 512 : 576);
    bench(name, symbol, kernel, 512, 1536, wide ? 512 : 576);
    bench(name, symbol, kernel, 512, 576, 1536);
    bench(name, symbol, kernel, 512, 640, 2048);
}

int main(int argc, char** argv) {
#define CK_KERNEL(symbol, isa, function) \
    if ((ck_cpu_features() & CK_ISA_##isa) && (argc < 2 || strstr(#function, argv[1]) != NULL)) \
        bench_all(#function, #symbol, function);
#include "../kernels/linear/kernels.inc"
    return 0;
}
