// The processor's own limit: f32 multiply-adds from registers, the widest vectors, one thread.
#include <immintrin.h>

#include "bench.h"

enum { CHAINS = 12, STEPS = 1 << 16 };

#define CHAIN_12(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11)

// Twelve independent chains hide the latency of four cycles on two units.
#define DECLARE(i) acc_##i = x,
// The empty assembly hides from the compiler that all chains hold the same numbers.
#define STEP_512(i) \
    acc_##i = _mm512_fmadd_ps(acc_##i, x, y); \
    __asm__ volatile("" : "+v"(acc_##i));
#define STEP_256(i) \
    acc_##i = _mm256_fmadd_ps(acc_##i, x, y); \
    __asm__ volatile("" : "+x"(acc_##i));

__attribute__((target("avx512f"))) static void fma_512(void* arg, int tid, int nth) {
    (void)tid, (void)nth;
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
    __m512 CHAIN_12(DECLARE) sum = y;
    for (int i = 0; i < STEPS; i++) {
        CHAIN_12(STEP_512)
    }
#define SUM_512(i) sum = _mm512_add_ps(sum, acc_##i);
    CHAIN_12(SUM_512)
    _mm512_storeu_ps(arg, sum);
}

__attribute__((target("avx2,fma"))) static void fma_256(void* arg, int tid, int nth) {
    (void)tid, (void)nth;
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
    __m256 CHAIN_12(DECLARE) sum = y;
    for (int i = 0; i < STEPS; i++) {
        CHAIN_12(STEP_256)
    }
#define SUM_256(i) sum = _mm256_add_ps(sum, acc_##i);
    CHAIN_12(SUM_256)
    _mm256_storeu_ps(arg, sum);
}

int main(void) {
    float out[16];
    const uint64_t features = ck_cpu_features();
    if (!(features & CK_ISA_avx2)) {
        printf("a processor with AVX2 is required\n");
        return 1;
    }
    const int lanes = features & CK_ISA_avx512bw ? 16 : 8;
    const double seconds = ck_measure(lanes == 16 ? fma_512 : fma_256, out);
    printf("one thread: %.1f GFLOP/s, vectors of %d\n", 2.0 * lanes * CHAINS * STEPS / seconds * 1e-9, lanes);
    return 0;
}
