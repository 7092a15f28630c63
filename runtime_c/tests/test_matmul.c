// matmul: each kernel against a double reference, and bit for bit as the contract says, by fmaf; any number of
// slices, one row at a time, y in the addend's place; the dispatched symbols and their arguments.
#include <math.h>

#include "../ck_rt.h"
#include "../cpu.h"
#include "../kernels/half.h"
#include "../kernels/matmul/matmul.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) ck_matmul_fn function;
#include "../kernels/matmul/kernels.inc"
#undef CK_KERNEL

typedef struct {
    const char *form, *type, *name;
    uint64_t isa;
    ck_matmul_fn* run;
} kernel;

#define CK_KERNEL(symbol, isa, function) \
    {#symbol + sizeof "ck_matmul_" - 1, #symbol + sizeof "ck_matmul_nt_" - 1, #function, CK_ISA_##isa, \
     function},
static const kernel kernels[] = {
#include "../kernels/matmul/kernels.inc"
};
#undef CK_KERNEL
enum { N_KERNELS = sizeof kernels / sizeof kernels[0] };

// a and b as the kernel is given them; x and w the same, [n_rows][depth] and [n_columns][depth], rounded.
typedef struct {
    const kernel* k;
    int64_t n_rows, n_columns, depth;
    ck_buffer a, b, addend, x, w;
} problem;

// The nearest of the two multiples of a step of bf16 around x; the even one of two as near.
static float nearest_bf16(float x) {
    const float down = ck_bits_float(ck_float_bits(x) & 0xffff0000),
                up = ck_bits_float((ck_float_bits(x) & 0xffff0000) + 0x10000);
    const double to_down = fabs((double)x - (double)down), to_up = fabs((double)up - (double)x);
    if (to_down == to_up)
        return ck_float_bits(down) & 0x10000 ? up : down;
    return to_down < to_up ? down : up;
}

static float operand(const kernel* k, float x) {
    return k->type[0] == 'b' ? nearest_bf16(x) : x;
}

static problem problem_of(const kernel* k, int64_t n_rows, int64_t n_columns, int64_t depth) {
    problem p = {k,
                 n_rows,
                 n_columns,
                 depth,
                 ck_buffer_of(n_rows * depth * 4, 4),
                 ck_buffer_of(n_columns * depth * 4, 4),
                 ck_buffer_of(n_rows * n_columns * 4, 4),
                 ck_buffer_of(n_rows * depth * 4, 4),
                 ck_buffer_of(n_columns * depth * 4, 4)};
    const bool a_by_depth = k->form[0] == 't', b_by_depth = k->form[1] == 'n';
    ck_random_floats(p.a.p, n_rows * depth);
    ck_random_floats(p.b.p, n_columns * depth);
    ck_random_floats(p.addend.p, n_rows * n_columns);
    for (int64_t i = 0; i < depth; i++) {
        for (int64_t row = 0; row < n_rows; row++)
            ((float*)p.x.p)[row * depth + i] =
                operand(k, ((const float*)p.a.p)[a_by_depth ? i * n_rows + row : row * depth + i]);
        for (int64_t column = 0; column < n_columns; column++)
            ((float*)p.w.p)[column * depth + i] =
                operand(k, ((const float*)p.b.p)[b_by_depth ? i * n_columns + column : column * depth + i]);
    }
    return p;
}

static void problem_free(problem* p) {
    ck_buffer_free(p->a);
    ck_buffer_free(p->b);
    ck_buffer_free(p->addend);
    ck_buffer_free(p->x);
    ck_buffer_free(p->w);
}

// Into y [n_rows][n_columns], by nth slices; in_place: y starts as the addend and is given as it.
static void run(const problem* p, float* y, bool add, int nth, bool in_place) {
    const float* addend = !add ? NULL : in_place ? y : p->addend.p;
    if (in_place)
        memcpy(y, p->addend.p, (size_t)(p->n_rows * p->n_columns) * 4);
    for (int tid = 0; tid < nth; tid++) {
        const ck_matmul_args args = {y, p->a.p, p->b.p, addend, p->n_rows, p->n_columns, p->depth, tid, nth};
        p->k->run(&args);
    }
}

static void check_close(const problem* p, const float* y, bool add) {
    // |x|, |w| <= 1: a product and a sum for each step of depth, of partial sums up to depth + 1.
    const double size = (double)p->depth + 1, bound = 0x1p-24 * (2 * size + 4) * size;
    double worst = 0;
    for (int64_t row = 0; row < p->n_rows; row++)
        for (int64_t column = 0; column < p->n_columns; column++) {
            const int64_t at = row * p->n_columns + column;
            double want = add ? (double)((const float*)p->addend.p)[at] : 0;
            for (int64_t k = 0; k < p->depth; k++)
                want += (double)((const float*)p->x.p)[row * p->depth + k] *
                        (double)((const float*)p->w.p)[column * p->depth + k];
            const double error = fabs((double)y[at] - want);
            worst = error <= worst ? worst : error;
        }
    CK_CHECK(worst <= bound, "%s add %d, %d x %d, depth %d: error %g above %g", p->k->name, add,
             (int)p->n_rows, (int)p->n_columns, (int)p->depth, worst, bound);
}

// One output in the order of the contract.
static float contract(const problem* p, int64_t row, int64_t column, bool add) {
    const float *x = (const float*)p->x.p + row * p->depth, *w = (const float*)p->w.p + column * p->depth;
    float y = add ? ((const float*)p->addend.p)[row * p->n_columns + column] : 0.0f;
    for (int64_t first = 0; first < p->depth; first += 256) {
        float sum = 0.0f;
        for (int64_t k = first; k < first + 256 && k < p->depth; k++)
            sum = p->k->isa == CK_ISA_scalar ? sum + x[k] * w[k] : fmaf(x[k], w[k], sum);
        y = first == 0 && !add ? sum : y + sum;
    }
    return y;
}

static void check_bits(const problem* p, const float* y, bool add) {
    int n_wrong = 0;
    for (int64_t row = 0; row < p->n_rows; row++)
        for (int64_t column = 0; column < p->n_columns; column++) {
            const float want = contract(p, row, column, add);
            n_wrong += ck_float_bits(y[row * p->n_columns + column]) != ck_float_bits(want);
        }
    CK_CHECK(n_wrong == 0, "%s add %d, %d x %d, depth %d: %d outputs are not the contract's bits", p->k->name,
             add, (int)p->n_rows, (int)p->n_columns, (int)p->depth, n_wrong);
}

static void check_slices(const problem* p, const float* y, bool add) {
    const int64_t n_bytes = p->n_rows * p->n_columns * 4;
    const ck_buffer other = ck_buffer_of(n_bytes, 4);
    for (int nth = 2; nth <= 7; nth++) {
        memset(other.p, 0xff, (size_t)n_bytes);
        run(p, other.p, add, nth, add && nth % 2 == 0);
        CK_CHECK(memcmp(y, other.p, (size_t)n_bytes) == 0,
                 "%s add %d, %d x %d, depth %d: bits differ in %d slices", p->k->name, add, (int)p->n_rows,
                 (int)p->n_columns, (int)p->depth, nth);
    }
    ck_buffer_free(other);
}

// Rows of nt and nn one at a time.
static void check_single_rows(const problem* p, const float* y) {
    const int64_t n_bytes = p->n_rows * p->n_columns * 4;
    const ck_buffer other = ck_buffer_of(n_bytes, 4);
    for (int64_t row = 0; row < p->n_rows; row++) {
        const ck_matmul_args args = {(float*)other.p + row * p->n_columns,
                                     (const float*)p->a.p + row * p->depth,
                                     p->b.p,
                                     NULL,
                                     1,
                                     p->n_columns,
                                     p->depth,
                                     0,
                                     1};
        p->k->run(&args);
    }
    CK_CHECK(memcmp(y, other.p, (size_t)n_bytes) == 0, "%s, %d x %d, depth %d: bits differ row by row",
             p->k->name, (int)p->n_rows, (int)p->n_columns, (int)p->depth);
    ck_buffer_free(other);
}

static void check_shape(const kernel* k, int64_t n_rows, int64_t n_columns, int64_t depth) {
    problem p = problem_of(k, n_rows, n_columns, depth);
    const ck_buffer y = ck_buffer_of(n_rows * n_columns * 4, 4);
    for (int add = 0; add < 2; add++) {
        memset(y.p, 0xff, (size_t)(n_rows * n_columns) * 4);
        run(&p, y.p, add, 1, false);
        check_close(&p, y.p, add);
        check_bits(&p, y.p, add);
        check_slices(&p, y.p, add);
        if (!add && k->form[0] == 'n')
            check_single_rows(&p, y.p);
    }
    ck_buffer_free(y);
    problem_free(&p);
}

// One value through a product with 1: infinities, NaNs and ties on their way to bf16.
static void check_rounding(const kernel* k) {
    static const uint32_t values[][2] = {
        {0x7f800001, 0x7fc00000}, {0xff80ffff, 0xffc00000}, {0x7fffffff, 0x7fff0000},
        {0x7f7fffff, 0x7f800000}, {0x7f800000, 0x7f800000}, {0x3f808000, 0x3f800000},
        {0x3f818000, 0x3f820000}, {0x3f808001, 0x3f810000}, {0xbf818000, 0xbf820000}};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        for (int column = 0; column < 2; column++) {
            const float x = ck_bits_float(values[i][0]), want = ck_bits_float(values[i][1]), one = 1.0f;
            // Columns enough for a whole strip, and one: the vectors' rounding, and that of an edge.
            float y[40], w[40];
            for (int j = 0; j < 40; j++)
                w[j] = x;
            const ck_matmul_args args = {y, &one, w, NULL, 1, column ? 1 : 40, 1, 0, 1};
            k->run(&args);
            for (int64_t j = 0; j < args.n_columns; j++)
                CK_CHECK(want != want ? y[j] != y[j] : ck_float_bits(y[j]) == values[i][1],
                         "%s: 0x%08x rounds to 0x%08x, want 0x%08x", k->name, values[i][0],
                         ck_float_bits(y[j]), values[i][1]);
        }
}

// Each symbol passes its arguments on: y[2][3] of depth 2, in numbers that every type holds.
static void check_symbols(void) {
    const float x[4] = {1, 2, 3, 4}, wt[6] = {1, 2, 3, 4, 5, 6}, w[6] = {1, 3, 5, 2, 4, 6},
                xt[4] = {1, 3, 2, 4};
    const float addend[6] = {10, 20, 30, 40, 50, 60}, want[6] = {5, 11, 17, 11, 25, 39};
    float y[6];
#define EXPECT(symbol, add) \
    for (int i = 0; i < 6; i++) \
        CK_CHECK(y[i] == want[i] + (add ? addend[i] : 0), #symbol ": element %d is %g", i, (double)y[i]);
#define CHECK_TYPE(type) \
    ck_matmul_nt_##type(y, x, wt, 2, 3, 2, 0, 1); \
    EXPECT(nt_##type, 0) \
    ck_matmul_nt_add_##type(y, x, wt, addend, 2, 3, 2, 0, 1); \
    EXPECT(nt_add_##type, 1) \
    ck_matmul_nn_##type(y, x, w, 2, 3, 2, 0, 1); \
    EXPECT(nn_##type, 0) \
    ck_matmul_nn_add_##type(y, x, w, addend, 2, 3, 2, 0, 1); \
    EXPECT(nn_add_##type, 1) \
    ck_matmul_tn_##type(y, xt, w, 2, 2, 3, 0, 1); \
    EXPECT(tn_##type, 0) \
    memcpy(y, addend, sizeof y); \
    ck_matmul_tn_add_##type(y, xt, w, 2, 2, 3, 0, 1); \
    EXPECT(tn_add_##type, 1)
    CHECK_TYPE(f32)
    CHECK_TYPE(bf16)
}

int main(void) {
    static const int64_t shapes[][3] = {
        // rows, columns, depth: none of each, tiles and strips +- 1, more than a block of strips and of depth
        {0, 16, 4},  {3, 0, 5},    {5, 7, 0},    {1, 1, 1},     {2, 33, 3},    {6, 16, 7},     {7, 17, 64},
        {13, 31, 5}, {14, 32, 12}, {15, 33, 40}, {29, 47, 255}, {12, 48, 256}, {28, 65, 257},  {43, 193, 6},
        {1, 200, 9}, {61, 30, 17}, {3, 391, 20}, {5, 40, 1027}, {128, 16, 2},  {100, 35, 270},
    };
    for (int i = 0; i < N_KERNELS; i++) {
        if (!(ck_cpu_detect() & kernels[i].isa)) {
            ck_skip(kernels[i].name);
            continue;
        }
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            check_shape(&kernels[i], shapes[s][0], shapes[s][1], shapes[s][2]);
        if (kernels[i].type[0] == 'b')
            check_rounding(&kernels[i]);
    }
    check_symbols();
    return ck_finish();
}
