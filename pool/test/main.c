/* The test program of pool/. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/test.h>

#include <sqlite3.h>
#include <unistd.h>

/* Every test runs in a child of this process. Valgrind translates code when it is met first and
 * children inherit what is translated, so SQLite is walked through once, here: the suite takes a
 * third of the time. Shut down, SQLite can be configured by the pool as if nothing had been. */
__attribute__((constructor)) static void warm_up(void)
{
	char path[] = "/tmp/poolproof-warm-XXXXXX", wal[64];
	int file = mkstemp(path);
	sqlite3 *db;

	for (int round = 0; file >= 0 && round < 2; round++) {
		if (sqlite3_open(path, &db) == SQLITE_OK)
			sqlite3_exec(
				db,
				"PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(id INTEGER "
				"PRIMARY KEY, v UNIQUE); BEGIN IMMEDIATE; SAVEPOINT a; INSERT INTO "
				"t "
				"VALUES (1, 1); ROLLBACK TO a; RELEASE a; INSERT INTO t(v) VALUES "
				"(2);"
				"COMMIT; SELECT count(*) FROM t WHERE v = 2; CREATE TEMP TABLE "
				"x(a);"
				"PRAGMA synchronous=FULL; PRAGMA query_only=ON; ATTACH ':memory:' "
				"AS m;"
				"SELECT * FROM sqlite_schema UNION SELECT 1, 2, 3, 4, 5",
				NULL, NULL, NULL);
		sqlite3_close(db);
	}
	sqlite3_shutdown();
	close(file);
	unlink(path);
	for (const char *const *end = (const char *const[]){ "-wal", "-shm", NULL }; *end; end++) {
		snprintf(wal, sizeof wal, "%s%s", path, *end);
		unlink(wal);
	}
}

TEST_MAIN()
