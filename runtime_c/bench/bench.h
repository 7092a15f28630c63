// What the benchmarks share: a clock, and the median of repeated runs.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../ck_rt.h"
#include "../cpu.h"

static inline double ck_seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline double ck_now(void) {
    return ck_seconds(CLOCK_MONOTONIC);
}

static inline int ck_compare_doubles(const void* a, const void* b) {
    const double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

// Median seconds of one call of fn(arg, 0, 1), over 7 runs of at least 10 ms; the thread's own time, so that
// a busy machine shows less.
static inline double ck_measure(void (*fn)(void* arg, int tid, int nth), void* arg) {
    double seconds[7];
    int calls = 1;
    fn(arg, 0, 1);
    for (int run = 0; run < 7; run++) {
        const double start = ck_seconds(CLOCK_THREAD_CPUTIME_ID);
        for (int i = 0; i < calls; i++)
            fn(arg, 0, 1);
        seconds[run] = (ck_seconds(CLOCK_THREAD_CPUTIME_ID) - start) / calls;
        if (seconds[run] * calls < 0.01) {
            calls *= 2;
            run = -1;
        }
    }
    qsort(seconds, 7, sizeof *seconds, ck_compare_doubles);
    return seconds[3];
}

static inline float* ck_noise(size_t n) {
    float* x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    uint32_t state = 1;
    for (size_t i = 0; x != NULL && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
    return x;
}
