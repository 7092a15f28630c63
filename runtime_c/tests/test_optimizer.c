// accumulate, square_sums, clip, adamw, sgd: each kernel against the formula in double and bit for bit against
// the contract, by fmaf; slices, odd sizes, decay towards 0 and 1, clipping, what is NaN.
#include <math.h>

#include "../ck_math.h"
#include "../cpu.h"
#include "../kernels/optimizer/optimizer.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/optimizer/kernels.inc"
#undef CK_KERNEL

enum { ARRAYS = 4, W = 0, G = 1, M = 2, V = 3 };

// w, g, m, v: random, v not negative.
typedef struct {
    int64_t n;
    ck_buffer array[ARRAYS];
} state;

static float at(const state* s, int which, int64_t i) {
    return ((const float*)s->array[which].p)[i];
}

static state state_of(int64_t n) {
    state s = {.n = n};
    for (int a = 0; a < ARRAYS; a++) {
        s.array[a] = ck_buffer_of(n * 4, 4);
        ck_random_floats(s.array[a].p, n);
    }
    for (int64_t i = 0; i < n; i++)
        ((float*)s.array[V].p)[i] *= ((float*)s.array[V].p)[i];
    return s;
}

static state copy_of(const state* from) {
    state s = state_of(from->n);
    for (int a = 0; a < ARRAYS; a++)
        memcpy(s.array[a].p, from->array[a].p, (size_t)s.n * 4);
    return s;
}

static void state_free(state* s) {
    for (int a = 0; a < ARRAYS; a++)
        ck_buffer_free(s->array[a]);
}

// fma where the path has it.
static float fused(uint64_t isa, float a, float b, float c) {
    return isa == CK_ISA_scalar ? a * b + c : fmaf(a, b, c);
}

static int differs(float a, float b) {
    return ck_float_bits(a) != ck_float_bits(b);
}

static void check_accumulate(__typeof__(ck_accumulate)* kernel, uint64_t isa, const char* name, int64_t n,
                             int nth) {
    (void)isa;
    state s = state_of(n), before = copy_of(&s);
    int n_wrong = 0;
    for (int tid = 0; tid < nth; tid++)
        kernel(s.array[W].p, s.array[G].p, n, tid, nth);
    for (int64_t i = 0; i < n; i++)
        n_wrong += differs(at(&s, W, i), at(&before, W, i) + at(&before, G, i));
    CK_CHECK(n_wrong == 0, "%s n %d nth %d: %d wrong", name, (int)n, nth, n_wrong);
    state_free(&s);
    state_free(&before);
}

// The squares of n <= 4096 elements in the order of the contract.
static float contract_squares(const float* g, int64_t n) {
    double sum[32] = {0};
    for (int64_t i = 0; i < n; i++)
        sum[i % 32] += (double)g[i] * (double)g[i];
    for (int i = 0; i < 8; i++)
        sum[i] = (sum[i] + sum[i + 8]) + (sum[i + 16] + sum[i + 24]);
    for (int half = 4; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            sum[i] += sum[i + half];
    return (float)sum[0];
}

static void check_square_sums(__typeof__(ck_square_sums)* kernel, uint64_t isa, const char* name, int64_t n,
                              int nth) {
    (void)isa;
    state s = state_of(n);
    const int64_t n_pieces = (n + 4095) / 4096;
    const ck_buffer partials = ck_buffer_of((n_pieces + 2) * 4, 4);
    memset(partials.p, 0xff, (size_t)(n_pieces + 2) * 4);
    for (int tid = 0; tid < nth; tid++)
        kernel(partials.p, s.array[G].p, n, 2, tid, nth);
    double total = 0, want = 0;
    int n_wrong = 0;
    for (int64_t i = 0; i < n_pieces; i++) {
        const float got = ((const float*)partials.p)[2 + i];
        n_wrong += differs(got, contract_squares((const float*)s.array[G].p + 4096 * i,
                                                 n - 4096 * i < 4096 ? n - 4096 * i : 4096));
        total += (double)got;
    }
    for (int64_t i = 0; i < n; i++)
        want += (double)at(&s, G, i) * (double)at(&s, G, i);
    CK_CHECK(n_wrong == 0 && isnan(((const float*)partials.p)[1]), "%s n %d nth %d: %d wrong", name, (int)n,
             nth, n_wrong);
    CK_CHECK(fabs(total - want) <= 0x1p-23 * want, "%s n %d: %g, want %g", name, (int)n, total, want);
    ck_buffer_free(partials);
    state_free(&s);
}

static const float adamw_hyper[8] = {0.99f, 0.1f, 0.95f, 0.05f, 1e-8f, 3e-3f, 0.3f, 1.0f};

// Element i after a step in the order of the contract, to w, m and v.
static void contract_adamw(uint64_t isa, const state* s, int64_t i, float clip, bool decay, float toward,
                           float out[ARRAYS]) {
    const float* h = adamw_hyper;
    const float d = at(s, G, i) * clip;
    float w = at(s, W, i);
    if (decay)
        w = toward == 0 ? w * h[0] : toward + (w - toward) * h[0];
    out[M] = fused(isa, h[1], d - at(s, M, i), at(s, M, i));
    out[V] = fused(isa, h[3] * d, d, at(s, V, i) * h[2]);
    out[W] = w - h[5] * out[M] / (sqrtf(out[V]) / h[6] + h[4]);
    out[G] = 0;
}

// The step in double, and what its roundings may come to: w is rounded three times, m three times at up to 2,
// the quotient's relative error is that of v's three, its root's, and six more.
static bool adamw_is_close(const state* s, const state* before, int64_t i, double clip, bool decay,
                           double toward) {
    const float* h = adamw_hyper;
    const double d = (double)at(before, G, i) * clip, old = (double)at(before, W, i);
    const double w = decay ? toward + (old - toward) * (double)h[0] : old;
    const double m = (double)at(before, M, i) + (d - (double)at(before, M, i)) * (double)h[1];
    const double v = (double)at(before, V, i) * (double)h[2] + d * d * (double)h[3];
    const double root = sqrt(v) / (double)h[6] + (double)h[4], update = (double)h[5] * m / root;
    const double bound = 0x1p-24 * (3 * 3 + (double)h[5] / root * 6 + fabs(update) * 12);
    return fabs((double)at(s, W, i) - (w - update)) <= bound &&
           fabs((double)at(s, M, i) - m) <= 0x1p-24 * 6 && fabs((double)at(s, V, i) - v) <= 0x1p-24 * 4 * v;
}

static void check_adamw(__typeof__(ck_adamw)* kernel, uint64_t isa, const char* name, int64_t n, int nth) {
    for (int variant = 0; variant < 4; variant++) {
        const bool decay = variant > 0;
        const float toward = variant == 2   ? 1.0f
                             : variant == 3 ? 0.5f
                                            : 0.0f,
                    norm[2] = {3.0f, variant == 1 ? 1.0f : 0.37f};
        state s = state_of(n), before = copy_of(&s);
        int n_wrong = 0, n_far = 0;
        for (int tid = 0; tid < nth; tid++)
            kernel(s.array[W].p, s.array[G].p, s.array[M].p, s.array[V].p, norm, adamw_hyper, n, decay,
                   toward, tid, nth);
        for (int64_t i = 0; i < n; i++) {
            float want[ARRAYS];
            contract_adamw(isa, &before, i, norm[1], decay, toward, want);
            for (int a = 0; a < ARRAYS; a++)
                n_wrong += differs(at(&s, a, i), want[a]);
            n_far += !adamw_is_close(&s, &before, i, (double)norm[1], decay, (double)toward);
        }
        CK_CHECK(n_wrong == 0 && n_far == 0, "%s n %d nth %d variant %d: %d other bits, %d far", name, (int)n,
                 nth, variant, n_wrong, n_far);
        state_free(&s);
        state_free(&before);
    }
}

static void check_sgd(__typeof__(ck_sgd)* kernel, uint64_t isa, const char* name, int64_t n, int nth) {
    static const float h[8] = {0.01f, 0.9f, 0.1f, 0, 0, 0, 0, 1.0f};
    for (int variant = 0; variant < 3; variant++) {
        const bool decay = variant > 0;
        const float toward = variant == 2 ? 1.0f : 0.0f, norm[2] = {3.0f, 0.37f};
        state s = state_of(n), before = copy_of(&s);
        int n_wrong = 0, n_far = 0;
        for (int tid = 0; tid < nth; tid++)
            kernel(s.array[W].p, s.array[G].p, s.array[M].p, norm, h, n, decay, toward, tid, nth);
        for (int64_t i = 0; i < n; i++) {
            const float w = at(&before, W, i), g = at(&before, G, i) * norm[1];
            const float d = decay ? fused(isa, h[2], w - toward, g) : g, buf = at(&before, M, i) * h[1] + d;
            n_wrong += differs(at(&s, M, i), buf) + differs(at(&s, W, i), fused(isa, -h[0], buf, w)) +
                       differs(at(&s, G, i), 0);
            const double exact_d = (double)at(&before, G, i) * (double)norm[1] +
                                   (decay ? (double)h[2] * ((double)w - (double)toward) : 0);
            const double exact =
                (double)w - (double)h[0] * ((double)at(&before, M, i) * (double)h[1] + exact_d);
            // Six roundings of numbers below 2, of which the update's count by lr.
            n_far += fabs((double)at(&s, W, i) - exact) > 0x1p-24 * (2 + (double)h[0] * 12);
        }
        CK_CHECK(n_wrong == 0 && n_far == 0, "%s n %d nth %d variant %d: %d other bits, %d far", name, (int)n,
                 nth, variant, n_wrong, n_far);
        state_free(&s);
        state_free(&before);
    }
}

static void check_clip(void) {
    float hyper[8] = {0}, norm[2] = {-1, -1};
    const float partials[3] = {9, 16, 144}, nothing[1] = {0}, nan[2] = {1, NAN};
    ck_clip(norm, partials, hyper, 3, 1, 2);
    CK_CHECK(norm[0] == -1 && norm[1] == -1, "clip: thread 1 wrote");
    ck_clip(norm, partials, hyper, 3, 0, 2);
    CK_CHECK(norm[0] == 13 && norm[1] == 1, "clip: without a bound, %g %g", (double)norm[0], (double)norm[1]);
    hyper[7] = 1.3f;
    ck_clip(norm, partials, hyper, 3, 0, 1);
    CK_CHECK(norm[0] == 13 && norm[1] == 1.0f / (13.0f + 1e-6f) * 1.3f, "clip: %g %g", (double)norm[0],
             (double)norm[1]);
    hyper[7] = 14;
    ck_clip(norm, partials, hyper, 3, 0, 1);
    CK_CHECK(norm[1] == 1, "clip: norm below the bound, %g", (double)norm[1]);
    ck_clip(norm, nothing, hyper, 1, 0, 1);
    CK_CHECK(norm[0] == 0 && norm[1] == 1, "clip: nothing, %g %g", (double)norm[0], (double)norm[1]);
    ck_clip(norm, nothing, hyper, 0, 0, 1);
    CK_CHECK(norm[0] == 0 && norm[1] == 1, "clip: no partials, %g %g", (double)norm[0], (double)norm[1]);
    ck_clip(norm, nan, hyper, 2, 0, 1);
    CK_CHECK(isnan(norm[0]) && isnan(norm[1]), "clip: NaN, %g %g", (double)norm[0], (double)norm[1]);
}

int main(void) {
    static const int64_t sizes[] = {0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 4095, 4096, 4097, 12345};
#define CK_KERNEL(symbol, isa, function) \
    if (!(ck_cpu_detect() & CK_ISA_##isa)) \
        ck_skip(#function); \
    else \
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) \
            for (int nth = 1; nth < 4; nth++) \
                CHECK_##symbol(function, CK_ISA_##isa, #function, sizes[i], nth);
#define CHECK_ck_accumulate check_accumulate
#define CHECK_ck_square_sums check_square_sums
#define CHECK_ck_adamw check_adamw
#define CHECK_ck_sgd check_sgd
#include "../kernels/optimizer/kernels.inc"
    check_clip();
    return ck_finish();
}
