// causal_conv1d: bit for bit the contract on every path and weight type, in any slices, and cut into any
// chunks; at position 0 a state of NaN reaches nothing.
#include <math.h>

#include "../cpu.h"
#include "../kernels/causal_conv1d/causal_conv1d.h"
#include "../kernels/half.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/causal_conv1d/kernels.inc"
#undef CK_KERNEL

typedef __typeof__(ck_causal_conv1d_f32) conv_fn;
typedef __typeof__(ck_pack_f32) pack_fn;

// The values of w [d][taps] as the type holds them, and packed.
static void store_weights(float* w, void* packed, const char* type, int64_t d, int64_t taps) {
    const bool is_f32 = strcmp(type, "f32") == 0, is_f16 = strcmp(type, "f16") == 0;
    const ck_buffer halves = ck_buffer_of(d * taps * 2, 2);
    uint16_t* to = halves.p;
    for (int64_t i = 0; !is_f32 && i < d * taps; i++) {
        to[i] = is_f16 ? ck_float_f16(w[i]) : (uint16_t)(ck_float_bits(w[i]) >> 16);
        w[i] = is_f16 ? ck_f16_float(to[i]) : ck_bf16_float(to[i]);
    }
    (is_f32 ? ck_pack_f32 : is_f16 ? ck_pack_f16 : ck_pack_bf16)(packed, is_f32 ? (void*)w : to, d, taps, 0,
                                                                 1);
    ck_buffer_free(halves);
}

// Row `at` of the sequence that starts with `taps - 1` rows of the state.
static float contract(const float* rows, const float* w, int64_t t, int64_t c, int64_t d, int64_t taps) {
    float sum = rows[t * d + c] * w[c * taps];
    for (int64_t i = 1; i < taps; i++)
        sum += rows[(t + i) * d + c] * w[c * taps + i];
    return sum;
}

static void check(conv_fn* conv, const char* name, const char* type, int64_t n, int64_t pos, int64_t d,
                  int64_t taps, int64_t chunk, int nth) {
    const int64_t keep = taps - 1, panels = (d + 15) / 16;
    const ck_buffer rows = ck_buffer_of((n + keep) * d * 4, 4), w = ck_buffer_of(d * taps * 4, 4),
                    packed = ck_buffer_of(panels * 16 * taps * 4, 0), y = ck_buffer_of(n * d * 4, 4),
                    state = ck_buffer_of(keep * d * 4, 4);
    ck_random_floats(rows.p, (n + keep) * d);
    ck_random_floats(w.p, d * taps);
    store_weights(w.p, packed.p, type, d, taps);
    float *sequence = rows.p, *kept = state.p;
    for (int64_t i = 0; i < keep * d; i++) {
        sequence[i] = pos > 0 ? sequence[i] : 0.0f;
        kept[i] = pos > 0 ? sequence[i] : NAN;
    }
    for (int64_t first = 0; first < n; first += chunk)
        for (int tid = 0; tid < nth; tid++)
            conv(kept, (float*)y.p + first * d, sequence + (keep + first) * d, packed.p,
                 n - first < chunk ? n - first : chunk, pos + first, d, taps, tid, nth);
    int64_t wrong = 0;
    for (int64_t t = 0; t < n; t++)
        for (int64_t c = 0; c < d; c++) {
            const float want = contract(sequence, w.p, t, c, d, taps);
            wrong += memcmp((float*)y.p + t * d + c, &want, 4) != 0;
        }
    CK_CHECK(wrong == 0, "%s: n %d pos %d d %d taps %d chunk %d: %d results are wrong", name, (int)n,
             (int)pos, (int)d, (int)taps, (int)chunk, (int)wrong);
    CK_CHECK(n == 0 || memcmp(kept, sequence + n * d, (size_t)(keep * d * 4)) == 0,
             "%s: n %d pos %d d %d taps %d chunk %d: the state is wrong", name, (int)n, (int)pos, (int)d,
             (int)taps, (int)chunk);
    const ck_buffer all[] = {rows, w, packed, y, state};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ck_buffer_free(all[i]);
}

static void check_shapes(conv_fn* conv, const char* name, const char* symbol) {
    static const int64_t shapes[][5] = {
        // n, pos, d, taps, chunk
        {0, 0, 16, 4, 1}, {1, 0, 1, 4, 1},   {1, 5, 17, 4, 1},   {2, 1, 16, 4, 2},   {7, 0, 300, 4, 7},
        {7, 0, 300, 4, 1}, {9, 64, 33, 4, 2}, {64, 3, 256, 4, 10}, {5, 2, 272, 2, 3}, {20, 0, 40, 8, 3},
    };
    const char* type = strrchr(symbol, '_') + 1;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int nth = 1; nth < 4; nth++)
            check(conv, name, type, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], shapes[i][4],
                  nth);
}

int main(void) {
#define CK_KERNEL(symbol, isa, function) \
    if (ck_cpu_detect() & CK_ISA_##isa) \
        check_shapes(function, #function, #symbol); \
    else \
        ck_skip(#function);
#include "../kernels/causal_conv1d/kernels.inc"
    return ck_finish();
}
