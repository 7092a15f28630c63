// embed and dequantize: dequantize against the formulas in double, rounded as its header says; embed of a
// packed matrix the same bits as dequantize of the file's row, for random bytes, NaN and infinite scales
// among them.
#include <math.h>

#include "../kernels/half.h"
#include "quantized.h"

typedef void embed_fn(float*, const int32_t*, const void*, int64_t, int64_t, int64_t, int, int);
typedef void dequantize_fn(float*, const void*, int64_t);
typedef void pack_fn(void*, const void*, int64_t, int64_t, int, int);

typedef struct {
    const char* name;
    int64_t columns, file_bytes, packed_bytes;
    embed_fn* embed;
    dequantize_fn* dequantize;
    pack_fn* pack;
} storage;

#define STORAGE(w, columns, file_bytes, packed_bytes) \
    {#w, columns, file_bytes, packed_bytes, ck_embed_##w, ck_dequantize_##w, ck_pack_##w}

static const storage storages[] = {
    STORAGE(f32, 1, 4, 64),
    STORAGE(f16, 1, 2, 32),
    STORAGE(bf16, 1, 2, 32),
    STORAGE(q4_0, 32, sizeof(ck_q4_0), sizeof(ck_r16_q4_0)),
    STORAGE(q4_1, 32, sizeof(ck_q4_1), sizeof(ck_r16_q4_1)),
    STORAGE(q5_0, 32, sizeof(ck_q5_0), sizeof(ck_r16_q5_0)),
    STORAGE(q5_1, 32, sizeof(ck_q5_1), sizeof(ck_r16_q5_1)),
    STORAGE(q8_0, 32, sizeof(ck_q8_0), sizeof(ck_r16_q8_0)),
    STORAGE(iq4_nl, 32, sizeof(ck_iq4_nl), sizeof(ck_r16_iq4_nl)),
    STORAGE(q2_k, 256, sizeof(ck_q2_k), sizeof(ck_r16_q2_k)),
    STORAGE(q3_k, 256, sizeof(ck_q3_k), sizeof(ck_r16_q3_k)),
    STORAGE(q4_k, 256, sizeof(ck_q4_k), sizeof(ck_r16_q4_k)),
    STORAGE(q5_k, 256, sizeof(ck_q5_k), sizeof(ck_r16_q5_k)),
    STORAGE(q6_k, 256, sizeof(ck_q6_k), sizeof(ck_r16_q6_k)),
    STORAGE(iq4_xs, 256, sizeof(ck_iq4_xs), sizeof(ck_r16_iq4_xs)),
};
enum { N_STORAGES = sizeof storages / sizeof storages[0] };

// Number of elements that differ; one NaN is as good as another.
static int64_t n_different(const float* a, const float* b, int64_t n) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += memcmp(a + i, b + i, sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]));
    return count;
}

static ck_buffer random_rows(int64_t n_bytes) {
    const ck_buffer rows = ck_buffer_of(n_bytes, 1);
    for (int64_t i = 0; i < n_bytes; i++)
        ((uint8_t*)rows.p)[i] = (uint8_t)(ck_random() >> 32);
    return rows;
}

static void check_embed(const storage* s, int64_t n_vocab, int64_t d, int nth) {
    enum { N = 40 };
    const int64_t row_bytes = d / s->columns * s->file_bytes;
    const ck_buffer rows = random_rows(n_vocab * row_bytes);
    const ck_buffer packed = ck_buffer_of((n_vocab + 15) / 16 * (d / s->columns) * s->packed_bytes, 4);
    const ck_buffer tokens = ck_buffer_of(N * 4, 4), y = ck_buffer_of(N * d * 4, 4),
                    want = ck_buffer_of(d * 4, 4);
    for (int i = 0; i < N; i++)
        ((int32_t*)tokens.p)[i] = i == 7   ? -1
                                  : i == 8 ? (int32_t)n_vocab
                                           : (int32_t)(ck_random() % (uint64_t)n_vocab);
    for (int tid = 0; tid < nth; tid++) {
        s->pack(packed.p, rows.p, n_vocab, d, tid, nth);
    }
    for (int tid = 0; tid < nth; tid++)
        s->embed(y.p, tokens.p, packed.p, N, n_vocab, d, tid, nth);
    for (int i = 0; i < N; i++) {
        const int32_t token = ((int32_t*)tokens.p)[i];
        for (int64_t j = 0; j < d; j++)
            ((float*)want.p)[j] = NAN;
        if (token >= 0 && token < n_vocab)
            s->dequantize(want.p, (const char*)rows.p + token * row_bytes, d);
        const int64_t different = n_different((const float*)y.p + i * d, want.p, d);
        CK_CHECK(different == 0, "%s: vocabulary %d, width %d, token %d: %d elements differ", s->name,
                 (int)n_vocab, (int)d, (int)token, (int)different);
    }
    ck_buffer_free(rows);
    ck_buffer_free(packed);
    ck_buffer_free(tokens);
    ck_buffer_free(y);
    ck_buffer_free(want);
}

// Scales are f16, so at most three products of f32 are rounded on the way, and one difference.
static void check_dequantize(const ck_type* type) {
    const int64_t n = 4 * type->columns;
    const ck_buffer rows = ck_random_matrix(type, 2, n / 2), y = ck_buffer_of(n * 4, 4);
    for (int i = 0; i < N_STORAGES; i++)
        if (strcmp(storages[i].name, type->name) == 0)
            storages[i].dequantize(y.p, rows.p, n);
    for (int64_t i = 0; i < n; i++) {
        const double want = ck_matrix_value(type, rows.p, n, 0, i), got = (double)((const float*)y.p)[i];
        // Values reach 2^-5 * 128 * 32, and their parts no more.
        CK_CHECK(fabs(got - want) <= 4 * 0x1p-24 * 128, "%s element %d: want %g, got %g", type->name, (int)i,
                 want, got);
    }
    ck_buffer_free(rows);
    ck_buffer_free(y);
}

int main(void) {
    for (int i = 0; i < CK_TYPES; i++)
        check_dequantize(&ck_types[i]);
    for (int i = 0; i < N_STORAGES; i++)
        for (int64_t n_vocab = 1; n_vocab < 70; n_vocab = 3 * n_vocab + 1)
            for (int nth = 1; nth < 4; nth++)
                check_embed(&storages[i], n_vocab, storages[i].columns * (nth == 2 ? 3 : 1), nth);
    return ck_finish();
}
