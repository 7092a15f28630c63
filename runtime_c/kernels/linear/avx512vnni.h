// What the AVX-512 VNNI files share: a block of 16 rows in registers.
#pragma once

#include <immintrin.h>

#include "../iq4.h"
#include "tiles.h"

// u0..u7: the groups' vectors; d, m, m1 as in ck_wide; sc0, sc1 the halves' scales. Named: gcc keeps long
// arrays of vectors in memory.
typedef struct {
    __m512i u0, u1, u2, u3, u4, u5, u6, u7, sc0, sc1;
    __m512 d, m, m1;
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

// u with those bits of `mask` set that `bits` has; the other bits of `bits` may be anything.
static inline __m512i ck_with_bits512(__m512i u, __m512i bits, char mask) {
    // u | (bits & mask)
    return _mm512_ternarylogic_epi32(u, bits, _mm512_set1_epi8(mask), 0xf8);
}

// The vectors of nibble vectors q[4] and of a fifth bit each: bit g of a byte of h is that of group g.
static inline ck_block512 ck_fifths512(const uint8_t (*q)[64], const uint8_t* p) {
    const __m512i h = ck_load512(p);
    ck_block512 block = ck_nibbles512(q);
    block.u0 = ck_with_bits512(block.u0, _mm512_slli_epi16(h, 4), 16);
    block.u1 = ck_with_bits512(block.u1, _mm512_slli_epi16(h, 3), 16);
    block.u2 = ck_with_bits512(block.u2, _mm512_slli_epi16(h, 2), 16);
    block.u3 = ck_with_bits512(block.u3, _mm512_slli_epi16(h, 1), 16);
    block.u4 = ck_with_bits512(block.u4, h, 16);
    block.u5 = ck_with_bits512(block.u5, _mm512_srli_epi16(h, 1), 16);
    block.u6 = ck_with_bits512(block.u6, _mm512_srli_epi16(h, 2), 16);
    block.u7 = ck_with_bits512(block.u7, _mm512_srli_epi16(h, 3), 16);
    return block;
}

static inline __m512i ck_two512(__m512i v) {
    return _mm512_and_si512(v, _mm512_set1_epi8(3));
}

// The vectors of pair vectors p[2].
static inline ck_block512 ck_pairs512(const uint8_t (*p)[64]) {
    const __m512i a = ck_load512(p[0]), b = ck_load512(p[1]);
    return (ck_block512){
        .u0 = ck_two512(a), .u1 = ck_two512(_mm512_srli_epi16(a, 2)),
        .u2 = ck_two512(_mm512_srli_epi16(a, 4)), .u3 = ck_two512(_mm512_srli_epi16(a, 6)),
        .u4 = ck_two512(b), .u5 = ck_two512(_mm512_srli_epi16(b, 2)),
        .u6 = ck_two512(_mm512_srli_epi16(b, 4)), .u7 = ck_two512(_mm512_srli_epi16(b, 6)),
    };
}

static inline __m512i ck_unsigned512(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void*)p));
}

static inline __m512i ck_signed512(const int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void*)p));
}

// A block's nibbles -> the bytes of the table.
static inline ck_block512 ck_iq4_512(ck_block512 u) {
    const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const void*)ck_iq4_bytes));
    return (ck_block512){
        .u0 = _mm512_shuffle_epi8(table, u.u0), .u1 = _mm512_shuffle_epi8(table, u.u1),
        .u2 = _mm512_shuffle_epi8(table, u.u2), .u3 = _mm512_shuffle_epi8(table, u.u3),
        .u4 = _mm512_shuffle_epi8(table, u.u4), .u5 = _mm512_shuffle_epi8(table, u.u5),
        .u6 = _mm512_shuffle_epi8(table, u.u6), .u7 = _mm512_shuffle_epi8(table, u.u7),
    };
}
