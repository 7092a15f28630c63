// linear, linear_add, glu with f32, f16 and bf16 weights: each kernel against a double reference, avx2 and
// avx512bw the same bits, one row and many rows the same bits, any number of slices, y in the residual's
// place.
#include <math.h>

#include "../ck_rt.h"
#include "../cpu.h"
#include "../kernels/half.h"
#include "../kernels/linear/linear.h"
#include "check.h"

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

typedef struct {
    const char* name;
    int bytes;
    void (*pack)(void* dst, const void* src_rows, int64_t n_out, int64_t n_in, int tid, int nth);
} float_type;

static const float_type types[] = {
    {"f32", 4, ck_pack_f32}, {"f16", 2, ck_pack_f16}, {"bf16", 2, ck_pack_bf16}};

typedef enum { LINEAR, ADD, GLU_SILU, GLU_GELU, MODES } mode;

typedef struct {
    const float_type* type;
    int64_t n, n_out, n_in;
    ck_buffer rows[2], packed[2], x, residual;
} problem;

// A random matrix of the type, one byte off alignment, as in a file.
static ck_buffer random_rows(const float_type* type, int64_t n) {
    const ck_buffer rows = ck_buffer_of(n * type->bytes, 1);
    for (int64_t i = 0; i < n; i++) {
        const float value = ck_random_float();
        const uint16_t half =
            type->name[0] == 'b' ? (uint16_t)(ck_float_bits(value) >> 16) : ck_float_f16(value);
        memcpy((char*)rows.p + i * type->bytes, type->bytes == 4 ? (const void*)&value : &half,
               (size_t)type->bytes);
    }
    return rows;
}

static double weight(const problem* p, int which, int64_t row, int64_t k) {
    const char* at = (const char*)p->rows[which].p + (row * p->n_in + k) * p->type->bytes;
    float value;
    uint16_t half;
    memcpy(&value, at, p->type->bytes == 4 ? 4 : 0);
    memcpy(&half, at, sizeof half);
    if (p->type->bytes == 4)
        return (double)value;
    return (double)(p->type->name[0] == 'b' ? ck_bf16_float(half) : ck_f16_float(half));
}

static problem problem_of(const float_type* type, int64_t n, int64_t n_out, int64_t n_in) {
    problem p = {.type = type, .n = n, .n_out = n_out, .n_in = n_in};
    for (int i = 0; i < 2; i++) {
        const int64_t n_bytes = (n_out + 15) / 16 * 16 * n_in * type->bytes;
        p.rows[i] = random_rows(type, n_out * n_in);
        p.packed[i] = ck_buffer_of(n_bytes, type->bytes);
        memset(p.packed[i].p, 0xff, (size_t)n_bytes);
        for (int tid = 0; tid < 3; tid++)
            type->pack(p.packed[i].p, p.rows[i].p, n_out, n_in, tid, 3);
    }
    p.x = ck_buffer_of(n * n_in * 4, 4);
    p.residual = ck_buffer_of(n * n_out * 4, 4);
    ck_random_floats(p.x.p, n * n_in);
    ck_random_floats(p.residual.p, n * n_out);
    return p;
}

static void problem_free(problem* p) {
    for (int i = 0; i < 2; i++) {
        ck_buffer_free(p->rows[i]);
        ck_buffer_free(p->packed[i]);
    }
    ck_buffer_free(p->x);
    ck_buffer_free(p->residual);
}

// Rows [first, first + n) in nth slices; in_place: y starts as the residual and is given as it.
static void run(const kernel* k, const problem* p, mode m, float* y, int64_t first, int64_t n, int nth,
                bool in_place) {
    const float* residual = (const float*)p->residual.p + first * p->n_out;
    ck_linear_args a = {
        .y = y + first * p->n_out, .w = p->packed[0].p, .n = n, .n_out = p->n_out, .n_in = p->n_in};
    a.x = (const float*)p->x.p + first * p->n_in;
    a.residual = m != ADD ? NULL : in_place ? a.y : residual;
    a.w_up = m == GLU_SILU || m == GLU_GELU ? p->packed[1].p : NULL;
    a.act = m == GLU_GELU;
    a.nth = nth;
    if (in_place)
        memcpy(a.y, residual, (size_t)(n * p->n_out) * 4);
    for (a.tid = 0; a.tid < nth; a.tid++)
        k->run(&a);
}

static double dot_of(const problem* p, int which, int64_t t, int64_t row) {
    double sum = 0;
    for (int64_t k = 0; k < p->n_in; k++)
        sum += (double)((const float*)p->x.p)[t * p->n_in + k] * weight(p, which, row, k);
    return sum;
}

static double reference(const problem* p, mode m, int64_t t, int64_t row) {
    const double dot = dot_of(p, 0, t, row);
    if (m == LINEAR)
        return dot;
    if (m == ADD)
        return (double)((const float*)p->residual.p)[t * p->n_out + row] + dot;
    const double u = sqrt(2 / 3.14159265358979323846) * (dot + 0.044715 * dot * dot * dot);
    return dot / (1 + exp(m == GLU_SILU ? -dot : -2 * u)) * dot_of(p, 1, t, row);
}

// |x|, |w| <= 1: n_in terms, each a product and a sum, of partial sums up to n_in; glu multiplies two such
// and its activation's slope is below 1.2 and its exp within 2 ulp.
static void check_reference(const kernel* k, const problem* p, mode m, const float* y) {
    const double size = (double)p->n_in, one = 0x1p-24 * (size + 4) * (size + 1);
    const double bound = m == LINEAR || m == ADD ? one : 4 * one * (size + 1);
    double worst = 0;
    for (int64_t t = 0; t < p->n; t++)
        for (int64_t row = 0; row < p->n_out; row++) {
            const double error = fabs((double)y[t * p->n_out + row] - reference(p, m, t, row));
            worst = error <= worst ? worst : error;
        }
    CK_CHECK(worst <= bound, "%s mode %d n %d n_out %d n_in %d: error %g above %g", k->name, (int)m,
             (int)p->n, (int)p->n_out, (int)p->n_in, worst, bound);
}

static void check_kernel(const kernel* k, const problem* p, mode m, float* y, float* other) {
    const size_t n_bytes = (size_t)(p->n * p->n_out) * 4;
    memset(y, 0xff, n_bytes);
    run(k, p, m, y, 0, p->n, 1, false);
    check_reference(k, p, m, y);
    for (int nth = 2; nth <= 4; nth++) {
        memset(other, 0xff, n_bytes);
        run(k, p, m, other, 0, p->n, nth, m == ADD && nth == 3);
        CK_CHECK(memcmp(y, other, n_bytes) == 0, "%s mode %d n %d n_out %d n_in %d: bits differ in %d slices",
                 k->name, (int)m, (int)p->n, (int)p->n_out, (int)p->n_in, nth);
    }
    memset(other, 0xff, n_bytes);
    for (int64_t t = 0; t < p->n; t++)
        run(k, p, m, other, t, 1, 1, false);
    CK_CHECK(memcmp(y, other, n_bytes) == 0, "%s mode %d n %d n_out %d n_in %d: bits differ row by row",
             k->name, (int)m, (int)p->n, (int)p->n_out, (int)p->n_in);
}

static void check_shape(const float_type* type, int64_t n, int64_t n_out, int64_t n_in) {
    problem p = problem_of(type, n, n_out, n_in);
    const ck_buffer y = ck_buffer_of(n * n_out * 4, 4), other = ck_buffer_of(n * n_out * 4, 4);
    const ck_buffer avx2 = ck_buffer_of(n * n_out * 4, 4);
    for (int m = 0; m < MODES; m++)
        for (int i = 0; i < N_KERNELS; i++) {
            if (strcmp(kernels[i].type, type->name) != 0 || !(ck_cpu_detect() & kernels[i].isa))
                continue;
            check_kernel(&kernels[i], &p, (mode)m, y.p, other.p);
            if (kernels[i].isa == CK_ISA_avx2)
                memcpy(avx2.p, y.p, (size_t)(n * n_out) * 4);
            if (kernels[i].isa == CK_ISA_avx512bw)
                CK_CHECK(memcmp(avx2.p, y.p, (size_t)(n * n_out) * 4) == 0, "%s: bits differ from avx2",
                         kernels[i].name);
        }
    ck_buffer_free(y);
    ck_buffer_free(other);
    ck_buffer_free(avx2);
    problem_free(&p);
}

int main(void) {
    static const int64_t shapes[][3] = {
        // n, n_out, n_in
        {0, 16, 4}, {1, 1, 1},  {1, 16, 0},   {2, 33, 3},  {3, 15, 7},   {4, 17, 64},   {5, 64, 5},
        {6, 48, 8}, {7, 31, 9}, {12, 32, 36}, {23, 80, 6}, {97, 40, 10}, {25, 16, 530}, {13, 50, 1027},
    };
    for (size_t t = 0; t < 3; t++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            check_shape(&types[t], shapes[i][0], shapes[i][1], shapes[i][2]);
    for (int i = 0; i < N_KERNELS; i++)
        if (kernels[i].type[0] != 'q' && !(ck_cpu_detect() & kernels[i].isa))
            ck_skip(kernels[i].name);
    return ck_finish();
}
