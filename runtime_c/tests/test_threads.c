// The pool: every tid runs once a run, barriers order writes, also with more threads than CPUs and after
// sleeping.
#define _POSIX_C_SOURCE 200809L
#include <stdatomic.h>
#include <time.h>

#include "../ck_rt.h"
#include "check.h"

enum { MOST = 9, ROUNDS = 200 };

typedef struct {
    ck_pool* pool;
    int calls[MOST], nth_seen[MOST];
    int slots[2][MOST];
    _Atomic int wrong;
} state;

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){0, ms * 1000000L}, NULL);
}

// Each round every thread writes its slot and, after the barrier, reads all of them. Two sets of slots, so
// that one barrier a round is enough.
static void rounds(void* arg, int tid, int nth) {
    state* s = arg;
    s->calls[tid]++;
    s->nth_seen[tid] = nth;
    for (int round = 0; round < ROUNDS; round++) {
        s->slots[round % 2][tid] = round * MOST + tid;
        if (tid == 0 && round == ROUNDS / 2)
            sleep_ms(5);
        ck_barrier(s->pool);
        for (int i = 0; i < nth; i++)
            if (s->slots[round % 2][i] != round * MOST + i)
                s->wrong++;
    }
}

static void check_pool(int n_threads) {
    ck_pool* pool = ck_pool_create(n_threads);
    CK_CHECK(pool != NULL, "no pool of %d", n_threads);
    for (int nth = 1; nth <= n_threads + 1; nth++) {
        const int want = nth < n_threads ? nth : n_threads;
        state s = {.pool = pool};
        for (int run = 0; run < 3; run++)
            ck_pool_run(pool, nth, rounds, &s);
        CK_CHECK(s.wrong == 0, "%d of %d threads: %d stale reads", nth, n_threads, s.wrong);
        for (int tid = 0; tid < MOST; tid++)
            CK_CHECK(s.calls[tid] == (tid < want ? 3 : 0) && (tid >= want || s.nth_seen[tid] == want),
                     "%d of %d threads: tid %d called %d times with nth %d", nth, n_threads, tid,
                     s.calls[tid], s.nth_seen[tid]);
        // Long enough for the workers to fall asleep.
        sleep_ms(2);
    }
    ck_pool_destroy(pool);
}

static void count(void* arg, int tid, int nth) {
    (void)tid, (void)nth;
    (*(_Atomic int*)arg)++;
}

int main(void) {
    for (int n_threads = 1; n_threads < MOST; n_threads++)
        check_pool(n_threads);
    for (int i = 0; i < 50; i++)
        ck_pool_destroy(ck_pool_create(4));
    ck_pool* pool = ck_pool_create(2);
    _Atomic int calls = 0;
    for (int i = 0; i < 20000; i++)
        ck_pool_run(pool, 2, count, &calls);
    CK_CHECK(calls == 40000, "40000 calls are required, found %d", calls);
    ck_pool_destroy(pool);
    ck_pool_destroy(NULL);
    return ck_finish();
}
