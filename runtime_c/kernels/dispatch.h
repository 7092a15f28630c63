// How a family's dispatch.c turns its list into dispatchers. kernels.inc holds lines
//     CK_KERNEL(symbol, isa, function)      best last: the last line whose bundle is usable is the one called
// and dispatch.c is:
//     #include "family.h"
//     #include "../dispatch.h"
//     CK_DISPATCH(ck_symbol, (float* y, int tid, int nth), (y, tid, nth))      one for each symbol
//     CK_CHOOSE { ... #include "kernels.inc" ... }
// The choice is made once, when the library is loaded.
#pragma once

#include <stdint.h>

#include "../ck_rt.h"
#include "../cpu.h"

// Declares the kernel of a list's line: it has the type of the symbol it serves.
#define CK_DECLARE_KERNEL(symbol, isa, function) __typeof__(symbol) function;

#define CK_DISPATCH(symbol, parameters, arguments) \
    static void(*symbol##_chosen) parameters; \
    void symbol parameters { \
        symbol##_chosen arguments; \
    }

#define CK_CHOOSE_KERNEL(symbol, isa, function) \
    if (ck_cpu_features() & CK_ISA_##isa) \
        symbol##_chosen = function;

#define CK_CHOOSE __attribute__((constructor)) static void choose(void)
