# Poolproof: one Makefile, a row per variant. `make help` lists the targets.
# SPDX-License-Identifier: MIT

VARIANTS := release instrumented coverage asan tsan valgrind
VARIANT  ?= release
ifneq ($(words $(VARIANT))$(filter $(VARIANT),$(VARIANTS)),1$(VARIANT))
$(error unknown VARIANT '$(VARIANT)'; known: $(VARIANTS))
endif

VERSION := 0.1.0
BUILD   ?= build
B       := $(BUILD)/$(VARIANT)
PREFIX  ?= /usr/local
ifeq ($(origin CC),default)
CC := gcc
endif

# What each variant adds. A row per variant: compiler flags, libraries, how its tests are run. A
# sanitizer's report names functions and lines, for which -g1 does.
FLAGS.release      := -O2 -g
FLAGS.instrumented := -O2 -g3 -DPP_JEMALLOC -DPP_INSTRUMENTED
FLAGS.coverage     := -O0 -g --coverage -fprofile-update=atomic -fprofile-abs-path -DPP_INSTRUMENTED -DPP_COVERAGE
FLAGS.asan         := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -DPP_INSTRUMENTED
FLAGS.tsan         := -O1 -g1 -fsanitize=thread -DPP_INSTRUMENTED
FLAGS.valgrind     := -O2 -g -DPP_INSTRUMENTED

LIBS.instrumented  := -ljemalloc

RUN.asan     := ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
RUN.tsan     := TSAN_OPTIONS=halt_on_error=1:suppressions=ci/tsan.supp CK_TIMEOUT_MULTIPLIER=5
RUN.valgrind := CK_TIMEOUT_MULTIPLIER=30 valgrind --quiet --error-exitcode=99 --leak-check=full \
                --errors-for-leak-kinds=definite,indirect,possible --trace-children=yes \
                --fair-sched=try --suppressions=ci/memcheck.supp

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wwrite-strings -Werror
BASE := -std=c11 -D_GNU_SOURCE -pthread -fPIC -fno-omit-frame-pointer -fvisibility=hidden $(WARN) \
        -DPP_VERSION='"$(VERSION)"' -DPP_VARIANT='"$(VARIANT)"'

# A folder sees the headers named here and no others: this is the wall, and the compiler keeps it.
SEES.pool/src          := -Ipool/include -Ipool/src
SEES.pool/test         := -Ipool/include -Ipool/src -Iharness/include
SEES.harness/src       := -Iharness/include -Iharness/src
SEES.harness/test      := -Iharness/include -Iharness/src
SEES.harness/test/peers := -Iharness/include
SEES.scenarios         := -Ipool/include -Iharness/include
SEES.scenarios/targets   := -Ipool/include -Iharness/include
SEES.scenarios/workloads := -Ipool/include -Iharness/include
SEES.scenarios/peers   = -Iharness/include $(SEES.$(*F))
SEES.libzdb           := -I/usr/include/zdb
SEES.apr              := -I/usr/include/apr-1.0
SEES.bench/src         := -Ipool/include -Ipool/bench -Iharness/include $(SEES.libzdb) $(SEES.apr)
SEES.bench/test        := -Ibench/src -Iharness/include
SEES.pool/bench        := -Ipool/include -Ipool/src
SEES.reports/src       := -Ireports/src -I/usr/include/libxml2
SEES.reports/test      := -Ireports/src -Iharness/include -I/usr/include/libxml2

objects = $(patsubst %.c,$(B)/%.o,$(sort $(wildcard $(1)/*.c)))
POOL      := $(B)/libpoolproof.a
POOL_SO   := $(B)/libpoolproof.so
HARNESS   := $(B)/libpoolproof-harness.a
COMMAND   := $(B)/poolproof
SCENARIOS := $(patsubst scenarios/%.c,$(B)/scenarios/%,$(sort $(wildcard scenarios/*.c)))
# Plug-ins: other pools as targets, where their library is installed, and some for the tests.
PEERS     := $(patsubst %,$(B)/scenarios/peers/%.so,$(if $(wildcard /usr/include/zdb/zdb.h),libzdb) \
             $(if $(wildcard /usr/include/apr-1.0/apr_dbd.h),apr))
FAKE_PEERS := $(patsubst harness/test/peers/%.c,$(B)/peers/%.so,$(wildcard harness/test/peers/*.c))
BENCH     := $(B)/poolproof-bench
TESTS     := $(B)/pool-tests $(B)/harness-tests $(B)/reports-tests
# What is measured is what users get: the benchmark's own tests are of that variant only.
TESTS.release := $(B)/bench-tests

# `make V=1` shows the commands.
ifndef V
say = @echo '  $(1) $(patsubst $(BUILD)/%,%,$@)';
endif

LINK = $(CC) $(BASE) $(FLAGS.$(VARIANT)) $(CFLAGS) $(LDFLAGS) -o $@
LINK_POOL    := -lsqlite3 $(LIBS.$(VARIANT))
LINK_HARNESS := -ljansson -lz -lm -lsqlite3 $(LIBS.$(VARIANT))
LINK_REPORTS := -ljansson -lxml2 -lz -lm $(LIBS.$(VARIANT))
LINK_PEER.libzdb := -lzdb
LINK_PEER.apr    := -laprutil-1 -lapr-1
LINK_BENCH   := $(LINK_HARNESS) $(LINK_PEER.libzdb) $(LINK_PEER.apr)
LINK_CHECK   := -lcheck_pic -lsubunit -lrt -lm

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

##@ Build
all: $(POOL) $(POOL_SO) $(COMMAND) $(SCENARIOS) $(PEERS) ## Library, command, scenarios

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(BASE) $(FLAGS.$(VARIANT)) $(SEES.$(patsubst %/,%,$(dir $<))) $(CFLAGS) -MMD -MP -c -o $@ $<

# One object in which only the public names are global: the others are nobody's but the pool's, and
# clash with no program's own.
$(B)/poolproof.o: $(call objects,pool/src)
	$(call say,LINK)$(CC) -r -nostdlib -o $@ $^ && objcopy --localize-hidden $@

$(POOL): $(B)/poolproof.o
	@rm -f $@
	$(call say,AR  )ar rcs $@ $^

$(POOL_SO): $(call objects,pool/src)
	$(call say,LINK)$(LINK) -shared -Wl,-z,nodelete -Wl,-soname,libpoolproof.so.0 $^ $(LINK_POOL)

$(HARNESS): $(call objects,harness/src)
	@rm -f $@
	$(call say,AR  )ar rcs $@ $^

$(COMMAND): $(call objects,reports/src)
	$(call say,LINK)$(LINK) $^ $(LINK_REPORTS)

$(SCENARIOS): $(B)/scenarios/%: $(B)/scenarios/%.o $(call objects,scenarios/targets) \
                $(call objects,scenarios/workloads) $(HARNESS) $(POOL)
	$(call say,LINK)$(LINK) -rdynamic $^ $(LINK_HARNESS)

$(PEERS): $(B)/scenarios/peers/%.so: $(B)/scenarios/peers/%.o
	$(call say,LINK)$(LINK) -shared $^ $(LINK_PEER.$*)

$(FAKE_PEERS): $(B)/peers/%.so: $(B)/harness/test/peers/%.o
	@mkdir -p $(@D) && touch $(@D)/not-a-plugin
	$(call say,LINK)$(LINK) -shared $^

$(B)/harness-tests: | $(FAKE_PEERS)

$(BENCH): $(call objects,bench/src) $(call objects,pool/bench) $(call objects,pool/src) $(HARNESS)
	$(call say,LINK)$(LINK) $^ $(LINK_BENCH)

$(B)/bench-tests: $(call objects,bench/test) $(filter-out %/main.o,$(call objects,bench/src)) \
                  $(call objects,pool/bench) $(call objects,pool/src) $(HARNESS) | $(BENCH)
	$(call say,LINK)$(LINK) $^ $(LINK_CHECK) $(LINK_BENCH)

$(B)/pool-tests: $(call objects,pool/test) $(call objects,pool/src)
	$(call say,LINK)$(LINK) $^ $(LINK_CHECK) $(LINK_POOL)

$(B)/harness-tests: $(call objects,harness/test) $(HARNESS)
	$(call say,LINK)$(LINK) -rdynamic $^ $(LINK_CHECK) $(LINK_HARNESS)

$(B)/reports-tests: $(call objects,reports/test) $(filter-out %/main.o,$(call objects,reports/src))
	$(call say,LINK)$(LINK) $^ $(LINK_CHECK) $(LINK_REPORTS)

.PHONY: setup
setup:
	@ci/setup

##@ Test
check: setup ## Unit tests of one VARIANT (release)
	@$(MAKE) --no-print-directory VARIANT=$(VARIANT) all check-built

T ?= pool
one: $(B)/$(T)-tests ## Tests of T=pool|harness|reports|bench whose name has A=word
	@$(RUN.$(VARIANT)) $< $(A)

.PHONY: one check check-built check-all gate nightly help clean format install all
# The two that take longest in halves, side by side.
check-built: $(TESTS) $(TESTS.$(VARIANT)) $(POOL_SO)
	@rm -f $(B)/*-tests*.log $(B)/*-tests*.code
	@for t in $(TESTS) $(TESTS.$(VARIANT)); do \
		case $$t in */pool-tests|*/harness-tests) parts="1/2 2/2";; *) parts=1/1;; esac; \
		for p in $$parts; do \
			of=$$t.$${p%/*}; \
			{ $(RUN.$(VARIANT)) $$t -p $$p >$$of.log 2>&1; echo $$? >$$of.code; } & \
		done; \
	done; wait; \
	for code in $(B)/*-tests.*.code; do \
		echo "$${code%.code}"; grep -v '^ ' $${code%.code}.log; codes="$$codes $$(cat $$code)"; \
	done; [ -z "$$(echo $$codes | tr -d ' 0')" ]
	@[ $(VARIANT) != release ] || { ci/probes $(B) && ci/symbols $(B) && ci/peers $(B) && ci/planted $(B); }

# What the gate runs, into build/gate/ anew each time. Every step is done, then judged together.
GATE         := $(BUILD)/gate
PP           := $(BUILD)/instrumented/poolproof
GATE_SECONDS ?= 10
PAIR_SECONDS ?= 10
KILLS        ?= 250
TIMES        ?= 8
STATES       ?= 100000
FAULT_ROUNDS ?= 1
ROUNDS       ?= 80
WAIT_SECONDS ?= 3
# Every so manieth place of the sweeps, natively and under memcheck. 1: all of them.
SWEEP_STRIDE ?= 4
MEMCHECK_STRIDE ?= 97
GATE_SEED    ?= $(shell date +%s)

# One after the other, or beside each other on two processors where no time is judged but by
# generous bounds.
GATE_ALONE   := load pair
GATE_ONE     := kill recovery exhaustion shutdown starvation
GATE_OTHER   := power faults again
GATE_STEPS   := $(GATE_ALONE) $(GATE_ONE) $(GATE_OTHER) sweeps leaks coverage
beside = @{ $(MAKE) --no-print-directory -j1 $(1); } & $(MAKE) --no-print-directory -j1 $(2); wait

gate: setup ## The main job: scenarios, leaks, coverage, page; PASS or FAIL
	@rm -f $(GATE)/verdict $(BUILD)/report/junit.xml
	@$(MAKE) --no-print-directory VARIANT=instrumented all
	@$(MAKE) --no-print-directory VARIANT=valgrind all
	@$(MAKE) --no-print-directory VARIANT=coverage all $(TESTS:$(B)/%=$(BUILD)/coverage/%)
	@rm -rf $(GATE) && mkdir -p $(GATE)
	@$(MAKE) --no-print-directory -j1 $(GATE_ALONE:%=gate-%)
	$(call beside,$(GATE_ONE:%=gate-%),$(GATE_OTHER:%=gate-%))
	@$(MAKE) --no-print-directory -j1 gate-sweeps
	$(call beside,gate-leaks,gate-coverage)
	@runs=$$(for run in $(GATE)/runs/*; do [ ! -f $$run/run.json ] || echo $$run; done); \
	$(PP) report --out $(BUILD)/report $$runs >/dev/null; \
	$(PP) gate $$runs; echo $$? >$(GATE)/verdict
	@echo "report: $(BUILD)/report/index.html"; exit $$(cat $(GATE)/verdict)

# A run's own verdict is judged by the gate, and so is a run that is missing. UNTRUSTWORTHY (3) is a
# measurement to be made again. The time limits are for a program that hangs.
gate-load:
	@for try in 1 2 3; do \
		rm -rf $(GATE)/runs/load; \
		$(PP) run concurrent_load --threads 8 --seconds $(GATE_SECONDS) --seed $(GATE_SEED) \
			--dir $(GATE)/runs/load; \
		[ $$? = 3 ] || break; \
	done

gate-pair:
	@$(PP) run two_processes --threads 8 --seconds $(PAIR_SECONDS) --seed $(GATE_SEED) \
		--dir $(GATE)/runs/pair || echo "pair: exit code $$?"

gate-kill:
	@$(PP) run kill --threads 8 --kills $(KILLS) --seed $(GATE_SEED) \
		--dir $(GATE)/runs/kill || echo "kill: exit code $$?"
	@$(PP) run kill --threads 8 --kills $(KILLS) --seed $(GATE_SEED) --journal DELETE \
		--synchronous NORMAL --dir $(GATE)/runs/kill-delete || echo "kill: exit code $$?"

gate-recovery:
	@$(PP) run recovery --times $(TIMES) --seed $(GATE_SEED) \
		--dir $(GATE)/runs/recovery || echo "recovery: exit code $$?"

gate-power:
	@$(PP) run power_loss --threads 8 --states $(STATES) --seed $(GATE_SEED) \
		--dir $(GATE)/runs/power || echo "power: exit code $$?"

gate-exhaustion:
	@$(PP) run exhaustion --threads 8 --rounds $(FAULT_ROUNDS) --seed $(GATE_SEED) \
		--dir $(GATE)/runs/exhaustion || echo "exhaustion: exit code $$?"
	@$(PP) run exhaustion --threads 8 --rounds $(FAULT_ROUNDS) --seed $(GATE_SEED) \
		--journal DELETE --dir $(GATE)/runs/exhaustion-delete || echo "exhaustion-delete: exit code $$?"

gate-faults:
	@$(PP) run connection_faults --rounds $(FAULT_ROUNDS) --seed $(GATE_SEED) \
		--dir $(GATE)/runs/faults || echo "faults: exit code $$?"

gate-shutdown:
	@$(PP) run shutdown --threads 8 --rounds $(ROUNDS) --seed $(GATE_SEED) \
		--dir $(GATE)/runs/shutdown || echo "shutdown: exit code $$?"

gate-starvation:
	@$(PP) run starvation --waiters 64 --seconds $(WAIT_SECONDS) --seed $(GATE_SEED) \
		--dir $(GATE)/runs/starvation || echo "starvation: exit code $$?"
	@again=$(GATE)/runs/again-starvation; \
	$(PP) run starvation --replay $(GATE)/runs/starvation --seconds 0.5 --quiet --dir $$again && \
		rm -rf $$again || echo "again: starvation did something else with the same seed"

# Each seed twice: what was chosen must be the same, and where that does not depend on timing what
# happened. Of those that are not only the failed repetition is kept, and judged. Starvation takes its
# time: it is repeated where it runs, for half a second.
gate-again:
	@for s in "kill --kills 20" "recovery --times 1" "exhaustion --rounds 1" "shutdown --rounds 12" \
		"power_loss --states 2000" "oom_sweep --stride 301 --pairs 301" \
		"io_sweep --stride 301 --pairs 301" \
		"concurrent_load --operations 100 --records 200" "connection_faults --rounds 1"; do \
		of=$(GATE)/again/$${s%% *}; again=$(GATE)/runs/again-$${s%% *}; \
		$(PP) run $$s --quiet --seed $(GATE_SEED) --dir $$of || { mv $$of $$again; continue; }; \
		$(PP) run $${s%% *} --replay $$of --quiet --dir $$again && rm -rf $$of $$again || \
			echo "again: $${s%% *} did something else with the same seed"; \
	done; echo "again: nine scenarios repeated"

# Two processes side by side, on whatever processors there are. SWEEP is what differs. Under memcheck
# runs are short: what a few of them have freed is enough to find its use afterwards.
SWEEP_VALGRIND_OPTS := --freelist-vol=2000000 --keep-stacktraces=alloc
SWEEP = timeout -k 10 $(1) $(PP) run $(2) --quiet --seed $(GATE_SEED) --dir $(GATE)/runs/$(3) $(4) || \
	echo "$(3): exit code $$?"
gate-sweeps:
	@{ $(call SWEEP,300,oom_sweep,oom-1,--stride $(SWEEP_STRIDE) --part 1/2); } & \
	{ $(call SWEEP,300,oom_sweep,oom-2,--stride $(SWEEP_STRIDE) --part 2/2); \
	  $(call SWEEP,300,io_sweep,io,--stride $(SWEEP_STRIDE)); } & wait
	@export VALGRIND_OPTS='$(SWEEP_VALGRIND_OPTS)'; \
	{ $(call SWEEP,1200,oom_sweep,oom-memcheck,--under memcheck --stride $(MEMCHECK_STRIDE)); } & \
	{ $(call SWEEP,1200,io_sweep,io-memcheck,--under memcheck --stride $(MEMCHECK_STRIDE)); } & wait

gate-leaks:
	@timeout -k 10 150 $(PP) run concurrent_load --under memcheck --threads 4 --operations 5000 \
		--records 500 --seed $(GATE_SEED) --dir $(GATE)/runs/leaks || echo "leaks: exit code $$?"

# Fresh counters, every test program and a little of the scenarios, two at a time (profiles are merged
# under a lock); what fails is said in the run's verdict, so that the page and the gate name it.
COVERING = "concurrent_load --threads 4 --operations 500 --records 500" \
	"concurrent_load --target raw --threads 4 --operations 500 --records 500" \
	"kill --kills 20" "recovery --times 1" "shutdown --rounds 10" "power_loss --states 500" \
	"oom_sweep --stride 201" "io_sweep --stride 201" "exhaustion --rounds 1"
gate-coverage:
	@find $(BUILD)/coverage -name '*.gcda' -delete
	@rm -rf $(GATE)/coverage-* && : >$(GATE)/coverage-failed; \
	tests() { for t in "$$@"; do \
		timeout -k 10 200 $(BUILD)/coverage/$$t-tests >$(GATE)/$$t-tests.log 2>&1 || \
			echo $$t-tests >>$(GATE)/coverage-failed; \
		tail -n 1 $(GATE)/$$t-tests.log; \
	done; }; \
	scenarios() { for s in "$$@"; do \
		of=$(GATE)/coverage-$${s%% *}; rm -rf $$of; \
		timeout -k 10 100 $(BUILD)/coverage/poolproof run $$s --seed $(GATE_SEED) --dir $$of >$$of.log 2>&1; \
		case $$? in 0|3) ;; *) echo $${s%% *} >>$(GATE)/coverage-failed; mv $$of.log $$of-failed.log;; esac; \
	done; }; \
	{ tests harness reports; } & { scenarios $(COVERING); tests pool; } & wait; \
	failed=$$(tr '\n' ' ' <$(GATE)/coverage-failed); \
	gcovr --root . --object-directory $(BUILD)/coverage --exclude '.*/test/' --json \
		--output $(GATE)/coverage.json $(BUILD)/coverage && \
	$(PP) pack-coverage --dir $(GATE)/runs/coverage \
		$${failed:+--failed "failed, see $(GATE)/*.log: $$failed"} $(GATE)/coverage.json

.PHONY: $(GATE_STEPS:%=gate-%)

check-all: ## Unit tests in all six variants
	@for v in $(VARIANTS); do $(MAKE) --no-print-directory check VARIANT=$$v || exit 1; done

nightly: setup ## What takes longer: all variants, long runs
	@ci/setup nightly
	@$(MAKE) --no-print-directory check-all
	@$(MAKE) --no-print-directory VARIANT=release all
	@harness/test/hlog_oracle.sh $(BUILD)/release/harness-tests $(BUILD)/release
	@$(MAKE) --no-print-directory gate GATE_SECONDS=300 PAIR_SECONDS=30 KILLS=10000 TIMES=100 STATES=5000000 \
		FAULT_ROUNDS=20 ROUNDS=2000 WAIT_SECONDS=60 SWEEP_STRIDE=1 MEMCHECK_STRIDE=1
	@for s in oom_sweep io_sweep; do \
		pairs="$(BUILD)/release/poolproof run $$s --modes pairs --pairs all --variant instrumented"; \
		$$pairs --part 1/2 & $$pairs --part 2/2; two=$$?; \
		wait $$! && [ $$two = 0 ] || exit 1; \
		for v in asan tsan; do $(BUILD)/$$v/poolproof run $$s --stride 5 || exit 1; done; \
	done
	@$(BUILD)/release/poolproof run concurrent_load --threads 32 --seconds 60
	@$(BUILD)/asan/poolproof run concurrent_load --seconds 60
	@$(BUILD)/tsan/poolproof run concurrent_load --seconds 60
	@for v in asan tsan; do \
		$(BUILD)/$$v/poolproof run shutdown --rounds 300 && \
		$(BUILD)/$$v/poolproof run starvation --seconds 20 || exit 1; \
	done

##@ Measure
# Into build/bench/: raw.jsonl, report.json, index.html. The exit code is make's, 2 for whatever the
# benchmark said; its own is in build/bench/code.
BENCH_SECONDS ?= 900
BENCH_OPTIONS  = --seconds $(BENCH_SECONDS) $(if $(ROWS),--rows '$(ROWS)')

.PHONY: bench bench-program
bench: setup ## The pool beside its peers, 16 min; ROWS=word, BENCH_SECONDS=900
	@$(MAKE) --no-print-directory VARIANT=instrumented bench-program
	@$(MAKE) --no-print-directory VARIANT=release bench-program $(BUILD)/release/poolproof
	@mkdir -p $(BUILD)/bench; $(BUILD)/release/poolproof-bench --folder $(BUILD)/bench \
		$(BENCH_OPTIONS); code=$$?; echo $$code >$(BUILD)/bench/code; \
	case $$code in 0|1|3) $(BUILD)/release/poolproof bench-page $(BUILD)/bench/report.json;; esac; \
	exit $$code

bench-program: $(BENCH)

##@ Install
install: all ## Library, headers, pkg-config, command, scenarios, manual page
	install -d $(DESTDIR)$(PREFIX)/include/poolproof $(DESTDIR)$(PREFIX)/lib/pkgconfig \
		$(DESTDIR)$(PREFIX)/include/poolproof/harness \
		$(DESTDIR)$(PREFIX)/lib/poolproof/scenarios/peers $(DESTDIR)$(PREFIX)/bin \
		$(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 pool/include/poolproof/pool.h $(DESTDIR)$(PREFIX)/include/poolproof/
	install -m 644 harness/include/poolproof/harness/target.h \
		$(DESTDIR)$(PREFIX)/include/poolproof/harness/
	install -m 644 $(POOL) $(DESTDIR)$(PREFIX)/lib/
	install -m 755 $(POOL_SO) $(DESTDIR)$(PREFIX)/lib/libpoolproof.so.0
	ln -sf libpoolproof.so.0 $(DESTDIR)$(PREFIX)/lib/libpoolproof.so
	install -m 755 $(COMMAND) $(DESTDIR)$(PREFIX)/lib/poolproof/
	install -m 755 $(SCENARIOS) $(DESTDIR)$(PREFIX)/lib/poolproof/scenarios/
	$(if $(PEERS),install -m 755 $(PEERS) $(DESTDIR)$(PREFIX)/lib/poolproof/scenarios/peers/)
	ln -sf ../lib/poolproof/poolproof $(DESTDIR)$(PREFIX)/bin/poolproof
	install -m 644 reports/poolproof.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: poolproof' 'Version: $(VERSION)' \
		'Description: a pool of SQLite connections for threaded programs' \
		'Requires: sqlite3' 'Libs: -L$${prefix}/lib -lpoolproof -pthread' \
		'Cflags: -I$${prefix}/include' >$(DESTDIR)$(PREFIX)/lib/pkgconfig/poolproof.pc
	@[ -n "$(DESTDIR)" ] || ldconfig 2>/dev/null || echo 'install: run ldconfig, or set LD_LIBRARY_PATH'

##@ Keep tidy
format: ## Lay the sources out by .clang-format
	clang-format -i $$(git ls-files '*.c' '*.h')

clean: ## Remove everything that was built
	rm -rf build

help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
	/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nVARIANT=%s\n' "$$(echo $(VARIANTS) | tr ' ' '|')"

-include $(shell find $(B) -name '*.d' 2>/dev/null)
