// attention: every kernel against softmax in double; avx2 and avx512bw the same bits; one row alone, all
// rows, and any number of slices the same bits; slots that no row may see hold NaN.
#include <math.h>

#include "../cpu.h"
#include "../kernels/attention/attention.h"
#include "../kernels/half.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/attention/kernels.inc"
#undef CK_KERNEL

typedef __typeof__(ck_attention_f32) attention_fn;

typedef struct {
    attention_fn* run;
    const char* name;
    uint64_t isa;
    int bytes;
} kernel;

#define CK_KERNEL(symbol, isa, function) \
    {function, #function, CK_ISA_##isa, strstr(#symbol, "f16") != NULL ? 2 : 4},
static const kernel kernels[6] = {
#include "../kernels/attention/kernels.inc"
};
#undef CK_KERNEL
enum { N_KERNELS = sizeof kernels / sizeof kernels[0] };

// Rows at positions pos .. pos + n - 1, after all the earlier ones; k and v [pos + n][kv_heads][head_dim].
typedef struct {
    int64_t n, pos, heads, kv_heads, head_dim, capacity, window;
    float scale;
    ck_buffer q, k, v, kv[2];  // kv[0] f16, kv[1] f32
} problem;

static float stored(const problem* p, ck_buffer rows, int bytes, int64_t position, int64_t h, int64_t d) {
    const float x = ((const float*)rows.p)[(position * p->kv_heads + h) * p->head_dim + d];
    return bytes == 2 ? ck_f16_float(ck_float_f16(x)) : x;
}

// Fills the cache with NaN, then appends only what some row can see, a ragged chunk at a time.
static void fill(problem* p) {
    const int64_t width = p->kv_heads * p->head_dim, end = p->pos + p->n;
    int64_t first = p->window > 0 && p->pos + 1 > p->window ? p->pos + 1 - p->window : 0;
    for (int i = 0; i < 2; i++) {
        const int64_t n_bytes = 2 * p->capacity * width * (i == 0 ? 2 : 4);
        p->kv[i] = ck_buffer_of(n_bytes, i == 0 ? 2 : 4);
        memset(p->kv[i].p, 0xff, (size_t)n_bytes);
    }
    for (int64_t chunk = 1; first < end; first += chunk, chunk = 50) {
        chunk = end - first < chunk ? end - first : chunk;
        const float *k = (const float*)p->k.p + first * width, *v = (const float*)p->v.p + first * width;
        ck_kv_append_f16(p->kv[0].p, k, v, chunk, first, p->kv_heads, p->head_dim, p->capacity, 0, 1);
        ck_kv_append_f32(p->kv[1].p, k, v, chunk, first, p->kv_heads, p->head_dim, p->capacity, 0, 1);
    }
}

static problem problem_of(int64_t n, int64_t pos, int64_t heads, int64_t kv_heads, int64_t head_dim,
                          int64_t window) {
    const int64_t positions = pos + n, width = kv_heads * head_dim;
    const int64_t most = window > 0 && window + n < positions ? window + n : positions;
    problem p = {n,      pos,  heads, kv_heads, head_dim, most > 0 ? (most + 63) / 64 * 64 : 64,
                 window, 0.3f, {0},   {0},      {0},      {{0}}};
    p.q = ck_buffer_of(n * heads * head_dim * 4, 4);
    p.k = ck_buffer_of(positions * width * 4, 4);
    p.v = ck_buffer_of(positions * width * 4, 4);
    ck_random_floats(p.q.p, n * heads * head_dim);
    ck_random_floats(p.k.p, positions * width);
    ck_random_floats(p.v.p, positions * width);
    fill(&p);
    return p;
}

static void problem_free(problem* p) {
    ck_buffer_free(p->q);
    ck_buffer_free(p->k);
    ck_buffer_free(p->v);
    ck_buffer_free(p->kv[0]);
    ck_buffer_free(p->kv[1]);
}

// Rows [first, first + n) of the problem, in nth slices, into y.
static void run(const kernel* k, const problem* p, float* y, int64_t first, int64_t n, int nth) {
    const int64_t offset = first * p->heads * p->head_dim;
    for (int tid = 0; tid < nth; tid++)
        k->run(y + offset, (const float*)p->q.p + offset, p->kv[k->bytes == 2 ? 0 : 1].p, n, p->pos + first,
               p->heads, p->kv_heads, p->head_dim, p->capacity, p->window, p->scale, tid, nth);
}

typedef struct {
    double y[256], bound;
} row;

// The row of one query head at position t, in double over the stored values, and a bound of what f32 may
// differ by.
static void reference(const problem* p, int bytes, int64_t i, int64_t head, row* out) {
    const double eps = 0x1p-24;
    const int64_t h = head / (p->heads / p->kv_heads), t = p->pos + i;
    const float* q = (const float*)p->q.p + (i * p->heads + head) * p->head_dim;
    double sum = 0, most = 0, top = -INFINITY, *s = malloc((size_t)(t + 1) * sizeof *s);
    const int64_t from = p->window > 0 && t + 1 > p->window ? t + 1 - p->window : 0;
    for (int64_t at = from; at <= t; at++) {
        double dot = 0, size = 0;
        for (int64_t d = 0; d < p->head_dim; d++) {
            const double term = (double)q[d] * (double)stored(p, p->k, bytes, at, h, d);
            dot += term;
            size += fabs(term);
        }
        s[at] = (double)p->scale * dot;
        top = s[at] > top ? s[at] : top;
        most = (double)p->scale * size > most ? (double)p->scale * size : most;
    }
    memset(out->y, 0, sizeof out->y);
    for (int64_t at = from; at <= t; at++)
        sum += s[at] = exp(s[at] - top);
    for (int64_t at = from; at <= t; at++)
        for (int64_t d = 0; d < p->head_dim; d++)
            out->y[d] += s[at] / sum * (double)stored(p, p->v, bytes, at, h, d);
    free(s);
    // A dot of head_dim terms, doubled for mul and add apart, moves a weight by `most` times its relative
    // error; each of the t + 1 - from terms of the sums of weights and of values, |v| <= 1, rounds once or
    // twice.
    out->bound = 4 * eps * ((double)(p->head_dim + 4) * most + (double)(t + 1 - from) + 16);
}

static void check_reference(const kernel* k, const problem* p, const float* y) {
    static row want;
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t head = 0; head < p->heads; head++) {
            double worst = 0;
            reference(p, k->bytes, i, head, &want);
            for (int64_t d = 0; d < p->head_dim; d++) {
                const double error = fabs((double)y[(i * p->heads + head) * p->head_dim + d] - want.y[d]);
                worst = error <= worst ? worst : error;
            }
            CK_CHECK(worst <= want.bound, "%s: n %d pos %d head_dim %d window %d row %d: error %g above %g",
                     k->name, (int)p->n, (int)p->pos, (int)p->head_dim, (int)p->window, (int)i, worst,
                     want.bound);
        }
}

static void check_kernel(const kernel* k, const problem* p, float* y, const float* fused,
                         bool all_references) {
    const int64_t n = p->n * p->heads * p->head_dim;
    const ck_buffer other = ck_buffer_of(n * 4, 4);
    memset(y, 0xff, (size_t)n * 4);
    run(k, p, y, 0, p->n, 1);
    if (all_references)
        check_reference(k, p, y);
    CK_CHECK(fused == NULL || memcmp(y, fused, (size_t)n * 4) == 0, "%s: n %d pos %d: bits differ from avx2",
             k->name, (int)p->n, (int)p->pos);
    for (int nth = 2; nth <= 5; nth++) {
        memset(other.p, 0xff, (size_t)n * 4);
        run(k, p, other.p, 0, p->n, nth);
        CK_CHECK(memcmp(y, other.p, (size_t)n * 4) == 0, "%s: n %d pos %d: bits differ in %d slices", k->name,
                 (int)p->n, (int)p->pos, nth);
    }
    for (int64_t chunk = 1; chunk < p->n; chunk = 7 * chunk - 1) {
        memset(other.p, 0xff, (size_t)n * 4);
        for (int64_t i = 0; i < p->n; i += chunk)
            run(k, p, other.p, i, p->n - i < chunk ? p->n - i : chunk, 1);
        CK_CHECK(memcmp(y, other.p, (size_t)n * 4) == 0, "%s: n %d pos %d: bits differ in chunks of %d",
                 k->name, (int)p->n, (int)p->pos, (int)chunk);
    }
    ck_buffer_free(other);
}

static void check_shape(int64_t n, int64_t pos, int64_t heads, int64_t kv_heads, int64_t head_dim,
                        int64_t window) {
    problem p = problem_of(n, pos, heads, kv_heads, head_dim, window);
    const ck_buffer y = ck_buffer_of(n * heads * head_dim * 4, 4),
                    avx2 = ck_buffer_of(n * heads * head_dim * 4, 4);
    for (int i = 0; i < N_KERNELS; i++) {
        if (!(ck_cpu_detect() & kernels[i].isa))
            continue;
        const bool fused = kernels[i].isa == CK_ISA_avx512bw;
        check_kernel(&kernels[i], &p, y.p, fused ? avx2.p : NULL, !fused);
        if (kernels[i].isa == CK_ISA_avx2)
            memcpy(avx2.p, y.p, (size_t)(n * heads * head_dim) * 4);
    }
    ck_buffer_free(y);
    ck_buffer_free(avx2);
    problem_free(&p);
}

int main(void) {
    static const int64_t lengths[][2] = {
        // n, pos
        {0, 0}, {1, 0}, {1, 63}, {1, 64}, {2, 63}, {7, 0}, {64, 0}, {65, 60}, {130, 1}, {13, 300},
    };
    static const int64_t heads[][3] = {{1, 1, 16}, {3, 1, 64}, {4, 2, 48}, {9, 3, 80}};
    static const int64_t windows[] = {0, 1, 5, 64, 100};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (size_t w = 0; w < sizeof windows / sizeof windows[0]; w++) {
            const int64_t* h = heads[(i + w) % 4];
            check_shape(lengths[i][0], lengths[i][1], h[0], h[1], h[2], windows[w]);
        }
    check_shape(9, 120, 4, 1, 256, 0);
    check_shape(13, 600, 4, 1, 256, 512);
    for (int i = 0; i < N_KERNELS; i++)
        if (!(ck_cpu_detect() & kernels[i].isa))
            ck_skip(kernels[i].name);
    return ck_finish();
}
