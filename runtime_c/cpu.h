// Instruction-set bundles. A kernel file names one by its suffix (q8_0__avx2.c); only cpu.c asks the CPU.
//
// A bundle is usable when CPUID reports all of its features, the operating system saves its registers (XCR0),
// and CK_ISA_MASK, a comma list of the bundles that are allowed ("scalar,avx2"), names it or is unset.
// `scalar` is always usable.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CK_ISA_scalar 1u       // what every x86-64 has
#define CK_ISA_avx2 2u         // AVX2, FMA, F16C
#define CK_ISA_avx512bw 4u     // AVX-512 F, BW, VL, DQ, and all of avx2
#define CK_ISA_avx512vnni 8u   // AVX-512 VNNI, and all of avx512bw

// Bits the machine supports, whatever CK_ISA_MASK says.
uint64_t ck_cpu_detect(void);

// How many bytes before their use a kernel asks for memory that it streams.
int ck_cpu_ahead(void);

// Bits that `mask` (a CK_ISA_MASK value, or NULL for no mask) leaves of `detected`.
uint64_t ck_cpu_masked(uint64_t detected, const char* mask);
