// llama.cpp's samplers on logits that are given: what a chain leaves, and how probable each of it is.
//
//   sampler_probe MODEL < commands      MODEL gives the vocabulary; its weights are not read
//
//   new                          an empty chain
//   add NAME NUMBER..            a sampler at its end, NUMBERs in the order of llama_sampler_init_NAME
//   add dry NUMBER.. HEX..       breakers as the hexadecimal digits of their bytes
//   accept ID..                  tokens that came before
//   row NUMBER..                 logits of the tokens 0, 1, ..
//   apply                        prints the drawn token, then ID P of each that is left
//
// Exit code 0, or 1 with a line on stderr.
#include <llama.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 1 << 16, SEED = 1 };

static char* words[WORDS];
static int n_words;
static llama_token_data row[WORDS];
static int n_row;

static void fail(const char* what) {
    fprintf(stderr, "sampler_probe: %s\n", what);
    exit(1);
}

static void only_errors(enum ggml_log_level level, const char* text, void* data) {
    (void)data;
    if (level >= GGML_LOG_LEVEL_WARN) fputs(text, stderr);
}

static float number(int i) {
    if (i >= n_words) fail("a command has too few numbers");
    return strtof(words[i], NULL);
}

static struct llama_sampler* make_dry(const struct llama_vocab* vocab) {
    static char texts[16][64];
    const char* breakers[16];
    size_t n = 0;
    for (int i = 6; i < n_words; i++, n++) {
        size_t length = strlen(words[i]) / 2;
        if (n == 16 || length > 40) fail("breakers must be at most 16 of 40 bytes");
        for (size_t k = 0; k < length; k++) {
            char digits[3] = {words[i][2 * k], words[i][2 * k + 1], 0};
            texts[n][k] = (char)strtol(digits, NULL, 16);
        }
        texts[n][length] = 0;
        breakers[n] = texts[n];
    }
    return llama_sampler_init_dry(vocab, number(2), number(3), (int)number(4), (int)number(5), breakers, n);
}

static struct llama_sampler* make_bias(void) {
    static llama_logit_bias biases[64];
    int n = 0;
    for (int i = 3; i + 1 < n_words && n < 64; i += 2) {
        biases[n].token = (llama_token)number(i);
        biases[n++].bias = number(i + 1);
    }
    return llama_sampler_init_logit_bias((int)number(2), n, biases);
}

static struct llama_sampler* make(const struct llama_vocab* vocab) {
    const char* name = words[1];
    if (!strcmp(name, "dist")) return llama_sampler_init_dist(SEED);
    if (!strcmp(name, "dry")) return make_dry(vocab);
    if (!strcmp(name, "logit_bias")) return make_bias();
    if (!strcmp(name, "top_k")) return llama_sampler_init_top_k((int)number(2));
    if (!strcmp(name, "top_p")) return llama_sampler_init_top_p(number(2), (size_t)number(3));
    if (!strcmp(name, "min_p")) return llama_sampler_init_min_p(number(2), (size_t)number(3));
    if (!strcmp(name, "typ_p")) return llama_sampler_init_typical(number(2), (size_t)number(3));
    if (!strcmp(name, "top_n_sigma")) return llama_sampler_init_top_n_sigma(number(2));
    if (!strcmp(name, "xtc")) return llama_sampler_init_xtc(number(2), number(3), (size_t)number(4), SEED);
    if (!strcmp(name, "temperature")) return llama_sampler_init_temp_ext(number(2), number(3), number(4));
    if (!strcmp(name, "penalties"))
        return llama_sampler_init_penalties((int)number(2), (int)number(3), number(4), number(5), number(6));
    if (!strcmp(name, "mirostat"))
        return llama_sampler_init_mirostat((int)number(2), SEED, number(3), number(4), 100);
    if (!strcmp(name, "mirostat_v2")) return llama_sampler_init_mirostat_v2(SEED, number(2), number(3));
    fail("no such sampler");
    return NULL;
}

static void apply(struct llama_sampler* chain) {
    static llama_token_data left[WORDS];
    memcpy(left, row, (size_t)n_row * sizeof *row);
    llama_token_data_array all = {left, (size_t)n_row, -1, false};
    llama_sampler_apply(chain, &all);
    if (all.selected < 0) fail("the chain must end with a draw");
    printf("%d", all.data[all.selected].id);
    for (size_t i = 0; i < all.size; i++) printf(" %d %.9g", all.data[i].id, (double)all.data[i].p);
    printf("\n");
    // The reader waits for it.
    fflush(stdout);
}

static void split(char* line) {
    n_words = 0;
    for (char* word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
        if (n_words == WORDS) fail("a command has too many words");
        words[n_words++] = word;
    }
}

static void run(const struct llama_vocab* vocab) {
    static char line[1 << 22];
    struct llama_sampler* chain = NULL;
    while (fgets(line, sizeof line, stdin)) {
        split(line);
        if (n_words == 0) continue;
        if (!strcmp(words[0], "new")) {
            if (chain) llama_sampler_free(chain);
            chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
        } else if (!chain) {
            fail("the first command must be new");
        } else if (!strcmp(words[0], "add") && n_words > 1) {
            llama_sampler_chain_add(chain, make(vocab));
        } else if (!strcmp(words[0], "accept")) {
            for (int i = 1; i < n_words; i++) llama_sampler_accept(chain, (llama_token)number(i));
        } else if (!strcmp(words[0], "row")) {
            n_row = n_words - 1;
            for (int i = 0; i < n_row; i++) row[i] = (llama_token_data){i, number(i + 1), 0.0f};
        } else if (!strcmp(words[0], "apply")) {
            apply(chain);
        } else {
            fail("no such command");
        }
    }
    if (chain) llama_sampler_free(chain);
}

int main(int argc, char** argv) {
    if (argc != 2) fail("usage: sampler_probe MODEL < commands");
    llama_log_set(only_errors, NULL);
    llama_backend_init();
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model* model = llama_model_load_from_file(argv[1], params);
    if (!model) fail("the model must load");
    run(llama_model_get_vocab(model));
    llama_model_free(model);
    return 0;
}
