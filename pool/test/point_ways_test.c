/* The named points: what reaches each of them. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

#include <poolproof/point.h>

static atomic_uint passed[PP_POINTS];

static void visit_point(enum pp_point point)
{
	atomic_fetch_add(&passed[point], 1);
}

/* --- What one does with a pool ------------------------------------------------------------ */

static void open_and_close(struct fixture *f)
{
	char path[128];
	struct pp_pool *pool;

	snprintf(path, sizeof path, "%s/b.db", f->dir);
	must(pp_open(&(struct pp_config){ .path = path, .readers = 1 }, &pool, NULL), NULL);
	CHECK_INT(pp_close(pool, PP_FOREVER, NULL), ==, PP_OK);
}

static void borrow(struct fixture *f)
{
	struct pp_lease lease = { 0 };

	acquire(f->pool, PP_READ, &lease);
	pp_release(&lease);
}

static void stand_in_line(struct fixture *f)
{
	struct visitor v = { .pool = f->pool, .lane = PP_READ, .deadline = PP_FOREVER };
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f->pool, PP_READ, &lease);
	thread = thread_start(visit, &v);
	WAIT_FOR(stats(f->pool).read.waiting == 1);
	clock_travel_ms(10000); /* He is handed it, and need not be faster than others. */
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, PP_OK);
}

static void end_transaction(struct fixture *f,
                            enum pp_status (*end)(struct pp_lease *, struct pp_error *))
{
	struct pp_lease lease = { 0 };

	acquire(f->pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	must(end(&lease, NULL), NULL);
	pp_release(&lease);
}

static void commit(struct fixture *f)
{
	end_transaction(f, pp_commit);
}

static void roll_back(struct fixture *f)
{
	end_transaction(f, pp_rollback);
}

static enum pp_status insert(struct pp_lease *lease, void *context)
{
	(void)context;
	sql(lease->db, "INSERT INTO t DEFAULT VALUES");
	return PP_OK;
}

static void write_in_group(struct fixture *f)
{
	must(pp_write(f->pool, NULL, insert, NULL, NULL, NULL), NULL);
}

/* The first time it is told that the file is locked. */
static enum pp_status be_busy_once(struct pp_lease *lease, void *context)
{
	if ((*(unsigned *)context)++ > 0)
		return PP_OK;
	sqlite3_exec(lease->db, "SELECT fail_with(5)", NULL, NULL, NULL);
	return PP_SQLITE;
}

static void try_again(struct fixture *f)
{
	unsigned runs = 0;

	must(pp_transact(f->pool, NULL, be_busy_once, &runs, NULL), NULL);
	CHECK_INT(runs, ==, 2);
}

static void keep(struct fixture *f)
{
	later(f, 0);
}

static void fill_the_wal(struct fixture *f)
{
	struct pp_lease lease = { 0 };

	acquire(f->pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t(v) WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 "
	              "FROM n WHERE x < 400000) SELECT x FROM n");
	pp_release(&lease);
	later(f, 1000);
}

static void grow_old(struct fixture *f)
{
	later(f, 4000000);
}

static void keep_a_lease(struct fixture *f)
{
	struct pp_lease lease = { 0 };

	acquire_elsewhere(f->pool, PP_READ, &lease);
	later(f, 10500);
	later(f, 600);
	pp_release(&lease);
}

static void reopen(struct fixture *f)
{
	must(pp_reopen(f->pool, PP_FOREVER, NULL), NULL);
}

static void back_up(struct fixture *f)
{
	char path[128];

	snprintf(path, sizeof path, "%s/copy.db", f->dir);
	must(pp_backup(f->pool, &(struct pp_backup){ .to_path = path }, NULL), NULL);
}

static const struct {
	enum pp_point point;
	void (*reach)(struct fixture *f);
} ways[] = {
	{ PP_POINT_CLAIM, borrow },
	{ PP_POINT_WAIT, stand_in_line },
	{ PP_POINT_GIVE, borrow },
	{ PP_POINT_HAND_OVER, stand_in_line },
	{ PP_POINT_RELEASE, borrow },
	{ PP_POINT_OPEN, open_and_close },
	{ PP_POINT_CLOSE, open_and_close },
	{ PP_POINT_BEGIN, commit },
	{ PP_POINT_BEGUN, commit },
	{ PP_POINT_COMMIT, commit },
	{ PP_POINT_COMMITTED, commit },
	{ PP_POINT_ROLLBACK, roll_back },
	{ PP_POINT_GROUP_JOIN, write_in_group },
	{ PP_POINT_GROUP_RAN, write_in_group },
	{ PP_POINT_GROUP_COMMIT, write_in_group },
	{ PP_POINT_GROUP_TELL, write_in_group },
	{ PP_POINT_RETRY, try_again },
	{ PP_POINT_CHECKPOINT, fill_the_wal },
	{ PP_POINT_CHECKPOINTED, fill_the_wal },
	{ PP_POINT_KEEP, keep },
	{ PP_POINT_RENEW, grow_old },
	{ PP_POINT_QUARANTINE, keep_a_lease },
	{ PP_POINT_REOPEN, reopen },
	{ PP_POINT_BACKUP, back_up },
	{ PP_POINT_SHUT, open_and_close },
};
_Static_assert(sizeof ways / sizeof *ways == PP_POINTS, "a way to each point");

#define X(name, text) text,
static const char *const names[] = { PP_POINT_LIST(X) };
#undef X

static bool are_there(bool aloud)
{
	if (pp_points_set == NULL && aloud)
		printf("point: skipped, this variant has no points\n");
	return pp_points_set != NULL;
}

TEST_ROWS(point, is_reached, sizeof ways / sizeof *ways)
{
	enum pp_point point = ways[row].point;
	struct fixture f;

	if (!are_there(row == 0))
		return;
	CHECK_INT(point, ==, row); /* In the order of the list: none is missing, none is twice. */
	f = manual((struct pp_config){ .readers = 1,
	                               .on_open = add_fail_with,
	                               .age_ms = 3600000,
	                               .lease_max_ms = 10000,
	                               .lease_grace_ms = 500 },
	           NULL);
	pp_points_set(visit_point);
	ways[row].reach(&f);
	pp_points_set(NULL);
	CHECK_MSG(atomic_load(&passed[point]) > 0, "%s is not reached", names[point]);
	memset(passed, 0, sizeof passed);
	fixture_close(&f);
	for (unsigned i = 0; i < PP_POINTS; i++)
		CHECK_MSG(atomic_load(&passed[i]) == 0, "%s is told to nobody", names[i]);
}
