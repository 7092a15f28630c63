// What the AVX2 files share. A block's vectors are taken as two halves: rows 0-7 and rows 8-15 of the panel.
#pragma once

#include <immintrin.h>

#include "../iq4.h"
#include "tiles.h"

static inline __m256i ck_load256(const void* p) {
    return _mm256_loadu_si256(p);
}

static inline __m256 ck_half256(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

// Two columns of x in every lane.
static inline __m256i ck_pair256(const int16_t* p) {
    int32_t pair;
    memcpy(&pair, p, 4);
    return _mm256_set1_epi32(pair);
}

// Half h of group g of nibble vectors q[4].
static inline __m256i ck_nibbles256(const uint8_t (*q)[64], int g, int h) {
    const __m256i nibbles = ck_load256(q[g % 4] + 32 * h);
    return _mm256_and_si256(g < 4 ? nibbles : _mm256_srli_epi16(nibbles, 4), _mm256_set1_epi8(15));
}

// u with bits [to, to + n) of each byte set as bits [from, from + n) of the bytes at p are; to + n <= 8.
static inline __m256i ck_bits256(__m256i u, const uint8_t* p, int from, int to, int n) {
    const __m256i bits = ck_load256(p);
    const __m256i moved = from > to ? _mm256_srli_epi16(bits, from - to) : _mm256_slli_epi16(bits, to - from);
    return _mm256_or_si256(u, _mm256_and_si256(moved, _mm256_set1_epi8((char)(((1 << n) - 1) << to))));
}

// Half h of group g of pair vectors p[2].
static inline __m256i ck_pairs256(const uint8_t (*p)[64], int g, int h) {
    return ck_bits256(_mm256_setzero_si256(), p[g / 4] + 32 * h, 2 * (g % 4), 0, 2);
}

// Eight scales as 32-bit numbers.
static inline __m256i ck_signed256(const int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void*)p));
}

// Nibbles -> the bytes of the table.
static inline __m256i ck_iq4_256(__m256i u) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void*)ck_iq4_bytes)), u);
}
