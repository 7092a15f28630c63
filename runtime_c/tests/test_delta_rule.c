// delta_rule: close to the rule in double on every path; in any slices, and cut into any chunks, the same
// bits; at position 0 a state of NaN reaches nothing; avx2 and avx512bw agree bit for bit.
#include "../cpu.h"
#include "../kernels/delta_rule/delta_rule.h"
#include "delta.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/delta_rule/kernels.inc"
#undef CK_KERNEL

typedef __typeof__(ck_delta_rule) rule_fn;

// |a - b|^2 / |b|^2
static double delta_error(const float* a, const double* b, int64_t n) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return size > 0 ? error / size : error;
}

// Runs rows in chunks; state and y are written.
static void run(rule_fn* rule, const ck_delta_problem* p, float* state, float* y, int64_t pos, int64_t chunk,
                int nth) {
    const int64_t keys = p->key_heads * p->key_dim, values = p->heads * p->value_dim;
    for (int64_t first = 0; first < p->n; first += chunk)
        for (int tid = 0; tid < nth; tid++)
            rule(state, y + first * values, (const float*)p->q.p + first * keys,
                 (const float*)p->k.p + first * keys, (const float*)p->v.p + first * values,
                 (const float*)p->g.p + first * p->heads, (const float*)p->beta.p + first * p->heads,
                 p->n - first < chunk ? p->n - first : chunk, pos + first, p->heads, p->key_heads, p->key_dim,
                 p->value_dim, p->cyclic, p->scale, tid, nth);
}

// The rule in double, from the state (zeros at position 0).
static void exact(const ck_delta_problem* p, const float* state, int64_t pos, double* after, double* y) {
    const int64_t floats = p->key_dim * p->value_dim;
    for (int64_t i = 0; i < p->heads * floats; i++)
        after[i] = pos > 0 ? (double)state[i] : 0.0;
    for (int64_t t = 0; t < p->n; t++)
        for (int64_t h = 0; h < p->heads; h++)
            delta_row(p, t, h, after + h * floats, y + (t * p->heads + h) * p->value_dim);
}

static void start(float* state, int64_t n, int64_t pos) {
    ck_random_state = 7;
    ck_random_floats(state, n);
    for (int64_t i = 0; pos == 0 && i < n; i++)
        state[i] = NAN;
}

static void check(rule_fn* rule, const char* name, const ck_delta_problem* p, int64_t pos) {
    const int64_t n_state = p->heads * p->key_dim * p->value_dim, n_y = p->n * p->heads * p->value_dim;
    const ck_buffer state = ck_buffer_of(n_state * 4, 4), y = ck_buffer_of(n_y * 4, 4),
                    other = ck_buffer_of(n_state * 4, 4), other_y = ck_buffer_of(n_y * 4, 4),
                    want = ck_buffer_of(n_state * 8, 8), want_y = ck_buffer_of(n_y * 8, 8);
    start(state.p, n_state, pos);
    exact(p, state.p, pos, want.p, want_y.p);
    run(rule, p, state.p, y.p, pos, p->n, 1);
    const double error = delta_error(y.p, want_y.p, n_y);
    const double state_error = p->n > 0 ? delta_error(state.p, want.p, n_state) : 0.0;
    CK_CHECK(error < 1e-12 && state_error < 1e-12, "%s: n %d pos %d heads %d %dx%d: errors %g and %g", name,
             (int)p->n, (int)pos, (int)p->heads, (int)p->key_dim, (int)p->value_dim, error, state_error);
    static const int64_t chunks[] = {1, 2, 3, 17, 64, 1000};
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        start(other.p, n_state, pos);
        run(rule, p, other.p, other_y.p, pos, chunks[i], 1 + (int)(i % 3));
        const bool same = memcmp(other.p, state.p, (size_t)n_state * 4) == 0 &&
                          memcmp(other_y.p, y.p, (size_t)n_y * 4) == 0;
        CK_CHECK(same || p->n == 0, "%s: n %d pos %d heads %d %dx%d: chunks of %d give other bits", name,
                 (int)p->n, (int)pos, (int)p->heads, (int)p->key_dim, (int)p->value_dim, (int)chunks[i]);
    }
    const ck_buffer all[] = {state, y, other, other_y, want, want_y};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ck_buffer_free(all[i]);
}

static const int64_t shapes[][7] = {
    // n, pos, heads, key heads, their widths, cyclic
    {0, 3, 2, 1, 4, 4, 0},   {1, 0, 1, 1, 1, 1, 0},      {1, 5, 3, 3, 128, 128, 0}, {2, 1, 4, 2, 7, 64, 1},
    {5, 0, 6, 3, 33, 40, 0}, {70, 2, 4, 2, 80, 80, 1},   {130, 0, 2, 1, 16, 17, 0}, {3, 64, 1, 1, 256, 96, 0},
    {65, 1, 2, 2, 5, 32, 1}, {64, 0, 32, 16, 16, 16, 1},
};

static void check_shapes(rule_fn* rule, const char* name) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int64_t* s = shapes[i];
        ck_random_state = 0x9e3779b97f4a7c15u + i;
        const ck_delta_problem p = delta_problem(s[0], s[2], s[3], s[4], s[5], s[6]);
        check(rule, name, &p, s[1]);
        free_delta_problem(p);
    }
}

static void check_vector_paths(void) {
    const ck_delta_problem p = delta_problem(70, 4, 2, 80, 72, 0);
    const int64_t n_state = 4 * 80 * 72, n_y = 70 * 4 * 72;
    const ck_buffer state = ck_buffer_of(2 * n_state * 4, 4), y = ck_buffer_of(2 * n_y * 4, 4);
    float *states = state.p, *results = y.p;
    run(ck_delta_rule_f32__avx2, &p, states, results, 0, 70, 1);
    run(ck_delta_rule_f32__avx512bw, &p, states + n_state, results + n_y, 0, 70, 1);
    CK_CHECK(memcmp(states, states + n_state, (size_t)n_state * 4) == 0 &&
                 memcmp(results, results + n_y, (size_t)n_y * 4) == 0,
             "avx2 and avx512bw give other bits");
    ck_buffer_free(state);
    ck_buffer_free(y);
    free_delta_problem(p);
}

int main(void) {
#define CK_KERNEL(symbol, isa, function) \
    if (ck_cpu_detect() & CK_ISA_##isa) \
        check_shapes(function, #function); \
    else \
        ck_skip(#function);
#include "../kernels/delta_rule/kernels.inc"
    if (ck_cpu_detect() & CK_ISA_avx512bw)
        check_vector_paths();
    else
        ck_skip("the comparison of avx2 and avx512bw");
    return ck_finish();
}
