/* libzdb.c - see libzdb.h. */
/* SPDX-License-Identifier: MIT */
#include "libzdb.h"

#include <sched.h>

#include "bench.h"

ConnectionPool_T libzdb_start(const char *path, const char *parameters, unsigned least,
                              unsigned most)
{
	char url[4300];
	ConnectionPool_T pool;

	snprintf(url, sizeof url, "sqlite://%s%s", path, parameters);
	pool = ConnectionPool_new(URL_new(url));
	ConnectionPool_setInitialConnections(pool, (int)least);
	ConnectionPool_setMaxConnections(pool, (int)most);
	TRY
	{
		ConnectionPool_start(pool);
	}
	ELSE
	{
		bench_cannot("libzdb: %s", Exception_frame.message);
	}
	END_TRY;
	return pool;
}

Connection_T libzdb_borrow(ConnectionPool_T pool)
{
	Connection_T connection;

	while ((connection = ConnectionPool_getConnection(pool)) == NULL)
		sched_yield();
	return connection;
}
