// cross_entropy: rows and grad_rows, scalar against the formulas in double, the others against scalar bit for
// bit; chunks, slices, ignored and absent targets, extreme logits; the products of a chunk; ck_log.
#include <math.h>

#include "../ck_math.h"
#include "../cpu.h"
#include "../kernels/cross_entropy/cross_entropy.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/cross_entropy/kernels.inc"
#undef CK_KERNEL

typedef __typeof__(ck_cross_entropy_rows) rows_fn;
typedef __typeof__(ck_cross_entropy_grad_rows) grad_rows_fn;

// A chunk: rows [first, first + rows) of a batch of which n are live; logits hold the live ones alone.
typedef struct {
    int64_t n, first, rows, n_vocab, live;
    ck_buffer logits, targets, dnll;
} chunk;

static chunk chunk_of(int64_t n, int64_t first, int64_t rows, int64_t n_vocab, float scale) {
    chunk c = {n, first, rows, n_vocab, n - first < rows ? n - first : rows, {0}, {0}, {0}};
    c.live = c.live < 0 ? 0 : c.live;
    c.logits = ck_buffer_of(c.live * n_vocab * 4, 4);
    c.targets = ck_buffer_of(n * 4, 4);
    c.dnll = ck_buffer_of(n * 4, 4);
    for (int64_t i = 0; i < c.live * n_vocab; i++)
        ((float*)c.logits.p)[i] = scale * ck_random_float();
    for (int64_t t = 0; t < n; t++) {
        const bool ignored = ck_random() % 4 == 0 || n_vocab == 0;
        ((int32_t*)c.targets.p)[t] =
            ignored ? -1 - (int32_t)(ck_random() % 100) : (int32_t)(ck_random() % (uint64_t)n_vocab);
        // Nothing of an ignored row is used.
        ((float*)c.dnll.p)[t] = ignored ? NAN : ck_random_float();
    }
    return c;
}

static void chunk_free(chunk* c) {
    ck_buffer_free(c->logits);
    ck_buffer_free(c->targets);
    ck_buffer_free(c->dnll);
}

// The reference in double: nll and softmax of row r.
static double softmax_of(const chunk* c, int64_t r, double* p) {
    const float* row = (const float*)c->logits.p + r * c->n_vocab;
    double m = -INFINITY, s = 0;
    for (int64_t v = 0; v < c->n_vocab; v++)
        m = (double)row[v] > m ? (double)row[v] : m;
    for (int64_t v = 0; v < c->n_vocab; v++)
        s += p[v] = exp((double)row[v] - m);
    for (int64_t v = 0; v < c->n_vocab; v++)
        p[v] /= s;
    return log(s) + m - (double)row[((const int32_t*)c->targets.p)[c->first + r]];
}

// size: the greatest |logit|. l - m is off by half a unit of 2 size, which e^ turns into a relative error; e^
// is within 2 ulp, and each of 64 sums adds n_vocab / 64 terms, the join 6 more.
static double relative_error(const chunk* c, double size) {
    return 0x1p-24 * (2 * size + 4 + (double)c->n_vocab / 64 + 6);
}

static void check_row(const chunk* c, int64_t r, const float* nll, const float* gradient, double size,
                      double* p) {
    const int64_t t = c->first + r;
    const int32_t target = ((const int32_t*)c->targets.p)[t];
    double want = 0, worst = 0;
    if (target >= 0)
        want = softmax_of(c, r, p);
    const double relative = relative_error(c, size);
    const double bound = relative + 0x1p-24 * 3 * (fabs(want) + 2 * size + 12);
    CK_CHECK(fabs((double)nll[t] - want) <= bound, "nll of row %d, vocabulary %d: %g, want %g", (int)t,
             (int)c->n_vocab, (double)nll[t], want);
    for (int64_t v = 0; v < c->n_vocab; v++) {
        const double dnll = (double)((const float*)c->dnll.p)[t];
        const double dlogit = target < 0 ? 0 : (p[v] - (v == target)) * dnll;
        const double error = fabs((double)gradient[r * c->n_vocab + v] - dlogit);
        worst = error <= worst ? worst : error;
    }
    // p <= 1 and |dnll| <= 1: the quotient, the product, the difference and the product, each rounded.
    CK_CHECK(target < 0 ? worst == 0 : worst <= 2 * relative + 0x1p-24 * 8,
             "gradient of row %d, vocabulary %d: off by %g", (int)t, (int)c->n_vocab, worst);
}

static void run_rows(rows_fn* kernel, const chunk* c, float* nll, int nth) {
    for (int tid = 0; tid < nth; tid++)
        kernel(nll, c->logits.p, c->targets.p, c->n, c->first, c->rows, c->n_vocab, tid, nth);
}

static void run_grad_rows(grad_rows_fn* kernel, const chunk* c, float* nll, float* logits, int nth) {
    memcpy(logits, c->logits.p, (size_t)(c->live * c->n_vocab) * 4);
    for (int tid = 0; tid < nth; tid++)
        kernel(nll, logits, c->targets.p, c->dnll.p, c->n, c->first, c->rows, c->n_vocab, tid, nth);
}

// Every kernel in 1, 2 and 3 slices: the same bits, and of nll no row outside the chunk.
static void check_all(const chunk* c, const float* nll, const float* gradient) {
    const ck_buffer own = ck_buffer_of(c->n * 4, 4), logits = ck_buffer_of(c->live * c->n_vocab * 4, 4);
    const size_t n_bytes = (size_t)(c->live * c->n_vocab) * 4, nll_bytes = (size_t)c->n * 4;
#define SAME(function) \
    CK_CHECK(memcmp(own.p, nll, nll_bytes) == 0, "%s: nll, n %d first %d rows %d vocabulary %d nth %d", \
             #function, (int)c->n, (int)c->first, (int)c->rows, (int)c->n_vocab, nth)
#define RUN_ck_cross_entropy_rows(function) \
    run_rows(function, c, own.p, nth); \
    SAME(function);
#define RUN_ck_cross_entropy_grad_rows(function) \
    run_grad_rows(function, c, own.p, logits.p, nth); \
    SAME(function); \
    CK_CHECK(memcmp(logits.p, gradient, n_bytes) == 0, \
             "%s: gradient, n %d first %d rows %d vocabulary %d nth %d", #function, (int)c->n, \
             (int)c->first, (int)c->rows, (int)c->n_vocab, nth);
#define CK_KERNEL(symbol, isa, function) \
    for (int nth = 1; (ck_cpu_detect() & CK_ISA_##isa) && nth < 4; nth++) { \
        memset(own.p, 0xff, nll_bytes); \
        RUN_##symbol(function) \
    }
#include "../kernels/cross_entropy/kernels.inc"
#undef CK_KERNEL
    ck_buffer_free(own);
    ck_buffer_free(logits);
}

static void check_chunk(int64_t n, int64_t first, int64_t rows, int64_t n_vocab, float scale) {
    chunk c = chunk_of(n, first, rows, n_vocab, scale);
    const ck_buffer nll = ck_buffer_of(n * 4, 4), gradient = ck_buffer_of(c.live * n_vocab * 4, 4);
    const ck_buffer p = ck_buffer_of(n_vocab * 8, 0);
    memset(nll.p, 0xff, (size_t)n * 4);
    run_grad_rows(ck_cross_entropy_grad_rows__scalar, &c, nll.p, gradient.p, 1);
    for (int64_t t = 0; t < n; t++)
        if (t < first || t >= first + c.live)
            CK_CHECK(ck_float_bits(((const float*)nll.p)[t]) == 0xffffffff, "nll of row %d was written",
                     (int)t);
    for (int64_t r = 0; r < c.live; r++)
        check_row(&c, r, nll.p, gradient.p, (double)scale, p.p);
    check_all(&c, nll.p, gradient.p);
    ck_buffer_free(nll);
    ck_buffer_free(gradient);
    ck_buffer_free(p);
    chunk_free(&c);
}

// Rows whose result is known: far apart, -inf among them, equal, NaN, +inf, a target past the vocabulary.
static void check_extremes(grad_rows_fn* kernel, const char* name) {
    const float inf = INFINITY;
    float logits[6][3] = {{1000, -1000, 0}, {-inf, 3, 3}, {5, 5, 5}, {1, NAN, 2}, {inf, 1, 2}, {1, 2, 3}};
    const int32_t targets[6] = {0, 1, 2, 0, 1, 3};
    const float dnll[6] = {1, 1, 3, 1, 1, 1};
    float nll[6];
    kernel(nll, logits[0], targets, dnll, 6, 0, 6, 3, 0, 1);
    CK_CHECK(nll[0] == 0 && logits[0][0] == 0 && logits[0][1] == 0 && logits[0][2] == 0, "%s: far apart",
             name);
    CK_CHECK(nll[1] == ck_log(2.0f) && logits[1][0] == 0 && logits[1][1] == -0.5f && logits[1][2] == 0.5f,
             "%s: -inf", name);
    CK_CHECK(nll[2] == ck_log(3.0f) && fabsf(logits[2][0] - 1) < 1e-6f && fabsf(logits[2][2] + 2) < 1e-6f,
             "%s: equal", name);
    for (int r = 3; r < 6; r++)
        CK_CHECK(isnan(nll[r]) && isnan(logits[r][0]) && isnan(logits[r][1]) && isnan(logits[r][2]),
                 "%s: row %d is not NaN", name, r);
}

// The three products of a type.
typedef struct {
    const char* type;
    __typeof__(ck_cross_entropy_logits_f32)* logits;
    __typeof__(ck_cross_entropy_dhidden_f32)* dhidden;
    __typeof__(ck_cross_entropy_dw_f32)* dw;
} products;

static const products types[] = {
    {"f32", ck_cross_entropy_logits_f32, ck_cross_entropy_dhidden_f32, ck_cross_entropy_dw_f32},
    {"bf16", ck_cross_entropy_logits_bf16, ck_cross_entropy_dhidden_bf16, ck_cross_entropy_dw_bf16},
};

// Numbers that every type holds, so that sums are exact.
static ck_buffer small_integers(int64_t n) {
    const ck_buffer x = ck_buffer_of(n * 4, 4);
    for (int64_t i = 0; i < n; i++)
        ((float*)x.p)[i] = (float)(ck_random() % 17) - 8;
    return x;
}

// sum_k a[k * a_step] * b[k * b_step]
static float dot(const float* a, int64_t a_step, const float* b, int64_t b_step, int64_t n) {
    float sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += a[k * a_step] * b[k * b_step];
    return sum;
}

static void check_products(const products* type, int64_t n, int64_t first, int64_t rows, int64_t n_vocab,
                           int64_t d, int64_t add) {
    const int64_t live = n - first < 0 ? 0 : n - first < rows ? n - first : rows;
    const ck_buffer hidden = small_integers(n * d), w = small_integers(n_vocab * d),
                    dlogits = small_integers(live * n_vocab);
    const ck_buffer logits = small_integers(live * n_vocab), dhidden = small_integers(n * d),
                    dw = small_integers(n_vocab * d);
    const ck_buffer old_dhidden = ck_buffer_of(n * d * 4, 4), old_dw = ck_buffer_of(n_vocab * d * 4, 4);
    const float *h = (const float*)hidden.p + first * d, *matrix = w.p, *g = dlogits.p;
    memcpy(old_dhidden.p, dhidden.p, (size_t)(n * d) * 4);
    memcpy(old_dw.p, dw.p, (size_t)(n_vocab * d) * 4);
    for (int tid = 0; tid < 3; tid++) {
        type->logits(logits.p, hidden.p, w.p, n, first, rows, n_vocab, d, tid, 3);
        type->dhidden(dhidden.p, dlogits.p, w.p, n, first, rows, n_vocab, d, tid, 3);
        type->dw(dw.p, dlogits.p, hidden.p, n, first, rows, n_vocab, d, add, tid, 3);
    }
    int n_wrong = 0;
    for (int64_t i = 0; i < live * n_vocab; i++)
        n_wrong += ((float*)logits.p)[i] != dot(h + i / n_vocab * d, 1, matrix + i % n_vocab * d, 1, d);
    for (int64_t i = 0; i < n * d; i++) {
        const int64_t r = i / d - first;
        const float want = r >= 0 && r < live ? dot(g + r * n_vocab, 1, matrix + i % d, d, n_vocab)
                                              : ((float*)old_dhidden.p)[i];
        n_wrong += ((float*)dhidden.p)[i] != want;
    }
    for (int64_t i = 0; i < n_vocab * d; i++)
        n_wrong += ((float*)dw.p)[i] !=
                   dot(g + i / d, n_vocab, h + i % d, d, live) + (add ? ((float*)old_dw.p)[i] : 0);
    CK_CHECK(n_wrong == 0, "%s add %d n %d first %d rows %d: %d wrong", type->type, (int)add, (int)n,
             (int)first, (int)rows, n_wrong);
    const ck_buffer all[] = {hidden, w, dlogits, logits, dhidden, dw, old_dhidden, old_dw};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ck_buffer_free(all[i]);
}

static void check_log(void) {
    double worst = 0;
    for (uint32_t bits = 1; bits < 0x7f800000; bits += 997) {
        const float x = ck_bits_float(bits), want = (float)log((double)x);
        const double ulp = fabs((double)nextafterf(want, INFINITY) - (double)want);
        const double error = fabs((double)ck_log(x) - log((double)x)) / ulp;
        worst = error > worst ? error : worst;
    }
    CK_CHECK(worst <= 1, "ck_log: off by %g ulp", worst);
    CK_CHECK(ck_log(1) == 0 && ck_log(0) == -INFINITY && ck_log(INFINITY) == INFINITY, "ck_log: 1, 0, inf");
    CK_CHECK(isnan(ck_log(-1)) && isnan(ck_log(-INFINITY)) && isnan(ck_log(NAN)), "ck_log: not NaN");
}

int main(void) {
    static const int64_t vocabularies[] = {1, 2, 15, 16, 17, 63, 64, 65, 127, 1000, 4099};
    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++)
        for (int64_t first = 0; first < 12; first += 4) {
            check_chunk(7, first, 4, vocabularies[i], 4);
            check_chunk(9, first, 4, vocabularies[i], 100);
        }
    check_chunk(0, 0, 4, 10, 1);
    check_chunk(3, 0, 3, 0, 1);
    for (int i = 0; i < 4; i++) {
        for (int64_t first = 0; first < 10; first += 5)
            check_products(&types[i / 2], 8, first, 5, 37, 21, i % 2);
        check_products(&types[i / 2], 8, 8, 5, 7, 6, i % 2);
        check_products(&types[i / 2], 0, 0, 4, 5, 6, i % 2);
    }
    check_extremes(ck_cross_entropy_grad_rows, "ck_cross_entropy_grad_rows");
    check_log();
#define CK_KERNEL(symbol, isa, function) \
    if (!(ck_cpu_detect() & CK_ISA_##isa)) \
        ck_skip(#function);
#include "../kernels/cross_entropy/kernels.inc"
    return ck_finish();
}
