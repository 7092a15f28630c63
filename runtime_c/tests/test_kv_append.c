// kv_append: every element lands where the layout says and no other byte moves; f16 on every path equals the
// definition, over every f16 value, the midpoints between neighbours, and the floats beside those.
#include <math.h>

#include "../cpu.h"
#include "../kernels/half.h"
#include "../kernels/kv_append/kv_append.h"
#include "check.h"

#define CK_KERNEL(symbol, isa, function) __typeof__(symbol) function;
#include "../kernels/kv_append/kernels.inc"
#undef CK_KERNEL

typedef __typeof__(ck_kv_append_f32) append_fn;

static bool stored(const void* kv, int bytes, int64_t i, float want) {
    const uint16_t half = ck_float_f16(want);
    return memcmp((const char*)kv + i * bytes, bytes == 4 ? (const void*)&want : (const void*)&half,
                  (size_t)bytes) == 0;
}

// The elements of the cache that no row of the problem is stored in are untouched: bytes 0x5a.
static int64_t n_untouched(const char* kv, int64_t n_elements, int bytes) {
    int64_t count = 0;
    for (int64_t i = 0; i < n_elements; i++) {
        int same = 0;
        for (int b = 0; b < bytes; b++)
            same += kv[i * bytes + b] == 0x5a;
        count += same == bytes;
    }
    return count;
}

static void check_layout(append_fn* append, const char* name, int bytes, const float* k, const float* v,
                         int64_t n, int64_t pos, int64_t kv_heads, int64_t head_dim, int64_t capacity,
                         int nth) {
    const int64_t half = kv_heads * capacity * head_dim;
    const ck_buffer kv = ck_buffer_of(2 * half * bytes, bytes);
    int64_t misplaced = 0;
    memset(kv.p, 0x5a, (size_t)(2 * half * bytes));
    for (int tid = 0; tid < nth; tid++)
        append(kv.p, k, v, n, pos, kv_heads, head_dim, capacity, tid, nth);
    for (int64_t i = 0; i < n * kv_heads * head_dim; i++) {
        const int64_t d = i % head_dim, h = i / head_dim % kv_heads,
                      slot = (pos + i / head_dim / kv_heads) % capacity;
        const int64_t at_k = ((h * (capacity / 64) + slot / 64) * head_dim + d) * 64 + slot % 64;
        misplaced += !stored(kv.p, bytes, at_k, k[i]);
        misplaced += !stored(kv.p, bytes, half + (h * capacity + slot) * head_dim + d, v[i]);
    }
    CK_CHECK(misplaced == 0, "%s: n %d pos %d heads %d head_dim %d nth %d: %d elements misplaced", name,
             (int)n, (int)pos, (int)kv_heads, (int)head_dim, nth, (int)misplaced);
    const int64_t untouched = n_untouched(kv.p, 2 * half, bytes);
    CK_CHECK(untouched == 2 * (half - n * kv_heads * head_dim), "%s: n %d pos %d: %d elements untouched",
             name, (int)n, (int)pos, (int)untouched);
    ck_buffer_free(kv);
}

static void check_shapes(append_fn* append, const char* name, int bytes) {
    static const int64_t shapes[][5] = {
        // n, pos, kv_heads, head_dim, capacity
        {0, 5, 1, 16, 64},  {1, 0, 1, 16, 64},  {1, 63, 3, 64, 64},      {5, 62, 3, 64, 128},
        {64, 0, 1, 80, 64}, {64, 37, 2, 5, 64}, {100, 1000, 1, 70, 192}, {3, 190, 2, 256, 192},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int64_t *s = shapes[i], n_bytes = s[0] * s[2] * s[3] * 4;
        const ck_buffer k = ck_buffer_of(n_bytes, 4), v = ck_buffer_of(n_bytes, 4);
        ck_random_floats(k.p, n_bytes / 4);
        ck_random_floats(v.p, n_bytes / 4);
        for (int nth = 1; nth < 4; nth++)
            check_layout(append, name, bytes, k.p, v.p, s[0], s[1], s[2], s[3], s[4], nth);
        ck_buffer_free(k);
        ck_buffer_free(v);
    }
}

// Appends `x` [64] as values of one position and returns whether each became `want`.
static void check_rounding(append_fn* append, const char* name, const float* x, const uint16_t* want) {
    static uint16_t kv[2 * 64 * 64];
    append(kv, x, x, 1, 0, 1, 64, 64, 0, 1);
    for (int i = 0; i < 64; i++) {
        const uint16_t got = kv[64 * 64 + i];
        const bool nan = (got & 0x7fff) > 0x7c00 && (want[i] & 0x7fff) > 0x7c00;
        CK_CHECK(nan || got == want[i], "%s: %a: want %04x, got %04x", name, (double)x[i], want[i], got);
    }
}

// For f16 value h and its neighbour upwards: the value, the midpoint, and the floats on both sides of it.
static void check_f16(append_fn* append, const char* name) {
    float x[64];
    uint16_t want[64];
    for (uint32_t first = 0; first < 0x10000; first += 8) {
        for (uint32_t i = 0; i < 8; i++) {
            const uint16_t h = (uint16_t)(first + i), up = (uint16_t)(h + 1);
            const float value = ck_f16_float(h),
                        next = (up & 0x7fff) == 0x7c00 ? copysignf(65536.0f, value) : ck_f16_float(up);
            const float middle = (value + next) / 2;
            const uint16_t even = h & 1 ? up : h;
            const bool finite = (h & 0x7fff) < 0x7c00;
            for (int j = 0; j < 8; j++) {
                const float at[] = {value, middle, nextafterf(middle, value), nextafterf(middle, next)};
                const uint16_t to[] = {h, even, h, up};
                x[8 * i + (uint32_t)j] = finite ? at[j % 4] : value;
                want[8 * i + (uint32_t)j] = finite ? to[j % 4] : h;
            }
        }
        check_rounding(append, name, x, want);
    }
}

int main(void) {
#define CK_KERNEL(symbol, isa, function) \
    if (!(ck_cpu_detect() & CK_ISA_##isa)) { \
        ck_skip(#function); \
    } else if (strstr(#symbol, "f16") != NULL) { \
        check_shapes(function, #function, 2); \
        check_f16(function, #function); \
    } else { \
        check_shapes(function, #function, 4); \
    }
#include "../kernels/kv_append/kernels.inc"
    return ck_finish();
}
