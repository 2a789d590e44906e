/* Memory pressure: what the kernel says, when it is believed, and what the pool does then. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

enum { KIB = 1024 };

/* --- A machine of its own ----------------------------------------------------------------- */

/* A folder with the files that the kernel would have. */
struct machine {
	char dir[64];
	struct pp_pool *pool;
	struct fixture f;
	unsigned events;
	char said[256];
};

static void told(const struct pp_event *event, void *context)
{
	struct machine *m = context;

	if (event->kind != PP_EVENT_MEMORY)
		return;
	m->events++;
	snprintf(m->said, sizeof m->said, "%s", event->message);
}

static void make_folders(char *path)
{
	for (char *end = strchr(path + 1, '/'); end != NULL; end = strchr(end + 1, '/')) {
		*end = '\0';
		mkdir(path, 0700);
		*end = '/';
	}
}

/* NULL: the file goes. */
static void put(const struct machine *m, const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof path, "%s%s", m->dir, name);
	if (text == NULL) {
		unlink(path);
		return;
	}
	make_folders(path);
	file = fopen(path, "w");
	CHECK(file != NULL);
	fputs(text, file);
	fclose(file);
}

#define GROUP "/sys/fs/cgroup/apps/web"

static void machine_start(struct machine *m, struct pp_config config)
{
	*m = (struct machine){ .dir = "/tmp/poolproof-test-XXXXXX" };
	CHECK(mkdtemp(m->dir) != NULL);
	pressure_root_set(m->dir);
	config.keeper = PP_KEEPER_MANUAL;
	config.on_event = told;
	config.on_event_context = m;
	m->f = fixture_config(config);
	m->pool = m->f.pool;
	put(m, "/proc/self/cgroup", "4:memory:/old\n1:name=systemd:/x\n0::/apps/web\n");
}

static void machine_stop(struct machine *m)
{
	struct fixture dir = { 0 };

	fixture_close(&m->f);
	snprintf(dir.dir, sizeof dir.dir, "%s", m->dir);
	fixture_remove(&dir);
}

static bool short_after_a_look(struct machine *m)
{
	clock_travel_ms(1001);
	CHECK_INT(pp_keep(m->pool, NULL), ==, PP_OK);
	return stats(m->pool).memory_pressure;
}

/* --- What is read ------------------------------------------------------------------------- */

#define MANY "99999999999999999999999999999999999999"

static const struct {
	const char *what;
	struct {
		const char *name, *text;
	} files[5];
	bool expected;
} readings[] = {
	{ "nothing at all", { { NULL, NULL } }, false },
	{ "no limit",
	  { { GROUP "/memory.current", "900000\n" }, { GROUP "/memory.max", "max\n" } },
	  false },
	{ "below",
	  { { GROUP "/memory.current", "899" }, { GROUP "/memory.max", "1000\n" } },
	  false },
	{ "at the maximum",
	  { { GROUP "/memory.current", "900\n" }, { GROUP "/memory.max", "1000\n" } },
	  true },
	{ "past the high mark",
	  { { GROUP "/memory.current", "1100\n" },
	    { GROUP "/memory.high", "1000\n" },
	    { GROUP "/memory.max", "5000\n" } },
	  true },
	{ "what is around it is full",
	  { { GROUP "/memory.current", "10\n" },
	    { GROUP "/memory.max", "max\n" },
	    { "/sys/fs/cgroup/apps/memory.current", "950\n" },
	    { "/sys/fs/cgroup/apps/memory.max", "1000\n" } },
	  true },
	{ "the topmost is full",
	  { { "/sys/fs/cgroup/memory.current", "950\n" },
	    { "/sys/fs/cgroup/memory.max", "1000\n" } },
	  true },
	{ "the topmost group",
	  { { "/proc/self/cgroup", "0::/\n" },
	    { "/sys/fs/cgroup/memory.current", "950\n" },
	    { "/sys/fs/cgroup/memory.max", "1000\n" } },
	  true },
	{ "full of file cache",
	  { { GROUP "/memory.current", "990\n" },
	    { GROUP "/memory.max", "1000\n" },
	    { GROUP "/memory.stat", "anon 800\nfile 110\ninactive_file 60\nactive_file 50\n" } },
	  false },
	{ "full, beside some file cache",
	  { { GROUP "/memory.current", "990\n" },
	    { GROUP "/memory.max", "1000\n" },
	    { GROUP "/memory.stat", "anon 950\ninactive_file 20\nactive_file 20\n" } },
	  true },
	{ "more file cache than there is",
	  { { GROUP "/memory.current", "990\n" },
	    { GROUP "/memory.max", "1000\n" },
	    { GROUP "/memory.stat", "inactive_file " MANY "\nactive_file 1\n" } },
	  false },
	{ "its tasks stand still",
	  { { GROUP "/memory.pressure",
	      "some avg10=10.00 avg60=0.50 avg300=0.00 total=1\nfull avg10=0.00\n" } },
	  true },
	{ "its tasks stand still, a little",
	  { { GROUP "/memory.pressure", "some avg10=9.99 avg60=50.00 avg300=0.00 total=1\n" },
	    { "/proc/pressure/memory", "some avg10=90.00 avg60=0.00 avg300=0.00 total=1\n" } },
	  false },
	{ "the machine's tasks stand still",
	  { { "/proc/pressure/memory", "some avg10=12.00 avg60=0.00 avg300=0.00 total=1\n" } },
	  true },
	{ "and there are no groups",
	  { { "/proc/self/cgroup", NULL },
	    { "/proc/pressure/memory", "some avg10=12.00 avg60=0.00 avg300=0.00 total=1\n" } },
	  true },
	{ "groups of version 1 only",
	  { { "/proc/self/cgroup", "4:memory:/apps/web\n" },
	    { GROUP "/memory.current", "990\n" },
	    { GROUP "/memory.max", "1000\n" } },
	  false },
	{ "a line without an end",
	  { { "/proc/self/cgroup", "0::/apps/web" },
	    { GROUP "/memory.current", "990" },
	    { GROUP "/memory.max", "1000" } },
	  true },
	{ "empty files",
	  { { GROUP "/memory.current", "" },
	    { GROUP "/memory.max", "" },
	    { GROUP "/memory.stat", "" },
	    { GROUP "/memory.pressure", "" } },
	  false },
	{ "an empty group file", { { "/proc/self/cgroup", "" } }, false },
	{ "garbage",
	  { { GROUP "/memory.current", "990 of \n\n\n" },
	    { GROUP "/memory.max", "\xff\xfe=-1000\n" },
	    { GROUP "/memory.high", "-5\n" },
	    { GROUP "/memory.pressure", "some avg10=many\nsome\n" } },
	  false },
	{ "cut in the middle",
	  { { GROUP "/memory.current", "990\n" },
	    { GROUP "/memory.stat", "anon 300\ninactive_fi" },
	    { GROUP "/memory.pressure", "some avg10=" } },
	  false },
	{ "more than everything",
	  { { GROUP "/memory.pressure", "some avg10=" MANY ".00\n" } },
	  false },
	{ "a limit of more than everything",
	  { { GROUP "/memory.current", "990\n" }, { GROUP "/memory.max", MANY "\n" } },
	  false },
	{ "a limit of nothing",
	  { { GROUP "/memory.current", "990\n" }, { GROUP "/memory.max", "0\n" } },
	  true },
};

TEST_ROWS(pressure, is_what_the_kernel_says, sizeof readings / sizeof *readings)
{
	CLEANUP(machine_stop) struct machine m;

	machine_start(&m, (struct pp_config){ .readers = 1 });
	for (unsigned i = 0; i < 5 && readings[row].files[i].name != NULL; i++)
		put(&m, readings[row].files[i].name, readings[row].files[i].text);
	CHECK_MSG(short_after_a_look(&m) == readings[row].expected, "%s", readings[row].what);
	CHECK_INT(m.events, ==, readings[row].expected);
}

TEST(pressure, is_not_taken_from_a_path_too_long)
{
	CLEANUP(machine_stop) struct machine m;
	char line[4200] = "0::/";

	machine_start(&m, (struct pp_config){ .readers = 1 });
	memset(line + 4, 'x', sizeof line - 5);
	put(&m, "/proc/self/cgroup", line);
	CHECK(!short_after_a_look(&m));
}

TEST(pressure, ends_well_below_where_it_begins)
{
	CLEANUP(machine_stop) struct machine m;
	static const struct {
		const char *current, *stall;
		bool expected;
	} steps[] = {
		{ "899", "9", false }, { "900", "0", true },  { "850", "0", true },
		{ "800", "0", true },  { "799", "5", true },  { "799", "4", false },
		{ "899", "9", false }, { "100", "10", true }, { "100", "5", true },
		{ "100", "4", false },
	};
	bool was = false;
	unsigned changes = 0;

	machine_start(&m, (struct pp_config){ .readers = 1 });
	put(&m, GROUP "/memory.max", "1000\n");
	for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
		char text[64];

		snprintf(text, sizeof text, "some avg10=%s.99 avg60=0.00\n", steps[i].stall);
		put(&m, GROUP "/memory.current", steps[i].current);
		put(&m, GROUP "/memory.pressure", text);
		CHECK_MSG(short_after_a_look(&m) == steps[i].expected, "step %u", i);
		changes += steps[i].expected != was;
		was = steps[i].expected;
		CHECK_INT(m.events, ==, changes); /* Told of changes only. */
	}
	CHECK_INT(changes, ==, 4);
	CHECK_STR(m.said, "no longer short: the control group holds 10 % of its limit, tasks stood "
	                  "still for 4 % of the last ten seconds");
}

/* The keeper's duty: due again a second later, in the thread's clock. */
TEST(pressure, is_looked_at_every_second)
{
	CLEANUP(machine_stop) struct machine m;

	machine_start(&m, (struct pp_config){ .readers = 1 });
	CHECK_INT(pressure_keep(m.pool, 5000), ==, 6000);
}

/* --- What follows ------------------------------------------------------------------------- */

static void be_short(struct machine *m, bool is)
{
	put(m, GROUP "/memory.max", "1000\n");
	put(m, GROUP "/memory.current", is ? "950\n" : "100\n");
	CHECK(short_after_a_look(m) == is);
}

/* Fills the page caches of the reader and the writer. */
static void fill_caches(struct pp_pool *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_WRITE, &lease);
	sql(lease.db,
	    "CREATE TABLE IF NOT EXISTS u(b);"
	    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)"
	    "INSERT INTO u SELECT randomblob(3000) FROM n");
	pp_release(&lease);
	acquire(pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT sum(length(b)) FROM u"), >=, 300000);
	pp_release(&lease);
}

TEST(pressure, takes_back_the_page_caches_of_idle_connections)
{
	CLEANUP(machine_stop) struct machine m;
	struct pp_lease lease = { 0 };
	uint64_t full, lent;

	machine_start(&m, (struct pp_config){ .readers = 1 });
	fill_caches(m.pool);
	be_short(&m, false);
	full = stats(m.pool).connections_bytes;
	acquire(m.pool, PP_WRITE, &lease);
	lent = account_bytes(atomic_load(&((struct slot *)lease.slot)->connection.account));
	CHECK_INT(lent, >, 300 * KIB);
	be_short(&m, true);
	CHECK_INT(stats(m.pool).connections_bytes, <, full - 300 * KIB);
	/* Who has one keeps what is in it. */
	CHECK_INT(account_bytes(atomic_load(&((struct slot *)lease.slot)->connection.account)), ==,
	          lent);
	pp_release(&lease);
	/* As long as it lasts, not only when it begins. */
	be_short(&m, true);
	CHECK_INT(stats(m.pool).connections_bytes, <, 300 * KIB);
	CHECK_INT(rows_in(m.pool), ==, 0);
}

TEST(pressure, of_the_soft_limit_takes_back_too_and_is_none_of_the_group)
{
	CLEANUP(machine_stop) struct machine m;

	machine_start(&m, (struct pp_config){ .readers = 1, .pool_bytes_soft = 512 * KIB });
	fill_caches(m.pool);
	CHECK(memory_is_short(m.pool));
	CHECK(!short_after_a_look(&m));
	CHECK_INT(m.events, ==, 0);
	CHECK_INT(stats(m.pool).pool_bytes + stats(m.pool).connections_bytes, <, 512 * KIB);
	CHECK(!memory_is_short(m.pool));
	CHECK(!short_after_a_look(&m));
}

TEST(pressure, gives_back_what_was_granted_of_the_pools_limit)
{
	CLEANUP(machine_stop) struct machine m;
	uint64_t given;

	machine_start(&m, (struct pp_config){ .readers = 1, .pool_bytes_max = 4096 * KIB });
	fill_caches(m.pool);
	given = atomic_load(&atomic_load(&m.pool->account)->given);
	be_short(&m, true);
	CHECK_INT(atomic_load(&atomic_load(&m.pool->account)->given), <, given - 500 * KIB);
}

static enum pp_status be_busy(struct pp_lease *lease, void *context)
{
	unsigned *attempts = context;

	++*attempts;
	sql(lease->db, "CREATE TEMP TRIGGER IF NOT EXISTS g BEFORE INSERT ON t BEGIN "
	               "SELECT fail_with(5); END");
	return sqlite3_exec(lease->db, "INSERT INTO t(v) VALUES (1)", NULL, NULL, NULL) == SQLITE_OK
	               ? PP_OK
	               : PP_SQLITE;
}

TEST(pressure, leaves_a_transaction_two_attempts)
{
	CLEANUP(machine_stop) struct machine m;
	const struct pp_transaction options = { .attempts_max = 3 };
	unsigned attempts = 0;

	machine_start(&m, (struct pp_config){ .readers = 1, .on_open = add_fail_with });
	CHECK_INT(pp_transact(m.pool, &options, be_busy, &attempts, NULL), ==, PP_SQLITE);
	CHECK_INT(attempts, ==, 3);
	be_short(&m, true);
	attempts = 0;
	CHECK_INT(pp_transact(m.pool, &options, be_busy, &attempts, NULL), ==, PP_SQLITE);
	CHECK_INT(attempts, ==, 2);
	be_short(&m, false);
	attempts = 0;
	CHECK_INT(pp_transact(m.pool, &options, be_busy, &attempts, NULL), ==, PP_SQLITE);
	CHECK_INT(attempts, ==, 3);
}

/* --- A pool that may grow ------------------------------------------------------------------ */

static void *wait_for_a_reader(void *context)
{
	struct pp_lease lease = { 0 };

	acquire(context, PP_READ, &lease);
	pp_release(&lease);
	return NULL;
}

TEST(pressure, has_the_pool_not_grow_and_shrink_at_once)
{
	CLEANUP(machine_stop) struct machine m;
	struct pp_lease held = { 0 };
	pthread_t waiting;

	machine_start(&m, (struct pp_config){ .readers = 3, .readers_min = 1 });
	acquire(m.pool, PP_READ, &held);
	waiting = thread_start(wait_for_a_reader, m.pool);
	WAIT_FOR(stats(m.pool).read.waiting == 1);
	be_short(&m, true);
	CHECK_INT(stats(m.pool).grown, ==, 0);
	be_short(&m, false);
	be_short(&m, false); /* Growth may have been looked at before the pressure. */
	CHECK_INT(stats(m.pool).grown, ==, 1);
	pthread_join(waiting, NULL);
	pp_release(&held);
	CHECK_INT(stats(m.pool).read.open, ==, 2);
	be_short(&m, false);
	CHECK_INT(stats(m.pool).read.open, ==, 2);
	be_short(&m, true);
	be_short(&m, true);
	CHECK_INT(stats(m.pool).read.open, ==, 1);
}
