// The quantised types as the tests see them: random file rows and the value of each column, in double, from
// the format's formula alone.
#pragma once

#include <stddef.h>

#include "../blocks.h"
#include "../ck_math.h"
#include "../ck_rt.h"
#include "check.h"

typedef struct {
    const char* name;
    int64_t columns, file_bytes, packed_bytes;
    // Where a file block holds its f16 numbers; one of them twice if it has one.
    size_t scales[2];
    // The value of column i of a file block.
    double (*value)(const uint8_t* block, int i);
    void (*pack)(void* dst, const void* src_rows, int64_t n_out, int64_t n_in, int tid, int nth);
} ck_type;

// Makes a block of random bytes plausible: scales of about the size of a model's, between 2^-9 and 2^-5, of
// either sign.
static inline void ck_tame(const ck_type* type, uint8_t* block) {
    for (int i = 0; i < 2; i++) {
        const uint64_t r = ck_random();
        const uint16_t scale = (uint16_t)((r & 0x3ff) | (6 + (r >> 10) % 4) << 10 | (r >> 20 & 1) << 15);
        memcpy(block + type->scales[i], &scale, sizeof scale);
    }
}

static inline int nibble(const uint8_t* q, int i) {
    return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

static inline double value_q4_0(const uint8_t* block, int i) {
    const ck_q4_0* b = (const ck_q4_0*)block;
    return (double)ck_f16_float(b->d) * (nibble(b->q, i) - 8);
}

static inline double value_q8_0(const uint8_t* block, int i) {
    const ck_q8_0* b = (const ck_q8_0*)block;
    return (double)ck_f16_float(b->d) * b->q[i];
}

static inline double value_q4_1(const uint8_t* block, int i) {
    const ck_q4_1* b = (const ck_q4_1*)block;
    return (double)ck_f16_float(b->d) * nibble(b->q, i) + (double)ck_f16_float(b->m);
}

static inline int fifth(const uint8_t* q, const uint8_t* h, int i) {
    return nibble(q, i) | (h[i / 8] >> (i % 8) & 1) << 4;
}

static inline double value_q5_0(const uint8_t* block, int i) {
    const ck_q5_0* b = (const ck_q5_0*)block;
    return (double)ck_f16_float(b->d) * (fifth(b->q, b->h, i) - 16);
}

static inline double value_q5_1(const uint8_t* block, int i) {
    const ck_q5_1* b = (const ck_q5_1*)block;
    return (double)ck_f16_float(b->d) * fifth(b->q, b->h, i) + (double)ck_f16_float(b->m);
}

// Sub-block s of q4_k and q5_k, with u: d * sc * u - dmin * mn.
static inline double value_of_sub(const uint8_t* scales, int s, uint16_t d, uint16_t dmin, int u) {
    int sc, mn;
    if (s < 4) {
        sc = scales[s] & 63;
        mn = scales[s + 4] & 63;
    } else {
        sc = (scales[s + 4] & 15) | scales[s - 4] >> 6 << 4;
        mn = scales[s + 4] >> 4 | scales[s] >> 6 << 4;
    }
    return (double)ck_f16_float(d) * sc * u - (double)ck_f16_float(dmin) * mn;
}

static inline double value_q4_k(const uint8_t* block, int i) {
    const ck_q4_k* b = (const ck_q4_k*)block;
    const int s = i / 32, u = b->q[32 * (s / 2) + i % 32] >> s % 2 * 4 & 15;
    return value_of_sub(b->scales, s, b->d, b->dmin, u);
}

static inline double value_q5_k(const uint8_t* block, int i) {
    const ck_q5_k* b = (const ck_q5_k*)block;
    const int s = i / 32, low = b->q[32 * (s / 2) + i % 32] >> s % 2 * 4 & 15;
    return value_of_sub(b->scales, s, b->d, b->dmin, low | (b->h[i % 32] >> s & 1) << 4);
}

static inline double value_q6_k(const uint8_t* block, int i) {
    const ck_q6_k* b = (const ck_q6_k*)block;
    const int half = i / 128, k = i % 128 / 32, l = i % 32;
    const int low = b->ql[64 * half + 32 * (k & 1) + l] >> (k >> 1) * 4 & 15;
    const int high = b->qh[32 * half + l] >> 2 * k & 3;
    return (double)ck_f16_float(b->d) * b->sc[i / 16] * ((low | high << 4) - 32);
}

// The low two bits of column i of q3_k and q2_k.
static inline int two_bits(const uint8_t* q, int i) {
    return q[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

static inline double value_q3_k(const uint8_t* block, int i) {
    const ck_q3_k* b = (const ck_q3_k*)block;
    const int s = i / 16, low = s < 8 ? b->scales[s] & 15 : b->scales[s - 8] >> 4;
    const int sc = (low | (b->scales[8 + s % 4] >> s / 4 * 2 & 3) << 4) - 32;
    const int missing = b->h[i % 32] >> i / 32 & 1 ? 0 : 4;
    return (double)ck_f16_float(b->d) * sc * (two_bits(b->q, i) - missing);
}

static inline double value_q2_k(const uint8_t* block, int i) {
    const ck_q2_k* b = (const ck_q2_k*)block;
    const int scales = b->scales[i / 16];
    return (double)ck_f16_float(b->d) * (scales & 15) * two_bits(b->q, i) -
           (double)ck_f16_float(b->dmin) * (scales >> 4);
}

static inline int iq4_value(int u) {
    static const int values[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return values[u];
}

static inline double value_iq4_nl(const uint8_t* block, int i) {
    const ck_iq4_nl* b = (const ck_iq4_nl*)block;
    return (double)ck_f16_float(b->d) * iq4_value(nibble(b->q, i));
}

static inline double value_iq4_xs(const uint8_t* block, int i) {
    const ck_iq4_xs* b = (const ck_iq4_xs*)block;
    const int s = i / 32, low = b->low[s / 2] >> s % 2 * 4 & 15;
    const int sc = (low | (b->high >> 2 * s & 3) << 4) - 32;
    return (double)ck_f16_float(b->d) * sc * iq4_value(nibble(b->q + 16 * s, i % 32));
}

#define CK_TYPE_ROW(w, columns, first, second) \
    {#w, columns, sizeof(ck_##w), sizeof(ck_r16_##w), {offsetof(ck_##w, first), offsetof(ck_##w, second)}, \
     value_##w, ck_pack_##w},

static const ck_type ck_types[] = {
    CK_TYPE_ROW(q8_0, 32, d, d)
    CK_TYPE_ROW(q4_0, 32, d, d)
    CK_TYPE_ROW(q4_1, 32, d, m)
    CK_TYPE_ROW(q5_0, 32, d, d)
    CK_TYPE_ROW(q5_1, 32, d, m)
    CK_TYPE_ROW(iq4_nl, 32, d, d)
    CK_TYPE_ROW(q2_k, 256, d, dmin)
    CK_TYPE_ROW(q3_k, 256, d, d)
    CK_TYPE_ROW(q4_k, 256, d, dmin)
    CK_TYPE_ROW(q5_k, 256, d, dmin)
    CK_TYPE_ROW(q6_k, 256, d, d)
    CK_TYPE_ROW(iq4_xs, 256, d, d)
};
enum { CK_TYPES = sizeof ck_types / sizeof ck_types[0] };

static inline const ck_type* ck_type_named(const char* name) {
    for (int i = 0; i < CK_TYPES; i++)
        if (strcmp(ck_types[i].name, name) == 0)
            return &ck_types[i];
    abort();
}

static inline int64_t ck_file_matrix_bytes(const ck_type* type, int64_t n_out, int64_t n_in) {
    return n_out * (n_in / type->columns) * type->file_bytes;
}

static inline int64_t ck_packed_matrix_bytes(const ck_type* type, int64_t n_out, int64_t n_in) {
    return (n_out + 15) / 16 * (n_in / type->columns) * type->packed_bytes;
}

// A random matrix as a file holds it, one byte off alignment.
static inline ck_buffer ck_random_matrix(const ck_type* type, int64_t n_out, int64_t n_in) {
    const int64_t n_bytes = ck_file_matrix_bytes(type, n_out, n_in);
    const ck_buffer rows = ck_buffer_of(n_bytes, 1);
    for (int64_t i = 0; i < n_bytes; i++)
        ((uint8_t*)rows.p)[i] = (uint8_t)(ck_random() >> 32);
    for (int64_t i = 0; i < n_bytes; i += type->file_bytes)
        ck_tame(type, (uint8_t*)rows.p + i);
    return rows;
}

static inline double ck_matrix_value(const ck_type* type, const void* rows, int64_t n_in, int64_t row,
                                     int64_t k) {
    const int64_t block = row * (n_in / type->columns) + k / type->columns;
    return type->value((const uint8_t*)rows + block * type->file_bytes, (int)(k % type->columns));
}
