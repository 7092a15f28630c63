// packed_attention: forward and backward of every path against double; avx2 and avx512bw the same bits; a
// document alone, packed, and in any number of slices the same bits; NaN past the live rows or in another
// document reaches nothing.
#include <math.h>

#include "../cpu.h"
#include "../kernels/packed_attention/packed_attention.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/packed_attention/kernels.inc"
#undef CK_KERNEL

typedef __typeof__(ck_packed_attention) forward_fn;
typedef __typeof__(ck_packed_attention_bwd) backward_fn;

typedef struct {
    forward_fn* forward;
    backward_fn* backward;
    const char* name;
    uint64_t isa;
} path;

#define PATH(isa) {ck_packed_attention__##isa, ck_packed_attention_bwd__##isa, #isa, CK_ISA_##isa}
static const path paths[] = {PATH(scalar), PATH(avx2), PATH(avx512bw)};
enum { N_PATHS = sizeof paths / sizeof paths[0] };

// n live rows and `spare` more that hold NaN.
typedef struct {
    int64_t n, spare, heads, kv_heads, head_dim, window;
    float scale;
    int32_t* starts;
    float *q, *k, *v, *dy;
    ck_buffer memory[5];
} problem;

// The outputs, in memory of exact size; before a run all bytes are 0xff.
enum { Y, LSE, DQ, DK, DV, N_OUTPUTS };
static const char* const output_names[N_OUTPUTS] = {"y", "lse", "dq", "dk", "dv"};

typedef struct {
    ck_buffer memory[N_OUTPUTS];
    float* of[N_OUTPUTS];
} outputs;

// Floats of a row of an output.
static int64_t width_of(const problem* p, int output) {
    return output == LSE ? p->heads : (output == DK || output == DV ? p->kv_heads : p->heads) * p->head_dim;
}

static outputs outputs_of(const problem* p) {
    outputs out;
    for (int i = 0; i < N_OUTPUTS; i++) {
        const int64_t n_bytes = (p->n + p->spare) * width_of(p, i) * 4;
        out.memory[i] = ck_buffer_of(n_bytes, 4);
        out.of[i] = out.memory[i].p;
        memset(out.of[i], 0xff, (size_t)n_bytes);
    }
    return out;
}

static void outputs_free(outputs* out) {
    for (int i = 0; i < N_OUTPUTS; i++)
        ck_buffer_free(out->memory[i]);
}

static problem problem_of(const int64_t* lengths, int n_documents, int64_t spare, const int64_t* shape,
                          int64_t window, float scale) {
    problem p = {.spare = spare, .heads = shape[0], .kv_heads = shape[1], .head_dim = shape[2],
                 .window = window, .scale = scale};
    for (int i = 0; i < n_documents; i++)
        p.n += lengths[i];
    const int64_t widths[4] = {width_of(&p, Y), width_of(&p, DK), width_of(&p, DK), width_of(&p, Y)};
    float** const arrays[4] = {&p.q, &p.k, &p.v, &p.dy};
    for (int i = 0; i < 4; i++) {
        p.memory[i] = ck_buffer_of((p.n + spare) * widths[i] * 4, 4);
        *arrays[i] = p.memory[i].p;
        ck_random_floats(*arrays[i], p.n * widths[i]);
        memset(*arrays[i] + p.n * widths[i], 0xff, (size_t)(spare * widths[i]) * 4);
    }
    p.memory[4] = ck_buffer_of(p.n * 4, 4);
    p.starts = p.memory[4].p;
    for (int64_t i = 0, begin = 0; i < n_documents; begin += lengths[i++])
        for (int64_t t = 0; t < lengths[i]; t++)
            p.starts[begin + t] = (int32_t)begin;
    return p;
}

static void problem_free(problem* p) {
    for (int i = 0; i < 5; i++)
        ck_buffer_free(p->memory[i]);
}

static void run_forward(const path* k, const problem* p, const outputs* out, int tid, int nth) {
    k->forward(out->of[Y], out->of[LSE], p->q, p->k, p->v, p->starts, p->n, p->heads, p->kv_heads,
               p->head_dim, p->window, p->scale, tid, nth);
}

// The backward of y and lse in `of`.
static void run_backward(const path* k, const problem* p, const outputs* of, const outputs* out, int tid,
                         int nth) {
    k->backward(out->of[DQ], out->of[DK], out->of[DV], p->q, p->k, p->v, of->of[Y], of->of[LSE], p->dy,
                p->starts, p->n, p->heads, p->kv_heads, p->head_dim, p->window, p->scale, tid, nth);
}

static void run(const path* k, const problem* p, const outputs* out) {
    run_forward(k, p, out, 0, 1);
    run_backward(k, p, out, out, 0, 1);
}

// The outputs in double, and a bound of what f32 may differ by, for each float.
typedef struct {
    double *of[N_OUTPUTS], *bound[N_OUTPUTS];
} reference;

static double dot(const float* a, const float* b, int64_t n, double* size) {
    double sum = 0;
    *size = 0;
    for (int64_t d = 0; d < n; d++) {
        sum += (double)a[d] * (double)b[d];
        *size += fabs((double)a[d] * (double)b[d]);
    }
    return sum;
}

// One row of one head: the forward, and what it adds to the gradients. All inputs are below 1 in size.
//
// A dot of head_dim terms, doubled for mul and add apart, moves a score by `most` times its relative error,
// and each of the `count` terms of a sum rounds once or twice: so `r` bounds the relative error of a weight,
// and the errors of lse and y. With D = sum |dy|, delta and dy . v are at most D and wrong by at most D * r
// each, ds by 4 * w * D * r; the sums over rows and positions add their own roundings, of n * heads terms at
// most.
static void add_row(const problem* p, int64_t t, int64_t head, reference* out) {
    const double eps = 0x1p-24, scale = (double)p->scale;
    const int64_t K = p->head_dim, kv_head = head / (p->heads / p->kv_heads), at = t * p->heads + head;
    const int64_t low = p->window > 0 && t + 1 > p->window ? t + 1 - p->window : 0;
    const int64_t from = low > p->starts[t] ? low : p->starts[t], count = t + 1 - from;
    double *w = malloc((size_t)count * sizeof *w), most = 0, top = -INFINITY, sum = 0, size, delta = 0, D = 0;
    for (int64_t i = 0; i < count; i++) {
        w[i] = scale * dot(p->q + at * K, p->k + ((from + i) * p->kv_heads + kv_head) * K, K, &size);
        top = w[i] > top ? w[i] : top;
        most = scale * size > most ? scale * size : most;
    }
    for (int64_t i = 0; i < count; i++)
        sum += exp(w[i] - top);
    const double lse = top + log(sum), r = 4 * eps * ((double)(K + 4) * (most + 1) + (double)count + 16);
    out->of[LSE][at] = lse;
    out->bound[LSE][at] = r;
    for (int64_t i = 0; i < count; i++) {
        w[i] = exp(w[i] - lse);
        for (int64_t d = 0; d < K; d++)
            out->of[Y][at * K + d] += w[i] * (double)p->v[((from + i) * p->kv_heads + kv_head) * K + d];
    }
    for (int64_t d = 0; d < K; d++) {
        delta += (double)p->dy[at * K + d] * out->of[Y][at * K + d];
        D += fabs((double)p->dy[at * K + d]);
    }
    for (int64_t d = 0; d < K; d++) {
        out->bound[Y][at * K + d] = r;
        out->bound[DQ][at * K + d] = 5 * scale * D * r;
    }
    const double terms = 4 * eps * (double)(p->n * p->heads);
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = ((from + i) * p->kv_heads + kv_head) * K;
        const double ds = w[i] * (dot(p->dy + at * K, p->v + row, K, &size) - delta);
        for (int64_t d = 0; d < K; d++) {
            out->of[DQ][at * K + d] += scale * ds * (double)p->k[row + d];
            out->of[DK][row + d] += scale * ds * (double)p->q[at * K + d];
            out->of[DV][row + d] += w[i] * (double)p->dy[at * K + d];
            out->bound[DK][row + d] += scale * w[i] * D * (4 * r + terms);
            out->bound[DV][row + d] += w[i] * fabs((double)p->dy[at * K + d]) * (r + terms);
        }
    }
    free(w);
}

static reference reference_of(const problem* p) {
    reference out;
    for (int i = 0; i < N_OUTPUTS; i++) {
        out.of[i] = calloc((size_t)(p->n * width_of(p, i)) + 1, sizeof(double));
        out.bound[i] = calloc((size_t)(p->n * width_of(p, i)) + 1, sizeof(double));
    }
    for (int64_t t = 0; t < p->n; t++)
        for (int64_t head = 0; head < p->heads; head++)
            add_row(p, t, head, &out);
    return out;
}

static void reference_free(reference* r) {
    for (int i = 0; i < N_OUTPUTS; i++) {
        free(r->of[i]);
        free(r->bound[i]);
    }
}

static void check_reference(const path* k, const problem* p, const outputs* out, const reference* want) {
    for (int i = 0; i < N_OUTPUTS; i++) {
        int64_t worst = -1;
        double most = 1;
        for (int64_t at = 0; at < p->n * width_of(p, i); at++) {
            const double error = fabs((double)out->of[i][at] - want->of[i][at]);
            const double bounds = error / (want->bound[i][at] + 1e-30);
            if (!(bounds <= most)) {
                most = bounds;
                worst = at;
            }
        }
        CK_CHECK(worst < 0, "%s: n %d head_dim %d window %d: %s row %d is %g, not %g: %g bounds away",
                 k->name, (int)p->n, (int)p->head_dim, (int)p->window, output_names[i],
                 (int)(worst / width_of(p, i)), (double)out->of[i][worst], want->of[i][worst], most);
    }
}

// Rows [first, first + n) of two outputs hold the same bits; `b` counts from its row 0.
static void check_same(const path* k, const problem* p, const outputs* a, const outputs* b, int64_t first,
                       int64_t n, int n_outputs, const char* what) {
    for (int i = 0; i < n_outputs; i++)
        CK_CHECK(memcmp(a->of[i] + first * width_of(p, i), b->of[i], (size_t)(n * width_of(p, i)) * 4) == 0,
                 "%s: n %d heads %d/%d head_dim %d window %d: bits of %s differ %s", k->name, (int)p->n,
                 (int)p->heads, (int)p->kv_heads, (int)p->head_dim, (int)p->window, output_names[i], what);
}

// Each float is written by one of nth slices, and is what one slice of all writes.
static void check_slices(const path* k, const problem* p, const outputs* all, int nth) {
    outputs joined = outputs_of(p);
    int64_t n_twice = 0;
    for (int tid = 0; tid < nth; tid++) {
        outputs slice = outputs_of(p);
        run_forward(k, p, &slice, tid, nth);
        run_backward(k, p, all, &slice, tid, nth);
        for (int i = 0; i < N_OUTPUTS; i++)
            for (int64_t at = 0; at < p->n * width_of(p, i); at++) {
                uint32_t from, to;
                memcpy(&from, slice.of[i] + at, 4);
                memcpy(&to, joined.of[i] + at, 4);
                n_twice += from != UINT32_MAX && to != UINT32_MAX;
                if (from != UINT32_MAX)
                    joined.of[i][at] = slice.of[i][at];
            }
        outputs_free(&slice);
    }
    CK_CHECK(n_twice == 0, "%s: n %d: %d slices write %d floats twice", k->name, (int)p->n, nth,
             (int)n_twice);
    check_same(k, p, all, &joined, 0, p->n, N_OUTPUTS, "in slices");
    outputs_free(&joined);
}

// The rows past the live ones are as they were.
static void check_untouched(const path* k, const problem* p, const outputs* out) {
    for (int i = 0; i < N_OUTPUTS; i++) {
        const unsigned char* past = (const unsigned char*)(out->of[i] + p->n * width_of(p, i));
        int64_t same = 0;
        while (same < p->spare * width_of(p, i) * 4 && past[same] == 0xff)
            same++;
        CK_CHECK(same == p->spare * width_of(p, i) * 4, "%s: %s written past row %d", k->name,
                 output_names[i], (int)p->n);
    }
}

// The document of rows [begin, begin + n) as a problem of its own.
static problem document_of(const problem* p, int64_t begin, int64_t n, int32_t* starts) {
    problem one = *p;
    one.n = n;
    one.spare = 0;
    one.starts = starts;
    one.q += begin * width_of(p, Y);
    one.dy += begin * width_of(p, Y);
    one.k += begin * width_of(p, DK);
    one.v += begin * width_of(p, DK);
    return one;
}

// Each document alone, and its first half, which must not see the second.
static void check_documents(const path* k, const problem* p, const outputs* all) {
    int32_t* starts = calloc((size_t)p->n + 1, sizeof *starts);
    for (int64_t begin = 0, end; begin < p->n; begin = end) {
        for (end = begin + 1; end < p->n && p->starts[end] == begin;)
            end++;
        for (int half = 0; half < 2; half++) {
            const problem one = document_of(p, begin, half ? (end - begin + 1) / 2 : end - begin, starts);
            outputs out = outputs_of(&one);
            run(k, &one, &out);
            check_same(k, &one, all, &out, begin, one.n, half ? DQ : N_OUTPUTS,
                       half ? "without later rows" : "in a document alone");
            outputs_free(&out);
        }
    }
    free(starts);
}

// With NaN all over the second document the first and the third are what they were.
static void check_nan(const path* k, problem* p, const outputs* all) {
    int64_t begin = 1, end;
    while (begin < p->n && p->starts[begin] == 0)
        begin++;
    for (end = begin; end < p->n && p->starts[end] == begin;)
        end++;
    if (end >= p->n)
        return;
    float* const arrays[4] = {p->q, p->k, p->v, p->dy};
    for (int i = 0; i < 4; i++) {
        const int64_t width = width_of(p, i == 0 || i == 3 ? Y : DK);
        memset(arrays[i] + begin * width, 0xff, (size_t)((end - begin) * width) * 4);
    }
    outputs out = outputs_of(p), rest = out;
    run(k, p, &out);
    check_same(k, p, all, &out, 0, begin, N_OUTPUTS, "before a document of NaN");
    for (int i = 0; i < N_OUTPUTS; i++)
        rest.of[i] += end * width_of(p, i);
    check_same(k, p, all, &rest, end, p->n - end, N_OUTPUTS, "after a document of NaN");
    outputs_free(&out);
}

static void check_problem(problem* p) {
    reference want = reference_of(p);
    outputs out[N_PATHS];
    for (int i = 0; i < N_PATHS; i++) {
        const path* k = &paths[i];
        out[i] = outputs_of(p);
        if (!(ck_cpu_detect() & k->isa))
            continue;
        run(k, p, &out[i]);
        check_untouched(k, p, &out[i]);
        check_documents(k, p, &out[i]);
        for (int nth = 2; nth <= 5; nth++)
            check_slices(k, p, &out[i], nth);
        if (k->isa == CK_ISA_avx512bw)
            check_same(k, p, &out[i], &out[i - 1], 0, p->n, N_OUTPUTS, "from avx2");
        else
            check_reference(k, p, &out[i], &want);
    }
    for (int i = 0; i < N_PATHS; i++) {
        if (ck_cpu_detect() & paths[i].isa)
            check_nan(&paths[i], p, &out[i]);
        outputs_free(&out[i]);
    }
    reference_free(&want);
}

int main(void) {
    static const int64_t shapes[][3] = {
        // heads, kv_heads, head_dim
        {1, 1, 16}, {4, 2, 64}, {3, 1, 12}, {6, 2, 32}, {2, 2, 80}, {2, 1, 2}, {5, 1, 16}, {3, 3, 50},
    };
    static const int64_t windows[] = {0, 1, 5, 64, 100};
    static const int64_t mixes[][6] = {
        {65, 1, 2, 64, 63, 300}, {1, 1, 1, 2, 2, 1}, {49, 48, 47, 16, 17, 96}, {200, 0, 0, 0, 0, 0},
    };
    static const int n_documents[] = {6, 6, 6, 1};
    static const int64_t wide[] = {4, 1, 256}, widest[] = {1, 1, 510}, pair[] = {70, 30};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (size_t w = 0; w < sizeof windows / sizeof windows[0]; w++) {
            const size_t mix = (i + w) % 4;
            // With a large scale one weight of a row is almost 1, and others are 0.
            const float scale = (i + w) % 3 == 2 ? 20.0f : 0.3f;
            problem p =
                problem_of(mixes[mix], n_documents[mix], (int64_t)w % 3 * 7, shapes[i], windows[w], scale);
            check_problem(&p);
            problem_free(&p);
        }
    for (int i = 0; i < 3; i++) {
        problem p = problem_of(pair, i == 0 ? 0 : 2, 3, i == 2 ? widest : wide, i == 2 ? 33 : 0, 0.3f);
        check_problem(&p);
        problem_free(&p);
    }
    for (int i = 0; i < N_PATHS; i++)
        if (!(ck_cpu_detect() & paths[i].isa))
            ck_skip(paths[i].name);
    return ck_finish();
}
