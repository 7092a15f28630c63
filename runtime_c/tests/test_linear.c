// linear, linear_add, glu of quantised weights: scalar against a double reference over the same quantised
// activations, every other kernel against scalar bit for bit, over edge shapes and thread counts.

#include <math.h>

#include "../cpu.h"
#include "../kernels/linear/linear.h"
#include "../kernels/linear/rows.h"
#include "quantized.h"

#define CK_KERNEL(symbol, isa, function) ck_linear_fn function;
#include "../kernels/linear/kernels.inc"
#undef CK_KERNEL

typedef struct {
    const char *type, *name;
    uint64_t isa;
    ck_linear_fn* run;
} kernel;

#define CK_KERNEL(symbol, isa, function) \
    {#symbol + sizeof "ck_linear_" - 1, #function, CK_ISA_##isa, function},
static const kernel kernels[] = {
#include "../kernels/linear/kernels.inc"
};
enum { N_KERNELS = sizeof kernels / sizeof kernels[0] };

typedef enum { LINEAR, ADD, GLU_SILU, GLU_GELU, MODES } mode;

// One problem: file rows, their packed form and their values, activations and their quantised form.
typedef struct {
    const ck_type* type;
    int planes;
    int64_t n, n_out, n_in;
    ck_buffer rows[2], packed[2], values[2], x, x_values, residual;
} problem;

// Packs file rows and decodes everything to double [n_out][n_in], [n][n_in]: after rows or x have changed.
static void problem_renew(problem* p) {
    for (int which = 0; which < 2; which++) {
        p->type->pack(p->packed[which].p, p->rows[which].p, p->n_out, p->n_in, 0, 1);
        double* values = p->values[which].p;
        for (int64_t row = 0; row < p->n_out; row++)
            for (int64_t k = 0; k < p->n_in; k++)
                *values++ = ck_matrix_value(p->type, p->rows[which].p, p->n_in, row, k);
    }
    double* values = p->x_values.p;
    for (int64_t t = 0; t < p->n; t++) {
        const ck_x_row x = ck_x_row_of(p->x.p, p->planes, t, p->n_in);
        for (int64_t k = 0; k < p->n_in; k++)
            *values++ = (double)x.d[k / 32] * (p->planes == 2 ? 128 * x.high[k] + x.low[k] : x.high[k]);
    }
}

static void quantize_x(problem* p, ck_buffer x) {
    (p->planes == 2 ? ck_quantize_rows : ck_quantize_rows_q8)(p->x.p, x.p, p->n, p->n_in, 0, 1);
}

static problem problem_of(const ck_type* type, int planes, int64_t n, int64_t n_out, int64_t n_in) {
    problem p = {.type = type, .planes = planes, .n = n, .n_out = n_out, .n_in = n_in};
    for (int i = 0; i < 2; i++) {
        p.rows[i] = ck_random_matrix(type, n_out, n_in);
        p.packed[i] = ck_buffer_of(ck_packed_matrix_bytes(type, n_out, n_in), 1);
        p.values[i] = ck_buffer_of(n_out * n_in * 8, 0);
    }
    const ck_buffer x = ck_buffer_of(n * n_in * 4, 0);
    p.x = ck_buffer_of(n * CK_ROW_BYTES(planes, n_in), 4);
    p.x_values = ck_buffer_of(n * n_in * 8, 0);
    ck_random_floats(x.p, n * n_in);
    quantize_x(&p, x);
    ck_buffer_free(x);
    p.residual = ck_buffer_of(n * n_out * 4, 4);
    ck_random_floats(p.residual.p, n * n_out);
    problem_renew(&p);
    return p;
}

static void problem_free(problem* p) {
    for (int i = 0; i < 2; i++) {
        ck_buffer_free(p->rows[i]);
        ck_buffer_free(p->packed[i]);
        ck_buffer_free(p->values[i]);
    }
    ck_buffer_free(p->x);
    ck_buffer_free(p->x_values);
    ck_buffer_free(p->residual);
}

// Runs a kernel on a problem in `nth` slices; `in_place`: y is the residual's copy.
static ck_buffer run(const kernel* k, const problem* p, mode m, int nth, bool in_place) {
    const int64_t n_bytes = p->n * p->n_out * 4;
    const ck_buffer y = ck_buffer_of(n_bytes, 4);
    memset(y.p, 0xff, (size_t)n_bytes);
    if (in_place)
        memcpy(y.p, p->residual.p, (size_t)n_bytes);
    ck_linear_args a = {y.p, p->x.p, p->packed[0].p, NULL, NULL, p->n, p->n_out, p->n_in, m == GLU_GELU,
                        p->planes, 256, 0, nth};
    if (m == ADD)
        a.residual = in_place ? y.p : p->residual.p;
    if (m == GLU_SILU || m == GLU_GELU)
        a.w_up = p->packed[1].p;
    for (a.tid = 0; a.tid < nth; a.tid++)
        k->run(&a);
    return y;
}

// size: the sum of the magnitudes of what was added up.
typedef struct {
    double value, size;
} sum;

static sum reference_dot(const problem* p, int which, int64_t t, int64_t row) {
    sum dot = {0, 0};
    const double* x = (const double*)p->x_values.p + t * p->n_in;
    const double* w = (const double*)p->values[which].p + row * p->n_in;
    for (int64_t i = 0; i < p->n_in; i++) {
        const double term = x[i] * w[i];
        dot.value += term;
        dot.size += fabs(term);
    }
    return dot;
}

static sum reference(const problem* p, mode m, int64_t t, int64_t row) {
    const sum dot = reference_dot(p, 0, t, row);
    const double x = dot.value;
    if (m == LINEAR)
        return dot;
    if (m == ADD) {
        const double residual = (double)((const float*)p->residual.p)[t * p->n_out + row];
        return (sum){residual + x, fabs(residual) + dot.size};
    }
    const sum up = reference_dot(p, 1, t, row);
    const double u = sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    const double act = m == GLU_SILU ? x / (1 + exp(-x)) : x / (1 + exp(-2 * u));
    return (sum){act * up.value, dot.size * up.size};
}

// Mean squared error of y against the double reference, over the mean squared size of the sums.
static double nmse(const problem* p, mode m, const float* y) {
    double error = 0, power = 0;
    for (int64_t t = 0; t < p->n; t++)
        for (int64_t row = 0; row < p->n_out; row++) {
            const sum want = reference(p, m, t, row);
            const double difference = (double)y[t * p->n_out + row] - want.value;
            error += difference * difference;
            power += want.size * want.size;
        }
    return power > 0 ? error / power : error;
}

static const kernel* scalar_of(const char* type) {
    for (int i = 0; i < N_KERNELS; i++)
        if (strcmp(kernels[i].type, type) == 0 && kernels[i].isa == CK_ISA_scalar)
            return &kernels[i];
    abort();
}

static bool same(const problem* p, ck_buffer a, ck_buffer b) {
    return memcmp(a.p, b.p, (size_t)(p->n * p->n_out * 4)) == 0;
}

static void check_mode(const problem* p, mode m) {
    const kernel* scalar = scalar_of(p->type->name);
    const ck_buffer want = run(scalar, p, m, 1, false);
    // A term is rounded up to five times, act by a few ulp, each at most 2^-24 of the sizes: 1e-6 is much.
    const double error = nmse(p, m, want.p);
    CK_CHECK(error <= 1e-12, "%s of %d planes mode %d n %d n_out %d n_in %d: nmse %g", scalar->name,
             p->planes, (int)m, (int)p->n, (int)p->n_out, (int)p->n_in, error);
    for (int i = 0; i < N_KERNELS; i++) {
        if (strcmp(kernels[i].type, p->type->name) != 0 || !(ck_cpu_detect() & kernels[i].isa))
            continue;
        // `want` is the scalar kernel on one thread.
        for (int nth = kernels[i].isa == CK_ISA_scalar ? 3 : 1; nth <= 3; nth++) {
            const ck_buffer got = run(&kernels[i], p, m, nth, m == ADD && nth == 2);
            CK_CHECK(same(p, want, got),
                     "%s of %d planes mode %d n %d n_out %d n_in %d nth %d: bits differ from scalar",
                     kernels[i].name, p->planes, (int)m, (int)p->n, (int)p->n_out, (int)p->n_in, nth);
            ck_buffer_free(got);
        }
    }
    ck_buffer_free(want);
}

static void check_shapes(const ck_type* type) {
    static const int64_t rows[] = {0, 1, 2, 7, 16, 17, 65};
    static const int64_t outs[] = {0, 1, 15, 16, 17, 33, 64};
    static const int64_t blocks[] = {0, 1, 2, 3, 35};
    // Three blocks of 256 columns are several segments already.
    const int n_blocks = type->columns == 32 ? 5 : 4;
    for (int r = 0; r < 7; r++)
        for (int o = 0; o < 7; o++)
            for (int b = 0; b < n_blocks; b++) {
                // All corners of the cube would take minutes under the sanitizers: a few of the large.
                if (b == 4 && r > 4 && o > 4 && r + o != 11)
                    continue;
                problem p = problem_of(type, 1 + (r + b) % 2, rows[r], outs[o], blocks[b] * type->columns);
                check_mode(&p, (mode)((r + o + b) % MODES));
                problem_free(&p);
            }
}

// More rows than one pass takes, and one row of that many: the same bits.
static void check_many_rows(const ck_type* type, int planes) {
    problem p = problem_of(type, planes, 131, 48, 2 * type->columns);
    for (mode m = LINEAR; m < MODES; m++)
        check_mode(&p, m);
    problem_free(&p);
}

// Columns enough for several segments and fewer rows a pass, down to less than a tile.
static void check_wide(const ck_type* type, int planes) {
    static const int64_t shapes[][3] = {
        {3, 18, 8192}, {67, 2, 8192}, {7, 2, 65536}, {1, 33, 1280}, {2, 1, 262144}};
    for (int i = 0; i < 5; i++) {
        problem p = problem_of(type, planes, shapes[i][0], shapes[i][1], shapes[i][2]);
        check_mode(&p, (mode)(i % MODES));
        problem_free(&p);
    }
}

// Weights of one byte over and over, activations all 127, -127 or in turn: the largest sums there are.
static void check_extremes(const ck_type* type, int planes) {
    static const uint8_t bytes[] = {0x00, 0x7f, 0x80, 0xff};
    for (int i = 0; i < 12; i++) {
        problem p = problem_of(type, planes, 9, 17, 2 * type->columns);
        const int64_t n_bytes = ck_file_matrix_bytes(type, 17, p.n_in);
        memset(p.rows[0].p, bytes[i % 4], (size_t)n_bytes);
        for (int64_t b = 0; b < n_bytes; b += type->file_bytes) {
            uint8_t* block = (uint8_t*)p.rows[0].p + b;
            // u = 0, the farthest from 32, under the farthest scale.
            if (strcmp(type->name, "q6_k") == 0 && bytes[i % 4] == 0x00)
                memset(((ck_q6_k*)block)->sc, 0x80, 16);
            ck_tame(type, block);
        }
        const ck_buffer x = ck_buffer_of(9 * p.n_in * 4, 0);
        for (int64_t k = 0; k < 9 * p.n_in; k++)
            ((float*)x.p)[k] = i < 4 ? 1.0f : i < 8 ? -1.0f : k % 2 ? 1.0f : -1.0f;
        quantize_x(&p, x);
        ck_buffer_free(x);
        problem_renew(&p);
        check_mode(&p, LINEAR);
        problem_free(&p);
    }
}

// Sets the f16 scales of a file block to 1.
static void set_unit_scales(const ck_type* type, uint8_t* block) {
    const uint16_t one = 0x3c00;
    for (int i = 0; i < 2; i++)
        memcpy(block + type->scales[i], &one, sizeof one);
    // Products of 5 bits and scales of 6 would not fit: four bits are left of these.
    for (int i = 0; strcmp(type->name, "q5_k") == 0 && i < 12; i++)
        ((ck_q5_k*)block)->scales[i] &= 15;
}

// Scales of 1 and whole numbers as activations, in one block of 32 columns: one of 16256, or 127, which makes
// their scale 1, and 31 small ones, so that no float of the term needs more than 24 bits until the last. The
// dot is then the exact one, rounded once.
static void check_exact(const ck_type* type, int planes) {
    enum { ROWS = 40, OUTS = 33 };
    problem p = problem_of(type, planes, ROWS, OUTS, type->columns);
    for (int64_t i = 0; i < OUTS; i++)
        set_unit_scales(type, (uint8_t*)p.rows[0].p + i * type->file_bytes);
    const ck_buffer x = ck_buffer_of(ROWS * p.n_in * 4, 0);
    for (int64_t t = 0; t < ROWS; t++) {
        float* row = (float*)x.p + t * p.n_in;
        const int64_t first = t % (p.n_in / 32) * 32;
        memset(row, 0, (size_t)p.n_in * 4);
        for (int64_t i = first; i < first + 32; i++)
            row[i] = (float)(int)(ck_random() % 81) - 40;
        const float largest = planes == 2 ? 16256.0f : 127.0f;
        row[first + t * 7 % 32] = t % 2 ? largest : -largest;
    }
    quantize_x(&p, x);
    ck_buffer_free(x);
    problem_renew(&p);
    const ck_buffer y = run(scalar_of(type->name), &p, LINEAR, 1, false);
    int64_t wrong = 0;
    for (int64_t i = 0; i < ROWS * OUTS; i++)
        wrong += ((const float*)y.p)[i] != (float)reference_dot(&p, 0, i / OUTS, i % OUTS).value;
    CK_CHECK(wrong == 0, "%s of %d planes: %d dots are not exact", type->name, planes, (int)wrong);
    ck_buffer_free(y);
    check_mode(&p, LINEAR);
    problem_free(&p);
}

// A row of x with a NaN gives a row of NaN, and leaves the other rows alone.
static void check_nan(const ck_type* type, int planes) {
    problem p = problem_of(type, planes, 3, 17, type->columns);
    float* d = (float*)(void*)((char*)p.x.p + CK_ROW_BYTES(planes, p.n_in) + planes * p.n_in);
    *d = NAN;
    for (int i = 0; i < N_KERNELS; i++) {
        if (strcmp(kernels[i].type, type->name) != 0 || !(ck_cpu_detect() & kernels[i].isa))
            continue;
        const ck_buffer y = run(&kernels[i], &p, LINEAR, 1, false);
        int64_t wrong = 0;
        for (int64_t j = 0; j < 3 * 17; j++)
            wrong += (isnan(((const float*)y.p)[j]) != 0) != (j / 17 == 1);
        CK_CHECK(wrong == 0, "%s: %d values are wrongly NaN or not NaN", kernels[i].name, (int)wrong);
        ck_buffer_free(y);
    }
    problem_free(&p);
}

int main(void) {
    for (int i = 0; i < N_KERNELS; i++)
        if (!(ck_cpu_detect() & kernels[i].isa))
            ck_skip(kernels[i].name);
    for (int i = 0; i < CK_TYPES; i++) {
        check_shapes(&ck_types[i]);
        for (int planes = 1; planes <= 2; planes++) {
            check_many_rows(&ck_types[i], planes);
            check_wide(&ck_types[i], planes);
            check_extremes(&ck_types[i], planes);
            check_exact(&ck_types[i], planes);
            check_nan(&ck_types[i], planes);
        }
    }
    return ck_finish();
}
