#include "cpu.h"

#include <cpuid.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "ck_rt.h"

typedef struct {
    uint64_t bit;
    const char* name;
} ck_bundle;

static const ck_bundle bundles[] = {
    {CK_ISA_scalar, "scalar"},
    {CK_ISA_avx2, "avx2"},
    {CK_ISA_avx512bw, "avx512bw"},
    {CK_ISA_avx512vnni, "avx512vnni"},
};

static const size_t n_bundles = sizeof bundles / sizeof bundles[0];

// XCR0: which register files the operating system saves on a context switch.
static uint64_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool all(uint64_t value, uint64_t bits) {
    return (value & bits) == bits;
}

uint64_t ck_cpu_detect(void) {
    const uint32_t ecx1 = bit_FMA | bit_F16C | bit_OSXSAVE | bit_AVX;
    const uint32_t ebx7 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    const uint64_t ymm = 0x06, zmm = 0xe6;
    uint32_t a, b, c, d;
    uint64_t found = CK_ISA_scalar;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !all(c, ecx1) || !all(saved_state(), ymm))
        return found;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !all(b, bit_AVX2))
        return found;
    found |= CK_ISA_avx2;
    if (!all(b, ebx7) || !all(saved_state(), zmm))
        return found;
    found |= CK_ISA_avx512bw;
    return all(c, bit_AVX512VNNI) ? found | CK_ISA_avx512vnni : found;
}

// Measured on two cores, four streams each: on Sapphire Rapids 1 KiB, on Zen 4 128 bytes (1 KiB: a fifth
// less).
int ck_cpu_ahead(void) {
    uint32_t a, b, c, d;
    const bool known = __get_cpuid(0, &a, &b, &c, &d);
    return known && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx ? 128 : 1024;
}

static uint64_t named(const char* name, size_t length) {
    for (size_t i = 0; i < n_bundles; i++)
        if (strlen(bundles[i].name) == length && memcmp(bundles[i].name, name, length) == 0)
            return bundles[i].bit;
    return 0;
}

uint64_t ck_cpu_masked(uint64_t detected, const char* mask) {
    uint64_t allowed = CK_ISA_scalar;
    if (mask == NULL || *mask == '\0')
        return detected;
    for (;;) {
        const size_t length = strcspn(mask, ",");
        allowed |= named(mask, length);
        if (mask[length] == '\0')
            return detected & allowed;
        mask += length + 1;
    }
}

// Asked once: CPUID leaves a virtual machine, and every line of every kernels.inc asks at load.
uint64_t ck_cpu_features(void) {
    static _Atomic uint64_t known;
    uint64_t features = known;
    if (features == 0)
        known = features = ck_cpu_masked(ck_cpu_detect(), getenv("CK_ISA_MASK"));
    return features;
}

const char* ck_isa_path(void) {
    const uint64_t features = ck_cpu_features();
    const char* path = "scalar";
    for (size_t i = 0; i < n_bundles; i++)
        if (features & bundles[i].bit)
            path = bundles[i].name;
    return path;
}
