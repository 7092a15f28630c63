// rope: scalar against the formula in double, the others against scalar bit for bit; in place, sliced, odd
// shapes.
#include "../cpu.h"
#include "../kernels/rope/rope.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/rope/kernels.inc"
#undef CK_KERNEL

typedef struct {
    int64_t n, heads, head_dim, mode, dims;
    ck_buffer x, table;
} problem;

static int64_t n_elements(const problem* p) {
    return p->n * p->heads * p->head_dim;
}

static ck_buffer run(__typeof__(ck_rope)* kernel, const problem* p, int nth, bool in_place) {
    const ck_buffer y = ck_buffer_of(n_elements(p) * 4, 4);
    if (in_place)
        memcpy(y.p, p->x.p, (size_t)n_elements(p) * 4);
    for (int tid = 0; tid < nth; tid++)
        kernel(y.p, in_place ? y.p : p->x.p, p->table.p, p->n, p->heads, p->head_dim, p->mode, p->dims, tid,
               nth);
    return y;
}

// Column i of a row of one head, rotated, in double.
static double reference(const problem* p, const float* x, const float* table, int64_t i) {
    const int64_t half = p->dims / 2;
    if (i >= p->dims)
        return (double)x[i];
    const int64_t pair = p->mode % 2 == 0 ? i / 2 : i % half;
    const bool first = p->mode % 2 == 0 ? i % 2 == 0 : i < half;
    const double a = (double)x[p->mode % 2 == 0 ? 2 * pair : pair],
                 b = (double)x[p->mode % 2 == 0 ? 2 * pair + 1 : pair + half];
    const double c = (double)table[pair], s = (p->mode < 2 ? 1.0 : -1.0) * (double)table[half + pair];
    return first ? a * c - b * s : a * s + b * c;
}

static void check_scalar(const problem* p, const float* y) {
    const float *x = p->x.p, *table = p->table.p;
    // Values are below 1: two products and a sum, each rounded.
    const double bound = 3 * 0x1p-24 * 2;
    for (int64_t i = 0; i < n_elements(p); i++) {
        const int64_t head = i / p->head_dim, row = head / p->heads;
        const double want = reference(p, x + head * p->head_dim, table + row * p->dims, i % p->head_dim);
        const double error = (double)y[i] - want;
        CK_CHECK(error <= bound && error >= -bound, "rope element %d: want %g, got %g", (int)i, want,
                 (double)y[i]);
    }
}

static void check_others(const problem* p, ck_buffer want) {
#define CK_KERNEL(symbol, isa, function) \
    for (int nth = 1; (ck_cpu_detect() & CK_ISA_##isa) && nth < 6; nth++) { \
        const ck_buffer y = run(function, p, nth, nth % 2 == 0); \
        CK_CHECK(memcmp(y.p, want.p, (size_t)n_elements(p) * 4) == 0, \
                 "%s: n %d head_dim %d mode %d dims %d nth %d", #function, (int)p->n, (int)p->head_dim, \
                 (int)p->mode, (int)p->dims, nth); \
        ck_buffer_free(y); \
    }
#include "../kernels/rope/kernels.inc"
#undef CK_KERNEL
}

static void check_shape(int64_t n, int64_t heads, int64_t head_dim, int64_t mode, int64_t dims) {
    problem p = {n,
                 heads,
                 head_dim,
                 mode,
                 dims,
                 ck_buffer_of(n * heads * head_dim * 4, 4),
                 ck_buffer_of(n * dims * 4, 4)};
    ck_random_floats(p.x.p, n_elements(&p));
    ck_random_floats(p.table.p, n * dims);
    const ck_buffer y = run(ck_rope_f32__scalar, &p, 1, false);
    check_scalar(&p, y.p);
    check_others(&p, y);
    ck_buffer_free(y);
    ck_buffer_free(p.x);
    ck_buffer_free(p.table);
}

int main(void) {
    static const int64_t widths[][2] = {{64, 64}, {256, 256}, {64, 32}, {80, 20},
                                        {6, 6},   {10, 2},    {4, 0},   {34, 34}};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        for (int64_t mode = 0; mode < 4; mode++)
            for (int64_t n = 0; n < 4; n++)
                check_shape(n, 1 + n, widths[i][0], mode, widths[i][1]);
#define CK_KERNEL(symbol, isa, function) \
    if (!(ck_cpu_detect() & CK_ISA_##isa)) \
        ck_skip(#function);
#include "../kernels/rope/kernels.inc"
    return ck_finish();
}
