// What the tests share: counting, random numbers, and buffers of exact size for the sanitizers to watch.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_passed, n_failed, n_skipped;

// Counts one check; a failed one says what it was.
#define CK_CHECK(ok, ...) \
    do { \
        if (ok) { \
            n_passed++; \
        } else { \
            n_failed++; \
            printf("FAILED %s:%d: ", __FILE__, __LINE__); \
            printf(__VA_ARGS__); \
            printf("\n"); \
        } \
    } while (0)

static inline void ck_skip(const char* what) {
    n_skipped++;
    printf("skipped: %s: not supported here\n", what);
}

// The closing line and the exit code.
static inline int ck_finish(void) {
    printf("%d passed, %d failed, %d skipped\n", n_passed, n_failed, n_skipped);
    return n_failed == 0 && n_passed > 0 ? 0 : 1;
}

// n_bytes from the heap, `shift` bytes past an aligned address and with nothing after them.
typedef struct {
    void* base;
    void* p;
} ck_buffer;

static inline ck_buffer ck_buffer_of(int64_t n_bytes, int shift) {
    char* base = malloc((size_t)(n_bytes + shift));
    if (base == NULL && n_bytes + shift > 0)
        abort();
    return (ck_buffer){base, base + shift};
}

static inline void ck_buffer_free(ck_buffer b) {
    free(b.base);
}

// xorshift64: the same numbers everywhere.
static uint64_t ck_random_state = 0x9e3779b97f4a7c15u;

static inline uint64_t ck_random(void) {
    ck_random_state ^= ck_random_state << 13;
    ck_random_state ^= ck_random_state >> 7;
    ck_random_state ^= ck_random_state << 17;
    return ck_random_state;
}

// Uniform in [-1, 1).
static inline float ck_random_float(void) {
    return (float)((int64_t)(ck_random() >> 40) - (1 << 23)) / (float)(1 << 23);
}

static inline void ck_random_floats(float* x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        x[i] = ck_random_float();
}
