// The pool: nanoseconds of a barrier and of an empty run, wall time, the best of 400 runs: others on the
// machine can only add to it.
#include "bench.h"

enum { ROUNDS = 500, RUNS = 400 };

static void barriers(void* pool, int tid, int nth) {
    (void)tid, (void)nth;
    for (int i = 0; i < ROUNDS; i++)
        ck_barrier(pool);
}

static void nothing(void* pool, int tid, int nth) {
    (void)pool, (void)tid, (void)nth;
}

static double best_ns(ck_pool* pool, int nth, void (*fn)(void*, int, int), int calls) {
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        const double start = ck_now();
        for (int i = 0; i < calls; i++)
            ck_pool_run(pool, nth, fn, pool);
        const double ns = (ck_now() - start) * 1e9 / ROUNDS;
        best = ns < best ? ns : best;
    }
    return best;
}

int main(void) {
    ck_pool* pool = ck_pool_create(2);
    if (pool == NULL)
        return 1;
    printf("2 threads: barrier %.0f ns, run %.0f ns\n", best_ns(pool, 2, barriers, 1),
           best_ns(pool, 2, nothing, ROUNDS));
    ck_pool_destroy(pool);
    return 0;
}
