// packed_delta_rule: y and states are delta_rule's bits in each document; gradients are close to the slopes
// of the rule in double; slices, other documents and where a document lies change no bit; NaN stays in its
// document.
#include "../cpu.h"
#include "../kernels/packed_delta_rule/packed_delta_rule.h"
#include "delta.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/delta_rule/kernels.inc"
#include "../kernels/packed_delta_rule/kernels.inc"
#undef CK_KERNEL

typedef __typeof__(ck_packed_delta_rule) forward_fn;
typedef __typeof__(ck_packed_delta_rule_bwd) backward_fn;
typedef __typeof__(ck_delta_rule) rule_fn;

enum { RESULTS = 5 };

typedef struct {
    ck_delta_problem p;
    ck_buffer starts, dy;
} ck_case;

// What the kernels make of a case: y, states, and dq, dk, dv, dg, dbeta.
typedef struct {
    ck_buffer y, states, slope[RESULTS];
    int64_t n_y, n_states, n_slope[RESULTS];
} ck_made;

static ck_case case_of(const int64_t* sizes, const int64_t* lengths) {
    int64_t n = 0;
    for (const int64_t* length = lengths; *length > 0; length++)
        n += *length;
    ck_case c = {delta_problem(n, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]), ck_buffer_of(n * 4, 4),
                 ck_buffer_of(n * sizes[0] * sizes[3] * 4, 4)};
    ck_random_floats(c.dy.p, n * sizes[0] * sizes[3]);
    int32_t* starts = c.starts.p;
    for (int64_t begin = 0; *lengths > 0; begin += *lengths++)
        for (int64_t t = begin; t < begin + *lengths; t++)
            starts[t] = (int32_t)begin;
    return c;
}

static void free_case(ck_case c) {
    free_delta_problem(c.p);
    ck_buffer_free(c.starts);
    ck_buffer_free(c.dy);
}

static ck_made made_of(forward_fn* forward, backward_fn* backward, const ck_case* c, int nth) {
    const ck_delta_problem* p = &c->p;
    const int64_t keys = p->n * p->key_heads * p->key_dim, gates = p->n * p->heads;
    ck_made m = {.n_y = gates * p->value_dim,
                 .n_states = (p->n + 63) / 64 * p->heads * p->key_dim * p->value_dim,
                 .n_slope = {keys, keys, gates * p->value_dim, gates, gates}};
    m.y = ck_buffer_of(m.n_y * 4, 4);
    m.states = ck_buffer_of(m.n_states * 4, 4);
    for (int i = 0; i < RESULTS; i++)
        m.slope[i] = ck_buffer_of(m.n_slope[i] * 4, 4);
    for (int tid = 0; tid < nth; tid++)
        forward(m.y.p, m.states.p, p->q.p, p->k.p, p->v.p, p->g.p, p->beta.p, c->starts.p, p->n, p->heads,
                p->key_heads, p->key_dim, p->value_dim, p->cyclic, p->scale, tid, nth);
    for (int tid = 0; tid < nth; tid++)
        backward(m.slope[0].p, m.slope[1].p, m.slope[2].p, m.slope[3].p, m.slope[4].p, p->q.p, p->k.p, p->v.p,
                 p->g.p, p->beta.p, m.states.p, c->dy.p, c->starts.p, p->n, p->heads, p->key_heads,
                 p->key_dim, p->value_dim, p->cyclic, p->scale, tid, nth);
    return m;
}

static void free_made(ck_made m) {
    ck_buffer_free(m.y);
    ck_buffer_free(m.states);
    for (int i = 0; i < RESULTS; i++)
        ck_buffer_free(m.slope[i]);
}

// The bits of delta_rule, document by document.
static void check_forward(rule_fn* rule, const char* name, const ck_case* c, const ck_made* m) {
    const ck_delta_problem* p = &c->p;
    const int64_t keys = p->key_heads * p->key_dim, values = p->heads * p->value_dim;
    const int64_t floats = p->heads * p->key_dim * p->value_dim;
    const ck_buffer state = ck_buffer_of(floats * 4, 4), y = ck_buffer_of(values * 4, 4);
    const int32_t* starts = c->starts.p;
    int64_t wrong = 0;
    for (int64_t t = 0; t < p->n; t++) {
        const int64_t at = t - starts[t];
        if (at > 0 && at % 64 == 0)
            wrong += memcmp((float*)m->states.p + t / 64 * floats, state.p, (size_t)floats * 4) != 0;
        rule(state.p, y.p, (float*)p->q.p + t * keys, (float*)p->k.p + t * keys, (float*)p->v.p + t * values,
             (float*)p->g.p + t * p->heads, (float*)p->beta.p + t * p->heads, 1, at, p->heads, p->key_heads,
             p->key_dim, p->value_dim, p->cyclic, p->scale, 0, 1);
        wrong += memcmp((float*)m->y.p + t * values, y.p, (size_t)values * 4) != 0;
    }
    CK_CHECK(wrong == 0, "%s: n %d: %d rows are not delta_rule's", name, (int)p->n, (int)wrong);
    ck_buffer_free(state);
    ck_buffer_free(y);
}

// sum dy * y in double, of the document of rows [begin, end).
static double loss(const ck_case* c, int64_t begin, int64_t end) {
    const ck_delta_problem* p = &c->p;
    const int64_t floats = p->key_dim * p->value_dim;
    const ck_buffer s = ck_buffer_of(floats * 8, 8), y = ck_buffer_of(p->value_dim * 8, 8);
    double sum = 0;
    for (int64_t h = 0; h < p->heads; h++) {
        memset(s.p, 0, (size_t)floats * 8);
        for (int64_t t = begin; t < end; t++) {
            delta_row(p, t, h, s.p, y.p);
            for (int64_t j = 0; j < p->value_dim; j++)
                sum += ((double*)y.p)[j] * ((float*)c->dy.p)[(t * p->heads + h) * p->value_dim + j];
        }
    }
    ck_buffer_free(s);
    ck_buffer_free(y);
    return sum;
}

// Moves one input at a time, every `stride`th of them, and compares slopes.
static void check_slopes(const char* name, ck_case* c, const ck_made* m) {
    const ck_buffer inputs[RESULTS] = {c->p.q, c->p.k, c->p.v, c->p.g, c->p.beta};
    const int32_t* starts = c->starts.p;
    for (int i = 0; i < RESULTS; i++) {
        const int64_t stride = m->n_slope[i] / 23 + 1, row = m->n_slope[i] / c->p.n;
        double error = 0, size = 0;
        for (int64_t at = stride / 2; at < m->n_slope[i]; at += stride) {
            float* x = (float*)inputs[i].p + at;
            const float was = *x;
            const int64_t begin = starts[at / row];
            int64_t end = at / row;
            while (end < c->p.n && starts[end] == begin)
                end++;
            *x = was + 0x1p-9f;
            const double up = loss(c, begin, end), above = *x;
            *x = was - 0x1p-9f;
            const double slope = (up - loss(c, begin, end)) / (above - (double)*x);
            *x = was;
            const double got = ((float*)m->slope[i].p)[at];
            error += (got - slope) * (got - slope);
            size += slope * slope;
        }
        CK_CHECK(error <= 1e-8 * size, "%s: n %d: gradient %d is off by %g", name, (int)c->p.n, i,
                 sqrt(error / size));
    }
}

static bool same_bits(const ck_made* a, const ck_made* b) {
    bool same = memcmp(a->y.p, b->y.p, (size_t)a->n_y * 4) == 0 &&
                memcmp(a->states.p, b->states.p, (size_t)a->n_states * 4) == 0;
    for (int i = 0; i < RESULTS; i++)
        same = same && memcmp(a->slope[i].p, b->slope[i].p, (size_t)a->n_slope[i] * 4) == 0;
    return same;
}

// The last document alone gives the bits that it gives behind the others, which are NaN.
static void check_alone(forward_fn* forward, backward_fn* backward, const char* name, ck_case* c) {
    const int64_t n = c->p.n, begin = ((int32_t*)c->starts.p)[n - 1];
    ck_buffer* inputs[] = {&c->p.q, &c->p.k, &c->p.v, &c->p.g, &c->p.beta, &c->dy};
    const int64_t keys = c->p.key_heads * c->p.key_dim, values = c->p.heads * c->p.value_dim;
    const int64_t rows[] = {keys, keys, values, c->p.heads, c->p.heads, values};
    for (int i = 0; i < 6; i++)
        for (int64_t at = 0; at < begin * rows[i]; at++)
            ((float*)inputs[i]->p)[at] = NAN;
    const ck_made whole = made_of(forward, backward, c, 1);
    ck_case alone = *c;
    ck_buffer* last[] = {&alone.p.q, &alone.p.k, &alone.p.v, &alone.p.g, &alone.p.beta, &alone.dy};
    for (int i = 0; i < 6; i++)
        last[i]->p = (float*)inputs[i]->p + begin * rows[i];
    alone.p.n = n - begin;
    alone.starts = ck_buffer_of(alone.p.n * 4, 4);
    memset(alone.starts.p, 0, (size_t)alone.p.n * 4);
    const ck_made part = made_of(forward, backward, &alone, 2);
    bool same = memcmp((float*)whole.y.p + begin * values, part.y.p, (size_t)part.n_y * 4) == 0;
    for (int i = 0; i < RESULTS; i++)
        same = same && memcmp((float*)whole.slope[i].p + begin * rows[i], part.slope[i].p,
                              (size_t)part.n_slope[i] * 4) == 0;
    CK_CHECK(same, "%s: n %d: the last document has other bits alone", name, (int)n);
    ck_buffer_free(alone.starts);
    free_made(whole);
    free_made(part);
}

static const int64_t sizes[][5] = {
    // heads, key heads, their widths, cyclic
    {1, 1, 1, 1, 0}, {4, 2, 7, 33, 0}, {6, 3, 16, 20, 1}, {2, 1, 128, 128, 0}, {3, 3, 80, 48, 1},
};
static const int64_t lengths[][5] = {{1}, {3, 1, 70}, {64, 65}, {16, 150, 20}, {130, 1}};

static void check_all(forward_fn* forward, backward_fn* backward, rule_fn* rule, const char* name) {
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ck_random_state = 0x9e3779b97f4a7c15u + i;
        ck_case c = case_of(sizes[i], lengths[i]);
        const ck_made m = made_of(forward, backward, &c, 1);
        check_forward(rule, name, &c, &m);
        check_slopes(name, &c, &m);
        for (int nth = 2; nth < 5; nth++) {
            const ck_made other = made_of(forward, backward, &c, nth);
            CK_CHECK(same_bits(&m, &other), "%s: n %d: %d slices give other bits", name, (int)c.p.n, nth);
            free_made(other);
        }
        check_alone(forward, backward, name, &c);
        free_made(m);
        free_case(c);
    }
}

static void check_vector_paths(void) {
    const ck_case c = case_of(sizes[4], lengths[3]);
    const ck_made a = made_of(ck_packed_delta_rule__avx2, ck_packed_delta_rule_bwd__avx2, &c, 1),
                  b = made_of(ck_packed_delta_rule__avx512bw, ck_packed_delta_rule_bwd__avx512bw, &c, 1);
    CK_CHECK(same_bits(&a, &b), "avx2 and avx512bw give other bits");
    free_made(a);
    free_made(b);
    free_case(c);
}

#define CHECK(isa) \
    if (ck_cpu_detect() & CK_ISA_##isa) \
        check_all(ck_packed_delta_rule__##isa, ck_packed_delta_rule_bwd__##isa, ck_delta_rule_f32__##isa, \
                  #isa); \
    else \
        ck_skip(#isa);

int main(void) {
    CHECK(scalar)
    CHECK(avx2)
    CHECK(avx512bw)
    if (ck_cpu_detect() & CK_ISA_avx512bw)
        check_vector_paths();
    return ck_finish();
}
