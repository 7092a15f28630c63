// What llama.cpp makes of a model file, as numbers: token ids of a text, or a greedy continuation of ids.
//
//   probe MODEL tokenize              < text    one id a line; special tokens are added and recognised
//   probe MODEL texts               < frames  two lines a text: its ids, and those with its control tokens
//                                             recognised; a frame is a length in 4 little-endian bytes and
//                                             that many bytes; no special token is added
//   probe MODEL ends                          ids that end a reply, one a line
//   probe MODEL greedy N N_THREADS    < ids     N lines: id, its logit, the logit of the runner-up
//
// Keys and values are kept in f32. A program of its own, because llama.cpp's tools print text, which does not
// say which ids it came from. Exit code 0, or 1 with a line on stderr.
#include <llama.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char* what) {
    fprintf(stderr, "probe: %s\n", what);
    exit(1);
}

static void only_errors(enum ggml_log_level level, const char* text, void* data) {
    (void)data;
    if (level >= GGML_LOG_LEVEL_WARN) fputs(text, stderr);
}

// All of stdin, with a zero byte behind it.
static char* read_all(size_t* n_bytes) {
    size_t size = 0, room = 1 << 16;
    char* data = malloc(room);
    while (data) {
        size += fread(data + size, 1, room - 1 - size, stdin);
        if (size < room - 1) break;
        room *= 2;
        data = realloc(data, room);
    }
    if (!data || ferror(stdin)) fail("stdin must be readable");
    data[size] = 0;
    *n_bytes = size;
    return data;
}

static void tokenize(const struct llama_model* model) {
    size_t n_bytes;
    char* text = read_all(&n_bytes);
    // A token stands for a byte at least, but for those that are added.
    int32_t room = (int32_t)n_bytes + 8;
    llama_token* ids = malloc((size_t)room * sizeof *ids);
    if (!ids) fail("out of memory");
    int32_t n = llama_tokenize(llama_model_get_vocab(model), text, (int32_t)n_bytes, ids, room, true, true);
    if (n < 0) fail("the text must fit its buffer");
    for (int32_t i = 0; i < n; i++) printf("%d\n", ids[i]);
    free(ids);
    free(text);
}

static void print_ids(const struct llama_vocab* vocab, const char* text, int32_t n_bytes, bool parse_special) {
    int32_t room = n_bytes + 8;
    llama_token* ids = malloc((size_t)room * sizeof *ids);
    if (!ids) fail("out of memory");
    int32_t n = llama_tokenize(vocab, text, n_bytes, ids, room, false, parse_special);
    if (n < 0) fail("the text must fit its buffer");
    for (int32_t i = 0; i < n; i++) printf(i ? " %d" : "%d", ids[i]);
    putchar('\n');
    free(ids);
}

static void texts(const struct llama_model* model) {
    size_t n_bytes, at = 0;
    char* data = read_all(&n_bytes);
    while (at < n_bytes) {
        uint32_t size;
        if (n_bytes - at < sizeof size) fail("a frame must have its length");
        memcpy(&size, data + at, sizeof size);
        at += sizeof size;
        if (n_bytes - at < size) fail("a frame must have its bytes");
        print_ids(llama_model_get_vocab(model), data + at, (int32_t)size, false);
        print_ids(llama_model_get_vocab(model), data + at, (int32_t)size, true);
        at += size;
    }
    free(data);
}

static void print_ends(const struct llama_model* model) {
    const struct llama_vocab* vocab = llama_model_get_vocab(model);
    for (int32_t id = 0; id < llama_vocab_n_tokens(vocab); id++)
        if (llama_vocab_is_eog(vocab, id)) printf("%d\n", id);
}

// The ids of stdin; *n of them, one at least.
static llama_token* read_ids(int32_t* n) {
    size_t n_bytes;
    char* text = read_all(&n_bytes);
    llama_token* ids = malloc((n_bytes / 2 + 1) * sizeof *ids);
    if (!ids) fail("out of memory");
    *n = 0;
    for (char* word = strtok(text, " \n"); word; word = strtok(NULL, " \n")) ids[(*n)++] = atoi(word);
    if (*n == 0) fail("the ids must be at least one");
    free(text);
    return ids;
}

static struct llama_context* make_context(struct llama_model* model, int32_t n, int n_threads,
                                          enum ggml_type kv) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = (uint32_t)n;
    params.n_threads = params.n_threads_batch = n_threads;
    params.type_k = params.type_v = kv;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context* context = llama_init_from_model(model, params);
    if (!context) fail("the context cannot be made");
    return context;
}

static void logits(struct llama_model* model, int n_threads) {
    int32_t n;
    llama_token* ids = read_ids(&n);
    struct llama_context* context = make_context(model, n, n_threads, GGML_TYPE_F16);
    int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    struct llama_batch batch = llama_batch_get_one(ids, n);
    int8_t* wanted = malloc((size_t)n);
    if (!wanted) fail("out of memory");
    memset(wanted, 1, (size_t)n);
    batch.logits = wanted;
    if (llama_decode(context, batch)) fail("the ids cannot be decoded");
    for (int32_t i = 0; i < n; i++) {
        const float* row = llama_get_logits_ith(context, i);
        for (int v = 0; v < n_vocab; v++) printf(v ? " %.9g" : "%.9g", (double)row[v]);
        putchar('\n');
    }
    llama_free(context);
    free(wanted);
    free(ids);
}

static void quantize(const char* from, const char* to, int ftype) {
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = (enum llama_ftype)ftype;
    if (llama_model_quantize(from, to, &params)) fail("the model cannot be quantised");
}

static void greedy(struct llama_model* model, int n_steps, int n_threads) {
    int32_t n;
    llama_token* ids = read_ids(&n);
    struct llama_context* context = make_context(model, n + n_steps, n_threads, GGML_TYPE_F32);
    int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    struct llama_batch batch = llama_batch_get_one(ids, n);
    for (int step = 0; step < n_steps; step++) {
        if (llama_decode(context, batch)) fail("the step cannot be taken");
        const float* logits = llama_get_logits_ith(context, -1);
        llama_token best = 0;
        for (int v = 1; v < n_vocab; v++) best = logits[v] > logits[best] ? v : best;
        float second = -INFINITY;
        for (int v = 0; v < n_vocab; v++) second = v != best && logits[v] > second ? logits[v] : second;
        printf("%d %.9g %.9g\n", best, (double)logits[best], (double)second);
        ids[0] = best;
        batch = llama_batch_get_one(ids, 1);
    }
    llama_free(context);
    free(ids);
}

int main(int argc, char** argv) {
    const char* what = argc > 2 ? argv[2] : "";
    int tokenizes = argc == 3 && !strcmp(what, "tokenize");
    int reads = argc == 3 && !strcmp(what, "texts");
    int ends = argc == 3 && !strcmp(what, "ends");
    int quantizes = argc == 5 && !strcmp(what, "quantize");
    int continues = argc == 5 && !strcmp(what, "greedy");
    if (!tokenizes && !reads && !ends && !quantizes && !continues && !(argc == 4 && !strcmp(what, "logits")))
        fail("MODEL tokenize, MODEL texts, MODEL ends, MODEL greedy N N_THREADS, MODEL logits N_THREADS, or "
             "MODEL quantize OUT FTYPE");
    llama_log_set(only_errors, NULL);
    llama_backend_init();
    if (quantizes) {
        quantize(argv[1], argv[3], atoi(argv[4]));
        return 0;
    }
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = tokenizes || reads || ends;
    struct llama_model* model = llama_model_load_from_file(argv[1], params);
    if (!model) fail("the model cannot be loaded");
    if (tokenizes)
        tokenize(model);
    else if (reads)
        texts(model);
    else if (ends)
        print_ends(model);
    else if (continues)
        greedy(model, atoi(argv[3]), atoi(argv[4]));
    else
        logits(model, atoi(argv[3]));
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
