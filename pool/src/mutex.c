/*
 * mutex.c - SQLite's mutexes: a connection's tells whose memory is being allocated.
 *
 * To know before reading: a pool's connection is used by one thread at a time, whoever holds its
 * lease, and passing it on orders memory (line.c). So its mutex need not lock: entering makes
 * its account current, leaving restores the one before. SQLite nests these properly (a backup
 * enters two, and leaves them in reverse). Every other mutex is a real one; another connection's
 * makes "nobody" current, so that its memory is not booked to a pool's that it works with.
 */
/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <assert.h>
#include <pthread.h>

struct sqlite3_mutex {
	struct account *account; /* Not NULL: a pool connection's; real is not used. */
	struct account *before;  /* What was current when it was entered first. */
	unsigned depth;
	bool recursive; /* account NULL and this: another connection's, real is held. */
	pthread_mutex_t real;
};

/* SQLite numbers its static mutexes from SQLITE_MUTEX_STATIC_MAIN on. */
enum { STATIC_FIRST = SQLITE_MUTEX_STATIC_MAIN, STATIC_COUNT = 16 };

static sqlite3_mutex statics[STATIC_COUNT] = {
	[0 ... STATIC_COUNT - 1] = { .real = PTHREAD_MUTEX_INITIALIZER },
};

/* In a child: those of the parent's threads that held one are not there to leave it. */
void mutexes_after_fork(void)
{
	for (unsigned i = 0; i < STATIC_COUNT; i++)
		pthread_mutex_init(&statics[i].real, NULL);
}

static _Thread_local struct account *binding __attribute__((tls_model("initial-exec")));

void mutex_bind(struct account *account)
{
	binding = account;
}

static int init(void)
{
	return SQLITE_OK;
}

static int end(void)
{
	return SQLITE_OK;
}

static void init_recursive(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

static sqlite3_mutex *alloc(int type)
{
	sqlite3_mutex *mutex;

	if (type >= STATIC_FIRST) {
		assert(type < STATIC_FIRST + STATIC_COUNT);
		return &statics[type - STATIC_FIRST];
	}
	mutex = memory_malloc(sizeof *mutex);
	if (mutex == NULL)
		return NULL;
	*mutex = (struct sqlite3_mutex){ 0 };
	if (type == SQLITE_MUTEX_RECURSIVE) {
		/* The first recursive mutex of sqlite3_open_v2() is the connection's. */
		mutex->recursive = true;
		mutex->account = binding;
		binding = NULL;
		init_recursive(&mutex->real);
	} else {
		pthread_mutex_init(&mutex->real, NULL);
	}
	return mutex;
}

static void release(sqlite3_mutex *mutex)
{
	pthread_mutex_destroy(&mutex->real);
	memory_free(mutex);
}

static void account_mutex_enter(sqlite3_mutex *mutex)
{
	if (mutex->depth++ == 0)
		mutex->before = account_enter(mutex->account);
}

static void account_mutex_leave(sqlite3_mutex *mutex)
{
	if (--mutex->depth == 0)
		account_enter(mutex->before);
}

/* A pool connection's first, and with nothing else on its way: four times a point read. */
static void enter(sqlite3_mutex *mutex)
{
	if (mutex->account != NULL) {
		account_mutex_enter(mutex);
		return;
	}
	pthread_mutex_lock(&mutex->real);
	if (mutex->recursive)
		account_mutex_enter(mutex);
}

static int try_enter(sqlite3_mutex *mutex)
{
	if (mutex->account == NULL && pthread_mutex_trylock(&mutex->real) != 0)
		return SQLITE_BUSY;
	if (mutex->recursive)
		account_mutex_enter(mutex);
	return SQLITE_OK;
}

static void leave(sqlite3_mutex *mutex)
{
	if (mutex->account != NULL) {
		account_mutex_leave(mutex);
		return;
	}
	if (mutex->recursive)
		account_mutex_leave(mutex);
	pthread_mutex_unlock(&mutex->real);
}

const sqlite3_mutex_methods mutex_methods = {
	.xMutexInit = init,
	.xMutexEnd = end,
	.xMutexAlloc = alloc,
	.xMutexFree = release,
	.xMutexEnter = enter,
	.xMutexTry = try_enter,
	.xMutexLeave = leave,
};
