// embed_rows and embed_bwd: against loops over elements; slices, repeated tokens, tokens outside the
// vocabulary.
#include "../kernels/embed_rows/embed_rows.h"
#include "check.h"

static bool is_token(int32_t token, int64_t n_vocab) {
    return token >= 0 && token < n_vocab;
}

static void check_rows(const int32_t* tokens, int64_t n, int64_t n_vocab, int64_t d, int nth) {
    const ck_buffer w = ck_buffer_of(n_vocab * d * 4, 4), y = ck_buffer_of(n * d * 4, 4);
    ck_random_floats(w.p, n_vocab * d);
    memset(y.p, 0, (size_t)(n * d) * 4);
    for (int tid = 0; tid < nth; tid++)
        ck_embed_rows(y.p, tokens, w.p, n, n_vocab, d, tid, nth);
    int n_wrong = 0;
    for (int64_t i = 0; i < n * d; i++) {
        const float got = ((const float*)y.p)[i];
        const int32_t token = tokens[i / d];
        n_wrong += is_token(token, n_vocab) ? got != ((const float*)w.p)[token * d + i % d] : !isnan(got);
    }
    CK_CHECK(n_wrong == 0, "embed_rows n %d vocabulary %d d %d nth %d: %d wrong", (int)n, (int)n_vocab,
             (int)d, nth, n_wrong);
    ck_buffer_free(w);
    ck_buffer_free(y);
}

static void check_bwd(const int32_t* tokens, int64_t n, int64_t n_vocab, int64_t d, int64_t add, int nth) {
    const ck_buffer dy = ck_buffer_of(n * d * 4, 4), dw = ck_buffer_of(n_vocab * d * 4, 4);
    const ck_buffer want = ck_buffer_of(n_vocab * d * 4, 4);
    ck_random_floats(dy.p, n * d);
    ck_random_floats(dw.p, n_vocab * d);
    if (add)
        memcpy(want.p, dw.p, (size_t)(n_vocab * d) * 4);
    else
        memset(want.p, 0, (size_t)(n_vocab * d) * 4);
    for (int64_t i = 0; i < n * d; i++)
        if (is_token(tokens[i / d], n_vocab))
            ((float*)want.p)[tokens[i / d] * d + i % d] += ((const float*)dy.p)[i];
    for (int tid = 0; tid < nth; tid++)
        ck_embed_bwd(dw.p, tokens, dy.p, n, n_vocab, d, add, tid, nth);
    CK_CHECK(memcmp(dw.p, want.p, (size_t)(n_vocab * d) * 4) == 0,
             "embed_bwd n %d vocabulary %d d %d add %d nth %d: bits differ", (int)n, (int)n_vocab, (int)d,
             (int)add, nth);
    ck_buffer_free(dy);
    ck_buffer_free(dw);
    ck_buffer_free(want);
}

int main(void) {
    static const int64_t sizes[][3] = {{0, 5, 8},   {1, 1, 1},   {3, 0, 4},     {40, 7, 0},
                                       {40, 7, 15}, {41, 9, 16}, {100, 30, 33}, {64, 3, 100}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t n = sizes[i][0], n_vocab = sizes[i][1], d = sizes[i][2];
        const ck_buffer tokens = ck_buffer_of(n * 4, 4);
        // Every tenth or so lies outside, on both sides.
        for (int64_t t = 0; t < n; t++)
            ((int32_t*)tokens.p)[t] = (int32_t)(ck_random() % (uint64_t)(n_vocab + 2)) - 1;
        for (int nth = 1; nth < 6; nth++) {
            check_rows(tokens.p, n, n_vocab, d, nth);
            check_bwd(tokens.p, n, n_vocab, d, 0, nth);
            check_bwd(tokens.p, n, n_vocab, d, 1, nth);
        }
        ck_buffer_free(tokens);
    }
    return ck_finish();
}
