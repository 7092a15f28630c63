// quantize_rows: every kernel against the formula, byte for byte, over edge shapes, values and thread counts.

#include <math.h>

#include "../cpu.h"
#include "../kernels/quantize/quantize.h"
#include "../blocks.h"
#include "check.h"

typedef struct {
    const char *symbol, *name;
    uint64_t isa;
    __typeof__(ck_quantize_rows)* run;
} kernel;

#define CK_KERNEL(symbol, isa, function) {#symbol, #function, CK_ISA_##isa, function},
static const kernel kernels[] = {
#include "../kernels/quantize/kernels.inc"
};
enum { N_KERNELS = sizeof kernels / sizeof kernels[0] };

// One block by the header's formula, in double where that is exact. low: NULL for q8.
static void expect_block(int8_t* high, int8_t* low, float* d, int32_t* sum, const float* x) {
    float largest = 0;
    bool finite = true;
    for (int i = 0; i < 32; i++) {
        finite = finite && isfinite(x[i]);
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    }
    *d = largest / (low != NULL ? 16256.0f : 127.0f);
    const bool zero = !finite || *d < 0x1p-126f;
    const float inverse = zero ? 0.0f : 1.0f / *d;
    sum[0] = sum[1] = 0;
    for (int i = 0; i < 32; i++) {
        const int q = zero ? 0 : (int)lrint((double)(x[i] * inverse));
        high[i] = (int8_t)(low != NULL ? (int)floor((q + 64) / 128.0) : q);
        if (low != NULL)
            low[i] = (int8_t)(q - 128 * high[i]);
        sum[i / 16] += q;
    }
    if (zero)
        *d = finite ? 0.0f : NAN;
}

static void expect_rows(uint8_t* y, const float* x, int planes, int64_t n, int64_t k) {
    for (int64_t t = 0; t < n; t++) {
        uint8_t *row = y + t * CK_ROW_BYTES(planes, k), *rest = row + planes * k;
        for (int64_t b = 0; b < k / 32; b++)
            expect_block((int8_t*)row + 32 * b, planes == 2 ? (int8_t*)row + k + 32 * b : NULL,
                         (float*)(void*)rest + b, (int32_t*)(void*)(rest + k / 8) + 2 * b,
                         x + t * k + 32 * b);
    }
}

// Bytes equal, but for NaN scales, which need only both be NaN.
static bool same_rows(const uint8_t* a, const uint8_t* b, int planes, int64_t n, int64_t k) {
    const int64_t scales = planes * k, sums = scales + k / 8;
    for (int64_t t = 0; t < n; t++, a += CK_ROW_BYTES(planes, k), b += CK_ROW_BYTES(planes, k)) {
        const float* da = (const float*)(const void*)(a + scales);
        const float* db = (const float*)(const void*)(b + scales);
        for (int64_t i = 0; i < k / 32; i++)
            if (memcmp(da + i, db + i, 4) != 0 && !(isnan(da[i]) && isnan(db[i])))
                return false;
        if (memcmp(a, b, (size_t)scales) != 0 || memcmp(a + sums, b + sums, (size_t)k / 4) != 0)
            return false;
    }
    return true;
}

static void check_planes(const char* what, const float* values, int planes, int64_t n, int64_t k) {
    const char* symbol = planes == 2 ? "ck_quantize_rows" : "ck_quantize_rows_q8";
    const int64_t n_bytes = n * CK_ROW_BYTES(planes, k);
    const ck_buffer x = ck_buffer_of(n * k * 4, 4), want = ck_buffer_of(n_bytes, 4);
    memcpy(x.p, values, (size_t)(n * k * 4));
    expect_rows(want.p, x.p, planes, n, k);
    for (int i = 0; i < N_KERNELS; i++) {
        if (strcmp(kernels[i].symbol, symbol) != 0 || !(ck_cpu_detect() & kernels[i].isa))
            continue;
        for (int nth = 1; nth <= 3; nth++) {
            const ck_buffer got = ck_buffer_of(n_bytes, 4);
            memset(got.p, 0x55, (size_t)n_bytes);
            for (int tid = 0; tid < nth; tid++)
                kernels[i].run(got.p, x.p, n, k, tid, nth);
            CK_CHECK(same_rows(want.p, got.p, planes, n, k), "%s: %s, n %d k %d nth %d", kernels[i].name,
                     what, (int)n, (int)k, nth);
            ck_buffer_free(got);
        }
    }
    ck_buffer_free(x);
    ck_buffer_free(want);
}

static void check(const char* what, const float* values, int64_t n, int64_t k) {
    for (int planes = 1; planes <= 2; planes++)
        check_planes(what, values, planes, n, k);
}

static void check_shapes(void) {
    static const int64_t rows[] = {0, 1, 2, 7, 16, 17, 65}, columns[] = {0, 32, 64, 96, 576, 2048};
    float* x = malloc(65 * 2048 * sizeof *x);
    ck_random_floats(x, 65 * 2048);
    for (int r = 0; r < 7; r++)
        for (int c = 0; c < 6; c++)
            check("random", x, rows[r], columns[c]);
    free(x);
}

// Five blocks of noise of size `noise`, with `value` once in the second and once in the last.
static void check_value(const char* what, float value, float noise) {
    float x[160];
    ck_random_floats(x, 160);
    for (int i = 0; i < 160; i++)
        x[i] *= noise;
    x[37] = x[159] = value;
    check(what, x, 1, 160);
}

// Whole numbers and halves with the largest at 16256, or at 127: ties go to even, and low takes its extremes.
static void check_ties(void) {
    float x[64];
    for (int i = 0; i < 64; i++)
        x[i] = (float)(i - 32) * 0.5f + (i % 2 ? 64.0f : -64.0f);
    x[0] = x[32] = -16256.0f;
    check("ties", x, 1, 64);
    x[0] = x[32] = -127.0f;
    check("ties of q8", x, 1, 64);
}

int main(void) {
    for (int i = 0; i < N_KERNELS; i++)
        if (!(ck_cpu_detect() & kernels[i].isa))
            ck_skip(kernels[i].name);
    check_shapes();
    check_ties();
    check_value("zero", 0.0f, 0.0f);
    check_value("one value in zeros", -3.0f, 0.0f);
    check_value("largest float", 0x1.fffffep127f, 1.0f);
    check_value("infinity", INFINITY, 1.0f);
    check_value("minus infinity in zeros", -INFINITY, 0.0f);
    check_value("nan", NAN, 1.0f);
    check_value("nan in zeros", NAN, 0.0f);
    check_value("subnormal scale", 0x1p-119f, 0x1p-133f);
    check_value("smallest normal scale", 16256 * 0x1p-126f, 0x1p-122f);
    check_value("smallest normal scale of q8", 127 * 0x1p-126f, 0x1p-122f);
    check_value("below the smallest normal scale of q8", 126.9f * 0x1p-126f, 0x1p-122f);
    check_value("below the smallest normal scale", 16255.9f * 0x1p-126f, 0x1p-122f);
    check_value("subnormals", 0x1p-149f, 0x1p-148f);
    for (int i = 0; i < 2000; i++)
        check_value("scale", ck_random_float(), ck_random_float());
    return ck_finish();
}
