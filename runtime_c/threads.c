// The pool: n_threads - 1 workers, each waiting on its own mailbox, and a central barrier. Waiting spins for
// SPINS pauses (some 100 us), then sleeps in the kernel: a decode step never sleeps, an idle chat is free.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ck_rt.h"

enum { SPINS = 2000, LINE = 64 };

// A counter to wait on, alone in its cache line.
typedef struct {
    _Alignas(LINE) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
} ck_event;

typedef struct {
    ck_event mail;
    ck_pool* pool;
    int tid;
    pthread_t thread;
} ck_worker;

struct ck_pool {
    ck_event phase;                              // barriers passed so far
    _Alignas(LINE) _Atomic uint32_t arrived;     // threads at the current barrier
    ck_event running;                            // workers that have not finished the current run
    _Alignas(LINE) void (*fn)(void*, int, int);  // NULL asks the workers to end
    void* arg;
    int nth;
    int n_workers;
    ck_worker* workers;
};

static void pause_cpu(void) {
    __builtin_ia32_pause();
}

// Returns once the event's value is no longer `old`.
static void event_wait(ck_event* event, uint32_t old) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&event->value, memory_order_acquire) != old)
            return;
        pause_cpu();
    }
    atomic_fetch_add(&event->sleepers, 1);
    while (atomic_load(&event->value) == old)
        syscall(SYS_futex, &event->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&event->sleepers, 1);
}

// Adds `step` to the event's value and wakes whoever sleeps on it. Returns the new value.
// Both sides are sequentially consistent: either the sleeper sees the new value or we see the sleeper.
static uint32_t event_add(ck_event* event, uint32_t step) {
    const uint32_t value = atomic_fetch_add(&event->value, step) + step;
    if (atomic_load(&event->sleepers) != 0)
        syscall(SYS_futex, &event->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    return value;
}

static void* worker_main(void* arg) {
    ck_worker* worker = arg;
    ck_pool* pool = worker->pool;
    for (uint32_t seen = 0;; seen++) {
        event_wait(&worker->mail, seen);
        if (pool->fn == NULL)
            return NULL;
        pool->fn(pool->arg, worker->tid, pool->nth);
        event_add(&pool->running, UINT32_MAX);
    }
}

static int start_worker(ck_pool* pool, int index) {
    ck_worker* worker = &pool->workers[index];
    worker->pool = pool;
    worker->tid = index + 1;
    return pthread_create(&worker->thread, NULL, worker_main, worker);
}

// Workers take no signals: an interrupt belongs to the thread that reads the keyboard.
static void start_workers(ck_pool* pool, int n_workers) {
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    while (pool->n_workers < n_workers && start_worker(pool, pool->n_workers) == 0)
        pool->n_workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void* zeroed(size_t n_bytes) {
    void* memory = NULL;
    if (posix_memalign(&memory, LINE, n_bytes) != 0)
        return NULL;
    for (size_t i = 0; i < n_bytes; i++)
        ((char*)memory)[i] = 0;
    return memory;
}

ck_pool* ck_pool_create(int n_threads) {
    const int n_workers = n_threads > 1 ? n_threads - 1 : 0;
    ck_pool* pool = zeroed(sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->nth = 1;
    pool->workers = zeroed((size_t)(n_workers + 1) * sizeof *pool->workers);
    if (pool->workers != NULL)
        start_workers(pool, n_workers);
    if (pool->workers == NULL || pool->n_workers < n_workers) {
        ck_pool_destroy(pool);
        return NULL;
    }
    return pool;
}

void ck_pool_destroy(ck_pool* pool) {
    if (pool == NULL)
        return;
    pool->fn = NULL;
    for (int i = 0; i < pool->n_workers; i++)
        event_add(&pool->workers[i].mail, 1);
    for (int i = 0; i < pool->n_workers; i++)
        pthread_join(pool->workers[i].thread, NULL);
    free(pool->workers);
    free(pool);
}

void ck_pool_run(ck_pool* pool, int nth, void (*fn)(void* arg, int tid, int nth), void* arg) {
    if (nth > pool->n_workers + 1)
        nth = pool->n_workers + 1;
    pool->fn = fn;
    pool->arg = arg;
    pool->nth = nth;
    atomic_store(&pool->running.value, (uint32_t)(nth - 1));
    for (int i = 0; i < nth - 1; i++)
        event_add(&pool->workers[i].mail, 1);
    fn(arg, 0, nth);
    for (uint32_t left; (left = atomic_load(&pool->running.value)) != 0;)
        event_wait(&pool->running, left);
}

void ck_barrier(ck_pool* pool) {
    const int nth = pool->nth;
    if (nth == 1)
        return;
    const uint32_t phase = atomic_load(&pool->phase.value);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 == (uint32_t)nth) {
        atomic_store(&pool->arrived, 0);
        event_add(&pool->phase, 1);
    } else {
        event_wait(&pool->phase, phase);
    }
}
