// CPU bundles: what a mask leaves, and that the path is the highest of what is left.
#include "../cpu.h"
#include "../ck_rt.h"
#include "check.h"

static void check_masked(const char* mask, uint64_t want) {
    const uint64_t every = CK_ISA_scalar | CK_ISA_avx2 | CK_ISA_avx512bw | CK_ISA_avx512vnni;
    const uint64_t got = ck_cpu_masked(every, mask);
    CK_CHECK(got == want, "mask %s: want %x, got %x", mask == NULL ? "(none)" : mask, (unsigned)want,
             (unsigned)got);
}

int main(void) {
    check_masked(NULL, 15);
    check_masked("", 15);
    check_masked("scalar", 1);
    check_masked("avx2", 3);
    check_masked("scalar,avx2", 3);
    check_masked("scalar,avx2,avx512bw,avx512vnni", 15);
    check_masked("avx512vnni,,nonsense,", 9);
    check_masked("avx", 1);
    CK_CHECK(ck_cpu_masked(CK_ISA_scalar, "avx2") == CK_ISA_scalar, "a mask adds a bundle");
    const uint64_t detected = ck_cpu_detect();
    CK_CHECK(detected & CK_ISA_scalar, "scalar is missing");
    CK_CHECK(!(detected & CK_ISA_avx512bw) || (detected & CK_ISA_avx2), "avx512bw without avx2");
    CK_CHECK(!(detected & CK_ISA_avx512vnni) || (detected & CK_ISA_avx512bw), "avx512vnni without avx512bw");
    CK_CHECK((ck_cpu_features() & ~detected) == 0, "features beyond the machine's");
    CK_CHECK((ck_cpu_features() == CK_ISA_scalar) == (strcmp(ck_isa_path(), "scalar") == 0), "path %s",
             ck_isa_path());
    CK_CHECK(ck_cpu_ahead() > 0 && ck_cpu_ahead() <= 4096, "%d bytes ahead", ck_cpu_ahead());
    return ck_finish();
}
