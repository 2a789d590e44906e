/* Events: what they say, of whom, where, and to whom. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

enum { HEARD_MAX = 32 };

/* What a listener has heard; its strings are copied, for nothing outlives the call. */
struct heard {
	unsigned count;
	struct pp_event events[HEARD_MAX];
	char messages[HEARD_MAX][600];
	pthread_t thread;
	char text[64 * 1024];
};

/* It does what a listener may: read. */
static void listen(const struct pp_event *event, void *context)
{
	struct heard *h = context;
	struct pp_connection connections[8];
	struct pp_stats s;
	unsigned n = h->count++, found;

	CHECK(n < HEARD_MAX);
	h->events[n] = *event;
	snprintf(h->messages[n], sizeof h->messages[n], "%s", event->message);
	h->thread = pthread_self();
	CHECK_INT(pp_stats_read(event->pool, &s), ==, PP_OK);
	CHECK_INT(pp_connections_read(event->pool, connections, 8, &found), ==, PP_OK);
	CHECK_INT(pp_metrics_text(event->pool, "p", h->text, sizeof h->text), <, sizeof h->text);
}

static struct pp_config listening(struct heard *heard)
{
	return (struct pp_config){ .readers = 1,
		                   .keeper = PP_KEEPER_MANUAL,
		                   .on_event = listen,
		                   .on_event_context = heard };
}

static const struct pp_event *last(const struct heard *h, enum pp_event_kind kind)
{
	for (unsigned i = h->count; i-- > 0;)
		if (h->events[i].kind == kind)
			return &h->events[i];
	return NULL;
}

static const char *message(const struct heard *h, const struct pp_event *event)
{
	return h->messages[event - h->events];
}

TEST(event, has_the_name_of_its_kind)
{
	static struct heard heard;
	CLEANUP(fixture_close) struct fixture f = fixture_config(listening(&heard));
	const char *const names[] = {
#define X(kind, name) [kind] = name,
		PP_EVENT_LIST(X)
#undef X
	};

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		heard.count = 0;
		event_send(f.pool, (enum pp_event_kind)i, NULL, "number %u", i);
		CHECK_INT(heard.count, ==, 1);
		CHECK_INT(heard.events[0].kind, ==, i);
		CHECK_STR(heard.events[0].name, names[i]);
		CHECK(heard.events[0].pool == f.pool);
		CHECK(strtoul(heard.messages[0] + strlen("number "), NULL, 10) == i);
	}
	CHECK_STR(names[PP_EVENT_LEASE_OVERDUE], "lease overdue");
	CHECK(pthread_equal(heard.thread, pthread_self()));
}

TEST(event, of_the_pool_as_a_whole_names_no_connection)
{
	static struct heard heard;
	CLEANUP(fixture_close) struct fixture f = fixture_config(listening(&heard));

	event_send(f.pool, PP_EVENT_MEMORY, NULL, "%s", "");
	const struct pp_event *event = last(&heard, PP_EVENT_MEMORY);

	CHECK(event->connection.id == UINT64_MAX);
	CHECK_INT(event->frame_count, ==, 0);
	CHECK_STR(message(&heard, event), "");
}

TEST(event, message_is_cut_to_fit)
{
	static struct heard heard;
	CLEANUP(fixture_close) struct fixture f = fixture_config(listening(&heard));
	char words[1000];

	memset(words, 'w', sizeof words);
	words[sizeof words - 1] = '\0';
	event_send(f.pool, PP_EVENT_MEMORY, NULL, "%s", words);
	CHECK_INT(strlen(message(&heard, last(&heard, PP_EVENT_MEMORY))), ==, 511);
}

TEST(event, goes_nowhere_when_nobody_listens)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	event_send(f.pool, PP_EVENT_DIRTY, lease.slot, "%s", "nobody");
}

/* --- Where ------------------------------------------------------------------------------- */

/* In a section of its own, whose bounds the linker names. */
extern const char __start_lender[], __stop_lender[];

static __attribute__((noinline, section("lender"))) void lend_here(struct pp_pool *pool,
                                                                   struct pp_lease *lease)
{
	pp_acquire(pool, PP_WRITE, PP_FOREVER, lease, NULL);
	__asm__ volatile("" ::: "memory"); /* Not a tail call: this is to be on the stack. */
}

static bool is_in_lend_here(const void *frame)
{
	return (const char *)frame > __start_lender && (const char *)frame < __stop_lender;
}

TEST(event, tells_who_has_the_connection_and_where_he_got_it)
{
	static struct heard heard;
	CLEANUP(fixture_close) struct fixture f = fixture_config(listening(&heard));
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	lend_here(f.pool, &lease);
	must(pp_prepare(&lease, "SELECT 'what runs'", &stmt, NULL), NULL);
	event_send(f.pool, PP_EVENT_WAL_PINNED, lease.slot, "%s", "by this");
	const struct pp_event *event = last(&heard, PP_EVENT_WAL_PINNED);

	CHECK_INT(event->connection.id, ==, ((struct slot *)lease.slot)->id);
	CHECK_INT(event->connection.state, ==, PP_CONNECTION_LENT);
	CHECK_INT(event->connection.lane, ==, PP_WRITE);
	CHECK_INT(event->connection.thread, ==, gettid());
	CHECK_STR(event->connection.sql, "SELECT 'what runs'");
	CHECK_INT(event->frame_count, ==, 1);
	CHECK(is_in_lend_here(event->frames[0]));
}

TEST(event, tells_the_whole_stack_with_backtraces)
{
	static struct heard heard;
	struct pp_config config = listening(&heard);
	unsigned here = 0;

	config.backtraces = true;
	CLEANUP(fixture_close) struct fixture f = fixture_config(config);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };

	lend_here(f.pool, &lease);
	event_send(f.pool, PP_EVENT_DIRTY, lease.slot, "%s", "");
	const struct pp_event *event = last(&heard, PP_EVENT_DIRTY);

	CHECK_INT(event->frame_count, >, 1);
	CHECK_INT(event->frame_count, <=, PP_FRAMES_MAX);
	for (unsigned i = 0; i < event->frame_count; i++)
		here += is_in_lend_here(event->frames[i]);
	CHECK_INT(here, ==, 1);
}

/* The frames in an idle slot are of somebody who has nothing to do with it any more. */
TEST(event, of_an_idle_connection_blames_nobody)
{
	static struct heard heard;
	CLEANUP(fixture_close) struct fixture f = fixture_config(listening(&heard));
	struct pp_lease lease = { 0 };
	struct slot *slot;

	lend_here(f.pool, &lease);
	slot = lease.slot;
	pp_release(&lease);
	event_send(f.pool, PP_EVENT_RENEWED, slot, "%s", "");
	CHECK_INT(last(&heard, PP_EVENT_RENEWED)->connection.state, ==, PP_CONNECTION_IDLE);
	CHECK_INT(last(&heard, PP_EVENT_RENEWED)->frame_count, ==, 0);
}

/* From the warning to the late return, each event says where the lease was acquired. */
TEST(event, follows_a_lease_through_quarantine)
{
	static struct heard heard;
	struct pp_config config = listening(&heard);

	config.lease_warn_ms = 1000;
	config.lease_max_ms = 2000;
	config.lease_grace_ms = 1000;
	CLEANUP(fixture_close) struct fixture f = fixture_config(config);
	struct pp_lease lease = { 0 };
	static const enum pp_event_kind kinds[] = { PP_EVENT_LEASE_OVERDUE, PP_EVENT_INTERRUPTED,
		                                    PP_EVENT_QUARANTINED, PP_EVENT_LEASE_BACK };

	lend_here(f.pool, &lease);
	uint64_t id = ((struct slot *)lease.slot)->id;

	for (unsigned i = 0; i < 3; i++) {
		clock_travel_ms(1100);
		CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	}
	pp_release(&lease);
	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		const struct pp_event *event = last(&heard, kinds[i]);

		CHECK_MSG(event != NULL, "event %d was not sent", kinds[i]);
		CHECK_INT(event->connection.id, ==, id);
		CHECK_MSG(event->frame_count == 1 && is_in_lend_here(event->frames[0]),
		          "%s: %u frames", event->name, event->frame_count);
	}
}

/* The keeper tells of leases that others hold, begin and end meanwhile: what it reads is a lease's
 * own or nothing, and no race. There is no CHECK in here, which would put the threads in order. */
struct race {
	struct pp_pool *pool;
	atomic_uint seen, wrong;
	atomic_bool stop;
};

static void *lend_and_release(void *context)
{
	struct race *race = context;

	while (!atomic_load(&race->stop)) {
		struct pp_lease lease = { 0 };

		lend_here(race->pool, &lease);
		pp_release(&lease);
	}
	return NULL;
}

static void look(const struct pp_event *event, void *context)
{
	struct race *race = context;

	atomic_fetch_add(&race->seen, event->frame_count);
	if (event->frame_count > 0 && !is_in_lend_here(event->frames[0]))
		atomic_fetch_add(&race->wrong, 1);
}

TEST(event, may_be_of_a_lease_that_ends_meanwhile)
{
	struct race race = { .seen = 0 };
	struct pp_config config = { .readers = 1,
		                    .keeper = PP_KEEPER_MANUAL,
		                    .on_event_context = &race };
	CLEANUP(fixture_close) struct fixture f = fixture_config(config);
	struct slot *slot = &pool_lane(f.pool, PP_WRITE)->slots[0];
	struct pp_lease lease = { 0 };
	pthread_t thread;

	/* What the fixture's lease left in the slot is not from here. */
	lend_here(f.pool, &lease);
	pp_release(&lease);
	race.pool = f.pool;
	f.pool->config.on_event = look;
	thread = thread_start(lend_and_release, &race);
	while (atomic_load(&race.seen) < 1000 / slowness())
		event_send(f.pool, PP_EVENT_LEASE_OVERDUE, slot, "%s", "");
	atomic_store(&race.stop, true);
	pthread_join(thread, NULL);
	f.pool->config.on_event = NULL;
	CHECK_INT(atomic_load(&race.wrong), ==, 0);
}
