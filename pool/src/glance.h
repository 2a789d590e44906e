/* glance.h - whether the file is as it was when its path was last looked up, without that. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_SRC_GLANCE_H
#define POOL_SRC_GLANCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pp_pool;
struct stat;

/* Relaxed, both: a wrong one costs a look at the path. */
struct glance {
	atomic_int file;                  /* -1: it cannot be told here. */
	atomic_uint_least64_t settled_ns; /* Its time of change; 0: not known, or too young. */
};

void glance_init(struct pp_pool *pool);
/* What is at the path is the pool's file. The caller holds keep_mutex, or the pool is not open. */
void glance_open(struct pp_pool *pool);
void glance_close(struct pp_pool *pool);
/* The kernel's time, before the path is looked up ... */
uint64_t glance_before(void);
/* ... and what it led to, if that is well. */
void glance_settle(struct pp_pool *pool, const struct stat *file, uint64_t before_ns);
/* true: nothing has happened to it since. Never true of a file that is lost. Any thread. */
bool glance_is_same(const struct pp_pool *pool);

#endif
