// What the AVX-512 VNNI files share: a block of 16 rows in registers.
#pragma once

#include <immintrin.h>

#include "tiles.h"

// u0..u7: the groups' vectors; d, m as in ck_wide; sc0, sc1 for HALVES. Named: gcc keeps long arrays of
// vectors in memory.
typedef struct {
    __m512i u0, u1, u2, u3, u4, u5, u6, u7, sc0, sc1;
    __m512 d, m;
} ck_block512;

// The value stays in a register: gcc would load it again for each use, and loads that cross lines are dear.
static inline __m512i ck_load512(const void* p) {
    __m512i v = _mm512_loadu_si512(p);
    __asm__("" : "+v"(v));
    return v;
}

static inline __m512 ck_half512(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

// Four bytes (four columns of a plane, or a pair) of x in every lane.
static inline __m512i ck_four512(const void* p) {
    int32_t four;
    memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
}

static inline __m512i ck_low512(__m512i v) {
    return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

static inline __m512i ck_high512(__m512i v) {
    return ck_low512(_mm512_srli_epi16(v, 4));
}

// The vectors of nibble vectors q[4]; the rest is the caller's.
static inline ck_block512 ck_nibbles512(const uint8_t (*q)[64]) {
    const __m512i a = ck_load512(q[0]), b = ck_load512(q[1]), c = ck_load512(q[2]), d = ck_load512(q[3]);
    return (ck_block512){
        .u0 = ck_low512(a), .u1 = ck_low512(b), .u2 = ck_low512(c), .u3 = ck_low512(d),
        .u4 = ck_high512(a), .u5 = ck_high512(b), .u6 = ck_high512(c), .u7 = ck_high512(d),
    };
}

// u with bit 4 set where `bits` has it; the other bits of `bits` may be anything.
static inline __m512i ck_with_fifth512(__m512i u, __m512i bits) {
    // u | (bits & 16)
    return _mm512_ternarylogic_epi32(u, bits, _mm512_set1_epi8(16), 0xf8);
}

// The vectors of nibble vectors q[4] and of a fifth bit each: bit g of a byte of h is that of group g.
static inline ck_block512 ck_fifths512(const uint8_t (*q)[64], const uint8_t* p) {
    const __m512i h = ck_load512(p);
    ck_block512 block = ck_nibbles512(q);
    block.u0 = ck_with_fifth512(block.u0, _mm512_slli_epi16(h, 4));
    block.u1 = ck_with_fifth512(block.u1, _mm512_slli_epi16(h, 3));
    block.u2 = ck_with_fifth512(block.u2, _mm512_slli_epi16(h, 2));
    block.u3 = ck_with_fifth512(block.u3, _mm512_slli_epi16(h, 1));
    block.u4 = ck_with_fifth512(block.u4, h);
    block.u5 = ck_with_fifth512(block.u5, _mm512_srli_epi16(h, 1));
    block.u6 = ck_with_fifth512(block.u6, _mm512_srli_epi16(h, 2));
    block.u7 = ck_with_fifth512(block.u7, _mm512_srli_epi16(h, 3));
    return block;
}
