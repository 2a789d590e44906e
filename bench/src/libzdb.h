/* libzdb.h - libzdb's pool, started. */
/* SPDX-License-Identifier: MIT */
#ifndef BENCH_LIBZDB_H
#define BENCH_LIBZDB_H

#include <zdb.h>

/* On sqlite://PATH?PARAMETERS; the parameters become pragmas. Ends the process when it cannot. */
ConnectionPool_T libzdb_start(const char *path, const char *parameters, unsigned least,
                              unsigned most);
/* It returns NULL when all are lent, and has no way to wait: yields and asks again. */
Connection_T libzdb_borrow(ConnectionPool_T pool);

#endif
