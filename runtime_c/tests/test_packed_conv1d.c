// packed_conv1d: bit for bit the contract on every path, both ways, in any slices; a document of NaN reaches
// no other's rows.
#include <math.h>

#include "../cpu.h"
#include "../kernels/packed_conv1d/packed_conv1d.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/packed_conv1d/kernels.inc"
#undef CK_KERNEL

typedef __typeof__(ck_packed_conv1d) forward_fn;
typedef __typeof__(ck_packed_conv1d_bwd) backward_fn;

typedef struct {
    int64_t n, d, taps, add;
    ck_buffer x, w, dy, dw, starts;
} ck_problem;

// Documents of lengths 1, 2, 3, .. one after the other; `nan_at` fills the one that begins there with NaN.
static ck_problem problem_of(int64_t n, int64_t d, int64_t taps, int64_t add, int64_t nan_at) {
    ck_problem p = {n, d, taps, add, ck_buffer_of(n * d * 4, 4), ck_buffer_of(d * taps * 4, 4),
                    ck_buffer_of(n * d * 4, 4), ck_buffer_of(d * taps * 4, 4), ck_buffer_of(n * 4, 4)};
    ck_random_floats(p.x.p, n * d);
    ck_random_floats(p.w.p, d * taps);
    ck_random_floats(p.dy.p, n * d);
    ck_random_floats(p.dw.p, d * taps);
    int32_t* starts = p.starts.p;
    for (int64_t t = 0, begin = 0, length = 1; t < n; t++) {
        if (t == begin + length)
            begin = t, length++;
        starts[t] = (int32_t)begin;
        for (int64_t c = 0; begin == nan_at && c < d; c++)
            ((float*)p.x.p)[t * d + c] = ((float*)p.dy.p)[t * d + c] = NAN;
    }
    return p;
}

static void free_problem(ck_problem p) {
    const ck_buffer all[] = {p.x, p.w, p.dy, p.dw, p.starts};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ck_buffer_free(all[i]);
}

// from[at][c] if rows at and t are of one document, else 0.
static float own(const ck_problem* p, const float* from, int64_t at, int64_t t, int64_t c) {
    const int32_t* starts = p->starts.p;
    return at >= 0 && at < p->n && starts[at] == starts[t] ? from[at * p->d + c] : 0.0f;
}

// sum_i w[c][i] * rows of `from`, which go on by `step` from row t + first.
static float filtered(const ck_problem* p, const float* from, int64_t t, int64_t first, int64_t step,
                      int64_t c) {
    const float* w = (const float*)p->w.p + c * p->taps;
    float sum = own(p, from, t + first, t, c) * w[0];
    for (int64_t i = 1; i < p->taps; i++)
        sum += own(p, from, t + first + i * step, t, c) * w[i];
    return sum;
}

static float filter_sum(const ck_problem* p, int64_t c, int64_t i, float before) {
    const int32_t* starts = p->starts.p;
    const float *x = p->x.p, *dy = p->dy.p;
    float total = 0;
    for (int64_t begin = 0; begin < p->n; begin += 64) {
        float sum = 0;
        for (int64_t t = begin; t < begin + 64 && t < p->n; t++)
            if (t - (p->taps - 1) + i >= starts[t])
                sum += dy[t * p->d + c] * x[(t - (p->taps - 1) + i) * p->d + c];
        total += sum;
    }
    return p->add ? before + total : total;
}

static bool same(float got, float want) {
    return memcmp(&got, &want, 4) == 0 || (isnan(got) && isnan(want));
}

static void check_forward(forward_fn* conv, const char* name, const ck_problem* p, int nth) {
    const ck_buffer y = ck_buffer_of(p->n * p->d * 4, 4);
    int64_t wrong = 0;
    for (int tid = 0; tid < nth; tid++)
        conv(y.p, p->x.p, p->w.p, p->starts.p, p->n, p->d, p->taps, tid, nth);
    for (int64_t t = 0; t < p->n; t++)
        for (int64_t c = 0; c < p->d; c++)
            wrong += !same(((float*)y.p)[t * p->d + c], filtered(p, p->x.p, t, 1 - p->taps, 1, c));
    CK_CHECK(wrong == 0, "%s: n %d d %d taps %d nth %d: %d results are wrong", name, (int)p->n, (int)p->d,
             (int)p->taps, nth, (int)wrong);
    ck_buffer_free(y);
}

static void check_backward(backward_fn* conv, const char* name, const ck_problem* p, int nth) {
    const ck_buffer dx = ck_buffer_of(p->n * p->d * 4, 4), dw = ck_buffer_of(p->d * p->taps * 4, 4);
    int64_t wrong = 0;
    memcpy(dw.p, p->dw.p, (size_t)(p->d * p->taps * 4));
    for (int tid = 0; tid < nth; tid++)
        conv(dx.p, dw.p, p->x.p, p->w.p, p->dy.p, p->starts.p, p->n, p->d, p->taps, p->add, tid, nth);
    for (int64_t c = 0; c < p->d; c++) {
        for (int64_t t = 0; t < p->n; t++)
            wrong += !same(((float*)dx.p)[t * p->d + c], filtered(p, p->dy.p, t, p->taps - 1, -1, c));
        for (int64_t i = 0; i < p->taps; i++)
            wrong += !same(((float*)dw.p)[c * p->taps + i],
                           filter_sum(p, c, i, ((float*)p->dw.p)[c * p->taps + i]));
    }
    CK_CHECK(wrong == 0, "%s: n %d d %d taps %d nth %d: %d results are wrong", name, (int)p->n, (int)p->d,
             (int)p->taps, nth, (int)wrong);
    ck_buffer_free(dx);
    ck_buffer_free(dw);
}

static void check_shapes(forward_fn* forward, backward_fn* backward, const char* name) {
    static const int64_t shapes[][5] = {
        // n, d, taps, add, the document of NaN
        {0, 16, 4, 0, -1}, {0, 5, 4, 1, -1},  {1, 1, 4, 0, -1},    {7, 17, 4, 1, -1},  {10, 300, 4, 0, 3},
        {64, 33, 2, 0, 6}, {65, 48, 8, 1, -1}, {150, 40, 4, 0, -1}, {130, 16, 3, 1, 10},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int64_t* s = shapes[i];
        const ck_problem p = problem_of(s[0], s[1], s[2], s[3], s[4]);
        for (int nth = 1; nth < 4; nth++)
            if (forward != NULL)
                check_forward(forward, name, &p, nth);
            else
                check_backward(backward, name, &p, nth);
        free_problem(p);
    }
}

#define CHECK_ck_packed_conv1d(function) check_shapes(function, NULL, #function)
#define CHECK_ck_packed_conv1d_bwd(function) check_shapes(NULL, function, #function)

int main(void) {
#define CK_KERNEL(symbol, isa, function) \
    if (ck_cpu_detect() & CK_ISA_##isa) \
        CHECK_##symbol(function); \
    else \
        ck_skip(#function);
#include "../kernels/packed_conv1d/kernels.inc"
    return ck_finish();
}
