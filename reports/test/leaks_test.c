/* Valgrind's XML: whole, nested by fork, cut anywhere. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#define HEAD                                                                                \
	"<?xml version=\"1.0\"?>\n<valgrindoutput>\n<protocolversion>4</protocolversion>\n" \
	"<pid>7</pid><tool>memcheck</tool>\n"
#define TAIL "<errorcounts>\n</errorcounts>\n</valgrindoutput>\n"
#define FRAME(fn, dir, file, line)                                                         \
	"<frame><ip>0x1</ip><obj>/bin/x</obj><fn>" fn "</fn><dir>" dir "</dir><file>" file \
	"</file><line>" line "</line></frame>"
#define MALLOC                                                                            \
	"<frame><ip>0x2</ip><obj>/usr/libexec/valgrind/vgpreload_memcheck-amd64.so</obj>" \
	"<fn>malloc</fn></frame>"
#define LOST(kind, bytes, stack)                                                         \
	"<error><unique>0x0</unique><tid>1</tid><kind>Leak_" kind "</kind><xwhat>"       \
	"<text>bytes are lost</text><leakedbytes>" bytes "</leakedbytes><leakedblocks>1" \
	"</leakedblocks></xwhat><stack>" stack "</stack></error>\n"
#define CALLOC "<frame><ip>0x3</ip><obj>/lib/libc.so.6</obj><fn>calloc</fn></frame>"
#define OURS(line) MALLOC FRAME("lend", "/home/u/pp/pool/src", "pool.c", line)
#define INVALID                                                                                 \
	"<error><unique>0x2</unique><tid>1</tid><kind>InvalidRead</kind><what>Invalid &lt;read" \
	"&gt;</what><stack>" FRAME("go", "/x/scenarios", "storm.c",                             \
	                           "3") "</stack>"                                              \
					"<auxwhat>freed at</auxwhat><stack>" MALLOC             \
					"</stack></error>\n"

static struct report_leaks read_xml(struct fixture *f, const char *text)
{
	struct report_leaks leaks;

	fixture_write(f, "leaks/memcheck.7.xml", text);
	report_leaks_read(&f->arena, fixture_path(f, "leaks"), &leaks);
	return leaks;
}

TEST(leaks, are_one_by_stack_whatever_the_line)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_leaks leaks =
		read_xml(&f, HEAD LOST("DefinitelyLost", "33", OURS("10"))
	                             LOST("DefinitelyLost", "9", OURS("99"))
	                                     LOST("PossiblyLost", "5", OURS("10")) INVALID TAIL);

	CHECK_INT(leaks.count, ==, 3);
	CHECK_INT(leaks.truncated, ==, 0);
	/* Errors first, then by weight. */
	CHECK_STR(leaks.items[0].kind, "InvalidRead");
	CHECK_STR(leaks.items[0].text, "Invalid <read>");
	CHECK_INT(leaks.items[0].frame_count, ==, 1);
	CHECK_STR(leaks.items[0].site->place, "scenarios/storm.c");
	CHECK_STR(leaks.items[1].kind, "definite");
	CHECK_INT(leaks.items[1].bytes, ==, 42);
	CHECK_INT(leaks.items[1].blocks, ==, 2);
	CHECK_INT(leaks.items[1].processes, ==, 1);
	CHECK_STR(leaks.items[1].site->place, "pool/src/pool.c");
	CHECK_INT(leaks.items[2].bytes, ==, 5);
}

TEST(leaks, are_one_by_any_allocator)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_leaks leaks = read_xml(
		&f, HEAD LOST("DefinitelyLost", "3", MALLOC FRAME("a", "/b", "c.c", "1"))
			    LOST("DefinitelyLost", "4", CALLOC FRAME("a", "/b", "c.c", "2")) TAIL);

	CHECK_INT(leaks.count, ==, 1);
	CHECK_INT(leaks.items[0].bytes, ==, 7);
	CHECK(leaks.items[0].site == NULL);
}

/* Valgrind writes a forked child's document into the middle of its parent's. */
TEST(leaks, a_forked_child_repeats_nothing)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_leaks leaks;

	fixture_write(&f, "leaks/memcheck.9.xml",
	              HEAD LOST("DefinitelyLost", "33", OURS("1")) TAIL);
	leaks = read_xml(&f, HEAD "\n" HEAD LOST("DefinitelyLost", "33", OURS("10"))
	                             TAIL LOST("DefinitelyLost", "33", OURS("10")) TAIL);
	CHECK_INT(leaks.files, ==, 2);
	CHECK_INT(leaks.documents, ==, 3);
	CHECK_INT(leaks.truncated, ==, 0);
	CHECK_INT(leaks.count, ==, 1);
	CHECK_INT(leaks.items[0].bytes, ==, 33);
	CHECK_INT(leaks.items[0].processes, ==, 3);
}

TEST(leaks, a_cut_file_keeps_what_is_whole_at_every_byte)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static const char whole[] = HEAD INVALID LOST("DefinitelyLost", "33", OURS("10"))
		LOST("IndirectlyLost", "4", MALLOC FRAME("a", "/b", "c.c", "1")) TAIL;

	for (size_t cut = 0; cut < sizeof whole - 1; cut++) {
		char *text = report_copy(&f.arena, whole, cut);
		size_t kept = 0;
		struct report_leaks leaks = read_xml(&f, text);

		for (const char *at = text; (at = strstr(at, "</error>")) != NULL; at++)
			kept++;
		CHECK_MSG(leaks.count == kept, "cut at %zu: %zu of %zu kept", cut, leaks.count,
		          kept);
		/* The last byte is a line's end, which nobody misses. */
		CHECK_MSG(leaks.truncated == (cut < sizeof whole - 2), "cut at %zu", cut);
	}
}

TEST(leaks, damage_in_a_finished_document_is_told)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_leaks leaks = read_xml(&f, HEAD INVALID "<error><kind>Leak" TAIL);

	CHECK_INT(leaks.truncated, ==, 1);
	CHECK_INT(leaks.count, <=, 1);
}

static const struct {
	const char *what, *gate;
	int code;
} verdicts[] = {
	{ "bytes of a kind", "leak.bytes{kind=definite} == 33 B", REPORT_PASS },
	{ "another kind", "leak.bytes{kind=possible} == 0 B", REPORT_PASS },
	{ "all kinds", "leak.blocks == 1", REPORT_PASS },
	{ "the alarm", "leak.bytes{kind=definite} == 0 B", REPORT_FAIL },
	{ "errors", "memcheck.errors == 0", REPORT_FAIL },
	{ "new ones", "leak.blocks{state=new} == 1", REPORT_PASS },
	{ "tool", "leak.blocks{tool=memcheck,kind=d*} == 1", REPORT_PASS },
	{ "not under helgrind", "helgrind.errors == 0", REPORT_FAIL },
	{ "not cut", "leak.truncated == 0", REPORT_PASS },
};

TEST_ROWS(leaks, are_judged, sizeof verdicts / sizeof *verdicts)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(
		&f,
		(struct fixture_run){ .name = "r", .variant = "valgrind", .under = "memcheck" });

	fixture_write(&f, "r/leaks/memcheck.1.xml",
	              HEAD INVALID LOST("DefinitelyLost", "33", OURS("1")) TAIL);
	CHECK_INT(fixture_command(&f, "gate", run, "--gate", verdicts[row].gate, NULL), ==,
	          verdicts[row].code);
}

TEST(leaks, a_cut_report_is_not_to_be_trusted_but_a_found_leak_is)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(
		&f,
		(struct fixture_run){ .name = "r", .variant = "valgrind", .under = "memcheck" });

	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "leak.bytes == 0 B", NULL), ==,
	          REPORT_UNTRUSTWORTHY); /* No XML at all. */
	fixture_write(&f, "r/leaks/memcheck.1.xml", HEAD LOST("DefinitelyLost", "33", OURS("1")));
	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "leak.bytes{kind=possible} == 0 B",
	                          NULL),
	          ==, REPORT_UNTRUSTWORTHY);
	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "leak.bytes == 0 B", NULL), ==,
	          REPORT_FAIL);
	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "leak.truncated == 0", NULL), ==,
	          REPORT_FAIL);
}

TEST(leaks, a_known_one_is_not_new)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_leaks leaks = read_xml(&f, HEAD LOST("DefinitelyLost", "33", OURS("1")) TAIL);

	report_leaks_mark_known(&f.arena, &leaks, fixture_path(&f, "none"));
	CHECK(!leaks.items[0].known);
	fixture_write(&f, "leaks.known",
	              report_print(&f.arena, "# why\n%s # sqlite's\n", leaks.items[0].fingerprint));
	report_leaks_mark_known(&f.arena, &leaks, fixture_path(&f, "leaks.known"));
	CHECK(leaks.items[0].known);
}
