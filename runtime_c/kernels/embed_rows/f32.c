#include "embed_rows.h"

void ck_embed_rows(float* y, const int32_t* tokens, const void* w, int64_t n, int64_t n_vocab, int64_t d,
                   int tid, int nth) {
    const ck_slice rows = ck_slice_of(n, tid, nth);
    for (int64_t t = rows.begin; t < rows.end; t++) {
        const int32_t token = tokens[t];
        if (token >= 0 && token < n_vocab)
            memcpy(y + t * d, (const float*)w + token * d, (size_t)d * sizeof *y);
        else
            for (int64_t i = 0; i < d; i++)
                y[t * d + i] = NAN;
    }
}

void ck_embed_bwd(void* dw, const int32_t* tokens, const float* dy, int64_t n, int64_t n_vocab, int64_t d,
                  int64_t add, int tid, int nth) {
    const ck_slice groups = ck_slice_of((d + 15) / 16, tid, nth);
    const int64_t first = groups.begin * 16, end = groups.end * 16 < d ? groups.end * 16 : d;
    if (first >= end)
        return;
    for (int64_t v = 0; add == 0 && v < n_vocab; v++)
        memset((float*)dw + v * d + first, 0, (size_t)(end - first) * sizeof(float));
    for (int64_t t = 0; t < n; t++) {
        const int32_t token = tokens[t];
        if (token < 0 || token >= n_vocab)
            continue;
        float* restrict to = (float*)dw + token * d;
        for (int64_t i = first; i < end; i++)
            to[i] += dy[t * d + i];
    }
}
