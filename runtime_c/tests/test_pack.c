// pack: the value of every element of a packed matrix, decoded by the formulas of blocks.h, equals the
// file's; rows past n_out are zero bytes; slices cover the whole, and nothing is written past the end.

#include "quantized.h"

static int packed_nibble(const uint8_t (*q)[64], int row, int i) {
    const int g = i / 4;
    return q[g % 4][4 * row + i % 4] >> g / 4 * 4 & 15;
}

static double packed_q8_0(const void* block, int row, int i) {
    const ck_r16_q8_0* w = block;
    return (double)ck_f16_float(w->d[row]) * (w->q[i / 4][4 * row + i % 4] - 128);
}

static double packed_q4_0(const void* block, int row, int i) {
    const ck_r16_q4_0* w = block;
    return (double)ck_f16_float(w->d[row]) * (packed_nibble(w->q, row, i) - 8);
}

static double packed_q4_1(const void* block, int row, int i) {
    const ck_r16_q4_1* w = block;
    return (double)ck_f16_float(w->d[row]) * packed_nibble(w->q, row, i) + (double)ck_f16_float(w->m[row]);
}

static int packed_fifth(const uint8_t (*q)[64], const uint8_t* h, int row, int i) {
    return packed_nibble(q, row, i) | (h[4 * row + i % 4] >> i / 4 & 1) << 4;
}

static double packed_q5_0(const void* block, int row, int i) {
    const ck_r16_q5_0* w = block;
    return (double)ck_f16_float(w->d[row]) * (packed_fifth(w->q, w->h, row, i) - 16);
}

static double packed_q5_1(const void* block, int row, int i) {
    const ck_r16_q5_1* w = block;
    return (double)ck_f16_float(w->d[row]) * packed_fifth(w->q, w->h, row, i) +
           (double)ck_f16_float(w->m[row]);
}

static double packed_q4_k(const void* block, int row, int i) {
    const ck_r16_q4_k* w = block;
    const ck_r16_q4_k_sub* sub = &w->sub[i / 32];
    return (double)ck_f16_float(w->d[row]) * sub->sc[row] * packed_nibble(sub->q, row, i % 32) -
           (double)ck_f16_float(w->dmin[row]) * sub->mn[row];
}

static double packed_q5_k(const void* block, int row, int i) {
    const ck_r16_q5_k* w = block;
    const ck_r16_q5_k_sub* sub = &w->sub[i / 32];
    return (double)ck_f16_float(w->d[row]) * sub->sc[row] * packed_fifth(sub->q, sub->h, row, i % 32) -
           (double)ck_f16_float(w->dmin[row]) * sub->mn[row];
}

static int packed_pair(const uint8_t (*p)[64], int row, int i) {
    return p[i / 16][4 * row + i % 4] >> i / 4 % 4 * 2 & 3;
}

static double packed_q6_k(const void* block, int row, int i) {
    const ck_r16_q6_k* w = block;
    const ck_r16_q6_k_sub* sub = &w->sub[i / 32];
    const int u = packed_nibble(sub->q, row, i % 32) | packed_pair(sub->h, row, i % 32) << 4;
    return (double)ck_f16_float(w->d[row]) * w->sc[i / 16][row] * (u - 32);
}

static double packed_q3_k(const void* block, int row, int i) {
    const ck_r16_q3_k* w = block;
    const ck_r16_q3_k_sub* sub = &w->sub[i / 32];
    const int u = packed_pair(sub->q, row, i % 32) | (sub->h[4 * row + i % 4] >> i % 32 / 4 & 1) << 2;
    return (double)ck_f16_float(w->d[row]) * w->sc[i / 16][row] * (u - 4);
}

static double packed_q2_k(const void* block, int row, int i) {
    const ck_r16_q2_k* w = block;
    const int scales = w->scales[i / 16][row];
    return (double)ck_f16_float(w->d[row]) * (scales & 15) * packed_pair(w->q[i / 32], row, i % 32) -
           (double)ck_f16_float(w->dmin[row]) * (scales >> 4);
}

static double packed_iq4_nl(const void* block, int row, int i) {
    const ck_r16_iq4_nl* w = block;
    return (double)ck_f16_float(w->d[row]) * iq4_value(packed_nibble(w->q, row, i));
}

static double packed_iq4_xs(const void* block, int row, int i) {
    const ck_r16_iq4_xs* w = block;
    const ck_r16_iq4_xs_sub* sub = &w->sub[i / 32];
    return (double)ck_f16_float(w->d[row]) * sub->sc[row] * iq4_value(packed_nibble(sub->q, row, i % 32));
}

typedef double packed_value(const void* block, int row, int i);

#define CK_VALUE_ROW(w) {#w, packed_##w},
static const struct {
    const char* name;
    packed_value* value;
} values[] = {CK_VALUE_ROW(q8_0) CK_VALUE_ROW(q4_0) CK_VALUE_ROW(q4_1) CK_VALUE_ROW(q5_0) CK_VALUE_ROW(q5_1)
                CK_VALUE_ROW(iq4_nl) CK_VALUE_ROW(q2_k) CK_VALUE_ROW(q3_k) CK_VALUE_ROW(q4_k)
                CK_VALUE_ROW(q5_k) CK_VALUE_ROW(q6_k) CK_VALUE_ROW(iq4_xs)};

static packed_value* value_of(const char* name) {
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (strcmp(values[i].name, name) == 0)
            return values[i].value;
    abort();
}

// Number of elements of a packed matrix that differ from the file's; rows past n_out must be 0.
static int64_t differences(const ck_type* type, const void* packed, const void* rows, int64_t n_out,
                           int64_t n_in) {
    packed_value* value = value_of(type->name);
    int64_t n = 0;
    for (int64_t row = 0; row < n_out; row++)
        for (int64_t k = 0; k < n_in; k++) {
            const int64_t block = row / 16 * (n_in / type->columns) + k / type->columns;
            const double got = value((const uint8_t*)packed + block * type->packed_bytes, (int)(row % 16),
                                     (int)(k % type->columns));
            n += got != ck_matrix_value(type, rows, n_in, row, k);
        }
    return n;
}

// Of a packed panel, clears what zero bytes of a file pack to beyond row n_rows and is no zero byte: the byte
// of 0 of q8_0, the scale of -32 of q3_k and iq4_xs. The f16 scale makes all of it nothing.
static void clear_rows(const ck_type* type, void* panel, int64_t n_rows, int64_t n_in) {
    for (int64_t b = 0; b < n_in / type->columns; b++) {
        if (strcmp(type->name, "q8_0") == 0)
            for (int g = 0; g < 8; g++)
                memset(((ck_r16_q8_0*)panel)[b].q[g] + 4 * n_rows, 0, (size_t)(64 - 4 * n_rows));
        if (strcmp(type->name, "q3_k") == 0)
            for (int s = 0; s < 16; s++)
                memset(((ck_r16_q3_k*)panel)[b].sc[s] + n_rows, 0, (size_t)(16 - n_rows));
        if (strcmp(type->name, "iq4_xs") == 0)
            for (int s = 0; s < 8; s++)
                memset(((ck_r16_iq4_xs*)panel)[b].sub[s].sc + n_rows, 0, (size_t)(16 - n_rows));
    }
}

// Whether every byte of rows past n_out is 0: the last panel, packed again from rows of which those are zero.
static bool is_padded(const ck_type* type, ck_buffer packed, ck_buffer rows, int64_t n_out, int64_t n_in) {
    const int64_t row_bytes = n_in / type->columns * type->file_bytes, first = (n_out - 1) / 16 * 16;
    const int64_t n_rows = n_out - first;
    const int64_t panel_bytes = ck_packed_matrix_bytes(type, 16, n_in);
    const ck_buffer full = ck_buffer_of(16 * row_bytes, 0), panel = ck_buffer_of(panel_bytes, 0);
    memset(full.p, 0, (size_t)(16 * row_bytes));
    memcpy(full.p, (uint8_t*)rows.p + first * row_bytes, (size_t)(n_rows * row_bytes));
    type->pack(panel.p, full.p, 16, n_in, 0, 1);
    clear_rows(type, panel.p, n_rows, n_in);
    const bool ok = memcmp(panel.p, (uint8_t*)packed.p + first / 16 * panel_bytes, (size_t)panel_bytes) == 0;
    ck_buffer_free(full);
    ck_buffer_free(panel);
    return ok;
}

static void check(const ck_type* type, int64_t n_out, int64_t n_in) {
    const ck_buffer rows = ck_random_matrix(type, n_out, n_in);
    const int64_t n_bytes = ck_packed_matrix_bytes(type, n_out, n_in);
    for (int nth = 1; nth <= 3; nth++) {
        const ck_buffer packed = ck_buffer_of(n_bytes, nth - 1);
        memset(packed.p, 0x55, (size_t)n_bytes);
        for (int tid = 0; tid < nth; tid++)
            type->pack(packed.p, rows.p, n_out, n_in, tid, nth);
        const int64_t wrong = differences(type, packed.p, rows.p, n_out, n_in);
        CK_CHECK(wrong == 0, "pack_%s [%d, %d] nth %d: %d elements differ", type->name, (int)n_out, (int)n_in,
                 nth, (int)wrong);
        CK_CHECK(n_out == 0 || is_padded(type, packed, rows, n_out, n_in), "pack_%s [%d, %d] nth %d: padding",
                 type->name, (int)n_out, (int)n_in, nth);
        ck_buffer_free(packed);
    }
    ck_buffer_free(rows);
}

int main(void) {
    static const int64_t outs[] = {0, 1, 2, 15, 16, 17, 33, 64, 65}, blocks[] = {0, 1, 2, 3, 18};
    for (int i = 0; i < CK_TYPES; i++)
        for (int o = 0; o < 9; o++)
            for (int b = 0; b < 5; b++)
                check(&ck_types[i], outs[o], blocks[b] * ck_types[i].columns);
    return ck_finish();
}
