// The slice of n rows (or panels) that thread tid of nth works on: [n*tid/nth, n*(tid+1)/nth).
#pragma once

#include <stdint.h>

typedef struct {
    int64_t begin, end;
} ck_slice;

static inline ck_slice ck_slice_of(int64_t n, int tid, int nth) {
    return (ck_slice){n * tid / nth, n * (tid + 1) / nth};
}
