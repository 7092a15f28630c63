// matmul: the three products of a linear layer, at the shapes of small models, on one thread and on two.
#include "bench.h"

typedef struct {
    float *x, *w, *g, *y;
    int64_t n, n_out, n_in;
    int form;
    ck_pool* pool;
} ck_case;

static void multiply(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    if (c->form == 0)
        ck_matmul_nt_f32(c->y, c->x, c->w, c->n, c->n_out, c->n_in, tid, nth);
    else if (c->form == 1)
        ck_matmul_nn_f32(c->y, c->x, c->w, c->n, c->n_out, c->n_in, tid, nth);
    else
        ck_matmul_tn_f32(c->y, c->g, c->x, c->n, c->n_out, c->n_in, tid, nth);
}

// Seconds of one call on nth threads, wall time, the best of 15 runs of about 10 ms.
static double best_seconds(ck_case* c, int nth) {
    const int calls = 1 + (int)(5e8 / (double)(c->n * c->n_out * c->n_in));
    double best = 1e9;
    for (int run = 0; run < 15; run++) {
        const double start = ck_now();
        for (int i = 0; i < calls; i++)
            ck_pool_run(c->pool, nth, multiply, c);
        const double seconds = (ck_now() - start) / calls;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static void bench(ck_pool* pool, int64_t n, int64_t n_out, int64_t n_in) {
    static const char* const forms[] = {"nt", "nn", "tn"};
    const size_t y_size = (size_t)(n > n_in ? n : n_in) * (size_t)n_out;
    ck_case c = {ck_noise((size_t)(n * n_in)),
                 ck_noise((size_t)(n_out * n_in)),
                 ck_noise((size_t)(n * n_out)),
                 ck_noise(y_size),
                 n,
                 n_out,
                 n_in,
                 0,
                 pool};
    printf("n %4d n_out %4d n_in %4d, GFLOP/s on 1 and 2 threads:", (int)n, (int)n_out, (int)n_in);
    for (c.form = 0; c.form < 3; c.form++) {
        const double work = 2e-9 * (double)(n * n_out * n_in);
        printf("  %s %6.1f %6.1f", forms[c.form], work / best_seconds(&c, 1), work / best_seconds(&c, 2));
    }
    printf("\n");
    free(c.x);
    free(c.w);
    free(c.g);
    free(c.y);
}

int main(void) {
    static const int64_t shapes[][3] = {{512, 128, 128},  {512, 512, 128},  {512, 128, 512}, {4096, 512, 128},
                                        {512, 1536, 512}, {512, 512, 1536}, {4096, 512, 512}};
    ck_pool* pool = ck_pool_create(2);
    if (pool == NULL)
        return 1;
    printf("%s\n", ck_isa_path());
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        bench(pool, shapes[i][0], shapes[i][1], shapes[i][2]);
    ck_pool_destroy(pool);
    return 0;
}
