// delta_rule of 16 heads of 128 x 128: one row, a chunk of 512, and training's forward and backward of
// documents of 512 rows; one thread.
#include "../kernels/delta_rule/delta_rule.h"
#include "../kernels/packed_delta_rule/packed_delta_rule.h"

#include "bench.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/delta_rule/kernels.inc"
#include "../kernels/packed_delta_rule/kernels.inc"
#undef CK_KERNEL

enum { ROWS = 512, HEADS = 16, WIDTH = 128, COLUMNS = HEADS * WIDTH };

typedef struct {
    __typeof__(ck_delta_rule)* rule;
    __typeof__(ck_packed_delta_rule)* forward;
    __typeof__(ck_packed_delta_rule_bwd)* backward;
    float *q, *k, *v, *g, *beta, *y, *state, *states, *dq, *dk, *dv, *dg, *dbeta;
    int32_t starts[ROWS];
    int64_t n;
} ck_case;

static void step(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    c->rule(c->state, c->y, c->q, c->k, c->v, c->g, c->beta, c->n, 1, HEADS, HEADS, WIDTH, WIDTH, 0, 0.1f,
            tid, nth);
}

static void forward(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    c->forward(c->y, c->states, c->q, c->k, c->v, c->g, c->beta, c->starts, c->n, HEADS, HEADS, WIDTH,
               WIDTH, 0, 0.1f, tid, nth);
}

static void backward(void* arg, int tid, int nth) {
    const ck_case* c = arg;
    c->backward(c->dq, c->dk, c->dv, c->dg, c->dbeta, c->q, c->k, c->v, c->g, c->beta, c->states, c->y,
                c->starts, c->n, HEADS, HEADS, WIDTH, WIDTH, 0, 0.1f, tid, nth);
}

static void print(const char* name, const char* what, const ck_case* c, double seconds) {
    printf("%-10s %s n %3d  %9.1f us, %6.2f us a row\n", name, what, (int)c->n, seconds * 1e6,
           seconds * 1e6 / (double)c->n);
}

static void bench(const char* name, ck_case c) {
    float** const rows[] = {&c.q, &c.k, &c.v, &c.y, &c.dq, &c.dk, &c.dv};
    float** const gates[] = {&c.g, &c.beta, &c.dg, &c.dbeta};
    for (int i = 0; i < 7; i++)
        *rows[i] = ck_noise((size_t)ROWS * COLUMNS);
    for (int i = 0; i < 4; i++)
        *gates[i] = ck_noise((size_t)ROWS * HEADS);
    c.state = ck_noise((size_t)HEADS * WIDTH * WIDTH);
    c.states = ck_noise((size_t)ROWS / 64 * HEADS * WIDTH * WIDTH);
    // Keys about as long as 1, decays below 1: numbers stay numbers.
    for (int i = 0; i < ROWS * COLUMNS; i++)
        c.k[i] *= 0.15f;
    for (int i = 0; i < ROWS * HEADS; i++) {
        c.g[i] = -0.1f;
        c.beta[i] = 0.5f;
    }
    c.n = 1;
    print(name, "step    ", &c, ck_measure(step, &c));
    c.n = ROWS;
    print(name, "step    ", &c, ck_measure(step, &c));
    print(name, "forward ", &c, ck_measure(forward, &c));
    print(name, "backward", &c, ck_measure(backward, &c));
    for (int i = 0; i < 7; i++)
        free(*rows[i]);
    for (int i = 0; i < 4; i++)
        free(*gates[i]);
    free(c.state);
    free(c.states);
}

#define BENCH(isa) \
    if (ck_cpu_features() & CK_ISA_##isa) \
        bench(#isa, (ck_case){.rule = ck_delta_rule_f32__##isa, .forward = ck_packed_delta_rule__##isa, \
                              .backward = ck_packed_delta_rule_bwd__##isa});

int main(void) {
    BENCH(scalar)
    BENCH(avx2)
    BENCH(avx512bw)
    return 0;
}
