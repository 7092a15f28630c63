// Problems of the delta rule, and the rule in double.
#pragma once

#include <math.h>

#include "check.h"

typedef struct {
    int64_t n, heads, key_heads, key_dim, value_dim, cyclic;
    float scale;
    ck_buffer q, k, v, g, beta;
} ck_delta_problem;

// Keys of length 1, decays below 1, rates from 0 to 1: without them a state grows with every row. Even heads
// decay so slowly that what is before a piece of 64 rows counts behind it.
static ck_delta_problem delta_problem(int64_t n, int64_t heads, int64_t key_heads, int64_t key_dim,
                                      int64_t value_dim, int64_t cyclic) {
    ck_delta_problem p = {.n = n, .heads = heads, .key_heads = key_heads, .key_dim = key_dim,
                          .value_dim = value_dim, .cyclic = cyclic, .scale = 0.25f};
    p.q = ck_buffer_of(n * key_heads * key_dim * 4, 4);
    p.k = ck_buffer_of(n * key_heads * key_dim * 4, 4);
    p.v = ck_buffer_of(n * heads * value_dim * 4, 4);
    p.g = ck_buffer_of(n * heads * 4, 4);
    p.beta = ck_buffer_of(n * heads * 4, 4);
    ck_random_floats(p.q.p, n * key_heads * key_dim);
    ck_random_floats(p.k.p, n * key_heads * key_dim);
    ck_random_floats(p.v.p, n * heads * value_dim);
    for (int64_t i = 0; i < n * heads; i++) {
        ((float*)p.g.p)[i] = -fabsf(ck_random_float()) * (i % heads % 2 ? 1.0f : 0.01f);
        ((float*)p.beta.p)[i] = fabsf(ck_random_float());
    }
    for (int64_t r = 0; r < n * key_heads; r++) {
        float *key = (float*)p.k.p + r * key_dim, sum = 1e-6f;
        for (int64_t i = 0; i < key_dim; i++)
            sum += key[i] * key[i];
        for (int64_t i = 0; i < key_dim; i++)
            key[i] /= sqrtf(sum);
    }
    return p;
}

static void free_delta_problem(ck_delta_problem p) {
    const ck_buffer all[] = {p.q, p.k, p.v, p.g, p.beta};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ck_buffer_free(all[i]);
}

static int64_t key_head_of(const ck_delta_problem* p, int64_t head) {
    return p->cyclic ? head % p->key_heads : head / (p->heads / p->key_heads);
}

// One row of one head: s [key_dim][value_dim] goes on, y [value_dim] is the answer.
static void delta_row(const ck_delta_problem* p, int64_t t, int64_t head, double* s, double* y) {
    const int64_t keys = (t * p->key_heads + key_head_of(p, head)) * p->key_dim;
    const float *q = (const float*)p->q.p + keys, *k = (const float*)p->k.p + keys;
    const float* v = (const float*)p->v.p + (t * p->heads + head) * p->value_dim;
    const double decay = exp(((const float*)p->g.p)[t * p->heads + head]);
    const double beta = ((const float*)p->beta.p)[t * p->heads + head];
    for (int64_t j = 0; j < p->value_dim; j++) {
        double sum = 0, answer = 0;
        for (int64_t i = 0; i < p->key_dim; i++)
            sum += s[i * p->value_dim + j] * k[i];
        const double d = beta * (v[j] - decay * sum);
        for (int64_t i = 0; i < p->key_dim; i++) {
            double* at = s + i * p->value_dim + j;
            *at = decay * *at + k[i] * d;
            answer += *at * q[i];
        }
        y[j] = p->scale * answer;
    }
}
