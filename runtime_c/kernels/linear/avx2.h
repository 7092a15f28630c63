// What the AVX2 files share. A block's vectors are taken as two halves: rows 0-7 and rows 8-15 of the panel.
#pragma once

#include <immintrin.h>

#include "tiles.h"

static inline __m256i ck_load256(const void* p) {
    return _mm256_loadu_si256(p);
}

static inline __m256 ck_half256(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

// Four bytes of x in every lane.
static inline __m256i ck_four256(const int8_t* p) {
    int32_t four;
    memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
}

static inline void ck_store256(void* p, __m256i v) {
    _mm256_storeu_si256(p, v);
}

static inline __m256i ck_low256(__m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

// Half of nibble vectors q[4] (`half` bytes from their start) -> the same half of the groups' vectors.
static inline void ck_widen_nibbles256(uint8_t (*u)[64], const uint8_t (*q)[64], int half) {
    for (int v = 0; v < 4; v++) {
        const __m256i nibbles = ck_load256(q[v] + half);
        ck_store256(u[v] + half, ck_low256(nibbles));
        ck_store256(u[v + 4] + half, ck_low256(_mm256_srli_epi16(nibbles, 4)));
    }
}

// u |= bits & mask, for half a vector.
static inline void ck_set_bits256(uint8_t* u, __m256i bits, int mask) {
    const __m256i chosen = _mm256_and_si256(bits, _mm256_set1_epi8((char)mask));
    ck_store256(u, _mm256_or_si256(ck_load256(u), chosen));
}
