// Quantised weights: blocks as a GGUF file holds them (one row), and packed blocks of layout r16 (16 rows).
//
// A matrix [N, K] in layout r16 is ceil(N / 16) panels of 16 rows; a panel is K / block packed blocks in
// order of K. Rows past N are all zero bytes. Inside a block of 32 columns, group g is columns 4g..4g+3 (g
// in 0..7), and the 64-byte vector of a group holds column 4g + j of row r in byte 4r + j: one 32-bit lane
// a row, which is what vpdpbusd, and an AMX B tile, multiply by four broadcast activations. AVX2 takes the
// two halves of a vector.
//
//        byte  0   1   2   3 | 4   5   6   7 | ...  | 60  61  62  63
//        row   0   0   0   0 | 1   1   1   1 | ...  | 15  15  15  15
//     column   4g .. 4g+3    | 4g .. 4g+3    | ...  | 4g .. 4g+3
//
// Weights are unsigned (the u8 operand), activations are signed. Scales lie beside them, one a row.
// "Nibble vectors" q[4]: vector v holds group v in its low nibbles and group v + 4 in its high nibbles.
// "Pair vectors" p[2]: bits 2 (g % 4) and 2 (g % 4) + 1 of byte i of p[g / 4] belong to byte i of group g.
// All structs are packed: blocks in a file are not aligned.
// Source of the file formats: the GGUF specification.
#pragma once

#include <stdint.h>

#define CK_PANEL 16
#define CK_PACKED struct __attribute__((packed))

// ---- blocks of a file: f16 is its bits in a uint16_t ----

// value = d * q
typedef CK_PACKED {
    uint16_t d;
    int8_t q[32];
} ck_q8_0;
_Static_assert(sizeof(ck_q8_0) == 34, "q8_0 in a file");

// value = d * (u - 8); byte i: column i in the low nibble, column i + 16 in the high nibble
typedef CK_PACKED {
    uint16_t d;
    uint8_t q[16];
} ck_q4_0;
_Static_assert(sizeof(ck_q4_0) == 18, "q4_0 in a file");

// value = d * u + m; byte i: column i in the low nibble, column i + 16 in the high nibble
typedef CK_PACKED {
    uint16_t d, m;
    uint8_t q[16];
} ck_q4_1;
_Static_assert(sizeof(ck_q4_1) == 20, "q4_1 in a file");

// value = d * (u - 16); nibbles as q4_1, bit i of h (little endian) is bit 4 of column i
typedef CK_PACKED {
    uint16_t d;
    uint8_t h[4];
    uint8_t q[16];
} ck_q5_0;
_Static_assert(sizeof(ck_q5_0) == 22, "q5_0 in a file");

// value = d * u + m; u as q5_0
typedef CK_PACKED {
    uint16_t d, m;
    uint8_t h[4];
    uint8_t q[16];
} ck_q5_1;
_Static_assert(sizeof(ck_q5_1) == 24, "q5_1 in a file");

// value = d * sc * u - dmin * mn, sc and mn of 6 bits for each of 8 sub-blocks s of 32 columns:
//   s < 4   sc = scales[s] & 63, mn = scales[s + 4] & 63
//   s >= 4  sc = scales[s + 4] & 15 | scales[s - 4] >> 6 << 4, mn = scales[s + 4] >> 4 | scales[s] >> 6 << 4
// byte 32 i + l of q: column l of sub-block 2i in the low nibble, of sub-block 2i + 1 in the high nibble
typedef CK_PACKED {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t q[128];
} ck_q4_k;
_Static_assert(sizeof(ck_q4_k) == 144, "q4_k in a file");

// as q4_k; bit s of h[l] is bit 4 of column l of sub-block s
typedef CK_PACKED {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t h[32];
    uint8_t q[128];
} ck_q5_k;
_Static_assert(sizeof(ck_q5_k) == 176, "q5_k in a file");

// value = d * sc * (u - 32), sc for each of 16 sub-blocks of 16 columns.
// Column 128 i + 32 k + l (i in 0..1, k in 0..3):
//   low 4 bits in ql[64 i + 32 (k & 1) + l], nibble k >> 1; upper 2 bits in qh[32 i + l], bits 2k and 2k + 1
typedef CK_PACKED {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t sc[16];
    uint16_t d;
} ck_q6_k;
_Static_assert(sizeof(ck_q6_k) == 210, "q6_k in a file");

// value = d * sc * (u - 4), sc of 6 bits less 32 for each of 16 sub-blocks s of 16 columns:
//   sc + 32 = nibble s / 8 of scales[s % 8], above it bits 2 (s / 4) and 2 (s / 4) + 1 of scales[8 + s % 4]
// Column 128 i + 32 k + l (i in 0..1, k in 0..3):
//   low 2 bits in q[32 i + l], bits 2k and 2k + 1; bit 2 in h[l], bit 4i + k
typedef CK_PACKED {
    uint8_t h[32];
    uint8_t q[64];
    uint8_t scales[12];
    uint16_t d;
} ck_q3_k;
_Static_assert(sizeof(ck_q3_k) == 110, "q3_k in a file");

// value = d * sc * u - dmin * mn, sc and mn the low and the high nibble of scales[s], for each of 16
// sub-blocks s of 16 columns; q as q3_k
typedef CK_PACKED {
    uint8_t scales[16];
    uint8_t q[64];
    uint16_t d, dmin;
} ck_q2_k;
_Static_assert(sizeof(ck_q2_k) == 84, "q2_k in a file");

// value = d * table[u], the table of 16 numbers in kernels/iq4.h; nibbles as q4_1
typedef CK_PACKED {
    uint16_t d;
    uint8_t q[16];
} ck_iq4_nl;
_Static_assert(sizeof(ck_iq4_nl) == 18, "iq4_nl in a file");

// value = d * sc * table[u], sc of 6 bits less 32 for each of 8 sub-blocks s of 32 columns:
//   sc + 32 = nibble s % 2 of low[s / 2], and above it bits 2s and 2s + 1 of high
// q: 16 bytes a sub-block, nibbles as q4_1
typedef CK_PACKED {
    uint16_t d, high;
    uint8_t low[4];
    uint8_t q[128];
} ck_iq4_xs;
_Static_assert(sizeof(ck_iq4_xs) == 136, "iq4_xs in a file");

// ---- packed blocks of 16 rows ----

// d f16 x 16 | q 8 vectors, u = q + 128.    value = d * (u - 128)
typedef CK_PACKED {
    uint16_t d[16];
    uint8_t q[8][64];
} ck_r16_q8_0;
_Static_assert(sizeof(ck_r16_q8_0) == 544, "q8_0 packed");

// d f16 x 16 | q 4 nibble vectors.    value = d * (u - 8)
typedef CK_PACKED {
    uint16_t d[16];
    uint8_t q[4][64];
} ck_r16_q4_0;
_Static_assert(sizeof(ck_r16_q4_0) == 288, "q4_0 packed");

// d f16 x 16 | m f16 x 16 | q 4 nibble vectors.    value = d * u + m
typedef CK_PACKED {
    uint16_t d[16], m[16];
    uint8_t q[4][64];
} ck_r16_q4_1;
_Static_assert(sizeof(ck_r16_q4_1) == 320, "q4_1 packed");

// d f16 x 16 | q 4 nibble vectors | h: bit g of byte i is bit 4 of byte i of group g.    value = d * (u - 16)
typedef CK_PACKED {
    uint16_t d[16];
    uint8_t q[4][64];
    uint8_t h[64];
} ck_r16_q5_0;
_Static_assert(sizeof(ck_r16_q5_0) == 352, "q5_0 packed");

// d f16 x 16 | m f16 x 16 | q, h as q5_0.    value = d * u + m
typedef CK_PACKED {
    uint16_t d[16], m[16];
    uint8_t q[4][64];
    uint8_t h[64];
} ck_r16_q5_1;
_Static_assert(sizeof(ck_r16_q5_1) == 384, "q5_1 packed");

// d f16 x 16 | dmin f16 x 16 | 8 sub-blocks of 32 columns.    value = d * sc * u - dmin * mn
typedef CK_PACKED {
    uint8_t sc[16], mn[16];
    uint8_t q[4][64];
} ck_r16_q4_k_sub;
typedef CK_PACKED {
    uint16_t d[16], dmin[16];
    ck_r16_q4_k_sub sub[8];
} ck_r16_q4_k;
_Static_assert(sizeof(ck_r16_q4_k) == 2368, "q4_k packed");

// as q4_k, with h as q5_0 in each sub-block
typedef CK_PACKED {
    uint8_t sc[16], mn[16];
    uint8_t q[4][64];
    uint8_t h[64];
} ck_r16_q5_k_sub;
typedef CK_PACKED {
    uint16_t d[16], dmin[16];
    ck_r16_q5_k_sub sub[8];
} ck_r16_q5_k;
_Static_assert(sizeof(ck_r16_q5_k) == 2880, "q5_k packed");

// d f16 x 16 | sc i8: [sub-block of 16 columns][row] | 8 x 32 columns: q 4 nibble vectors, then bits
// 4 and 5 in pair vectors h[2].
// value = d * sc * (u - 32)
typedef CK_PACKED {
    uint8_t q[4][64];
    uint8_t h[2][64];
} ck_r16_q6_k_sub;
typedef CK_PACKED {
    uint16_t d[16];
    int8_t sc[16][16];
    ck_r16_q6_k_sub sub[8];
} ck_r16_q6_k;
_Static_assert(sizeof(ck_r16_q6_k) == 3360, "q6_k packed");

// d f16 x 16 | sc i8: [sub-block of 16 columns][row] | 8 x 32 columns: pair vectors q[2], then bit 2 in h, as
// bit 4 of q5_0.    value = d * sc * (u - 4)
typedef CK_PACKED {
    uint8_t q[2][64];
    uint8_t h[64];
} ck_r16_q3_k_sub;
typedef CK_PACKED {
    uint16_t d[16];
    int8_t sc[16][16];
    ck_r16_q3_k_sub sub[8];
} ck_r16_q3_k;
_Static_assert(sizeof(ck_r16_q3_k) == 1824, "q3_k packed");

// d f16 x 16 | dmin f16 x 16 | scales, sc in the low and mn in the high one: [sub-block of 16 columns][row]
// | 8 x 32 columns: pair vectors q[2].    value = d * sc * u - dmin * mn
typedef CK_PACKED {
    uint16_t d[16], dmin[16];
    uint8_t scales[16][16];
    uint8_t q[8][2][64];
} ck_r16_q2_k;
_Static_assert(sizeof(ck_r16_q2_k) == 1344, "q2_k packed");

// d f16 x 16 | q 4 nibble vectors.    value = d * table[u]
typedef CK_PACKED {
    uint16_t d[16];
    uint8_t q[4][64];
} ck_r16_iq4_nl;
_Static_assert(sizeof(ck_r16_iq4_nl) == 288, "iq4_nl packed");

// d f16 x 16 | 8 sub-blocks of 32 columns: sc i8, q 4 nibble vectors.    value = d * sc * table[u]
typedef CK_PACKED {
    int8_t sc[16];
    uint8_t q[4][64];
} ck_r16_iq4_xs_sub;
typedef CK_PACKED {
    uint16_t d[16];
    ck_r16_iq4_xs_sub sub[8];
} ck_r16_iq4_xs;
_Static_assert(sizeof(ck_r16_iq4_xs) == 2208, "iq4_xs packed");

// ---- quantised activations ----
// A "q16 row": k columns, k a multiple of 32, of 15 bits in two planes, as ck_quantize_rows writes it:
//   int8 high[k] | int8 low[k] | f32 d[k / 32] | i32 sum[k / 16]
// q = 128 * high + low in -16256..16256, high in -127..127, low in -64..63; value = d * q.
// sum: of q over 16 columns.
// A "q8 row": the same of 8 bits in one plane, as ck_quantize_rows_q8 writes it:
//   int8 q[k] | f32 d[k / 32] | i32 sum[k / 16]
// q in -127..127; value = d * q.

#define CK_ROW_BYTES(planes, k) ((planes) * (k) + (k) / 8 + (k) / 4)
