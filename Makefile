# What a developer runs. Needs GNU make and Python 3.11 or newer with pip, nothing else; everything goes into .venv.
#
#   make test ARGS='-k priority -x'      hand options on to pytest (or to the benchmarks)
#   make soak SECONDS=600                for ten minutes; ARGS='--seed 7' makes the same choices again
#   make fuzz ARGS='line --minimise'     one of the five alone; what covers more is kept in tests/fuzz/corpus
#   make test PYTHON=python3.13          choose the Python; `make clean` first if .venv has another

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
# A worker starts children all the time; without byte code each of them would compile bgjobs again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# What is installed is what constraints.txt pins, today and in a year. The second variable is for what builds the package:
# pip before 25.3 takes the first for that too, and does not know the second.
PINS := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
PIP := $(PINS) $(BIN)/python -m pip --quiet --quiet --no-input --disable-pip-version-check
NOT_INSTALLED := { echo 'bgjobs: pip could not install what is needed, see above: is a package index within reach?' >&2; exit 1; }
PYTHON ?=
ARGS ?=
# How `make check` runs the tests: with TESTED=cover their coverage is measured, which takes half as long again.
TESTED ?= test
SECONDS ?= 60
SAMPLES ?= benchmarks.json
# Many tests wait for processes: four at a time on two cores take a third as long.
JOBS ?= 4
# Those of the directories that pyproject.toml names. Those in tests/crash, tests/system and tests/benchmarks have targets
# of their own.
PYTEST := -m pytest -q -n $(JOBS) --dist worksteal
TESTS = RUN $(PYTEST) $(ARGS)
LOOK := { echo "bgjobs: tests failed: the lines FAILED above name them; what to do: docs/troubleshooting.md, 'When a test fails'" >&2; exit 1; }

# The stamps: the environment, bgjobs installed as a user has it, and installed in place with one of the extras.
# The last two replace each other, so each removes the other's stamp.
READY := $(VENV)/.ready
INSTALLED := $(VENV)/.installed
WITH := $(VENV)/.with-
SHIPPED := pyproject.toml $(wildcard README.md LICENSE allowed_jobs.toml) \
	$(shell find src jobs -type f ! -name '*.pyc' 2>/dev/null)

.PHONY: help demo test check format lint types types-elsewhere imports cover system-tests sweeps package pythons crash
.PHONY: soak powercut fuzz windows fix bench bench-full bench-plots bench-tests lock latest oldest clean

help: ## list these targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1 | \2/p' Makefile | \
		while IFS='|' read -r name text; do printf '%-23s%s\n' "$$name" "$$text"; done

demo: $(INSTALLED) ## install bgjobs into .venv and take the one-minute tour
	@$(BIN)/bgjobs demo </dev/null

test: $(WITH)test ## run the tests
	@echo '$(TESTS:RUN=$(BIN)/python)'
	@$(TESTS:RUN=$(BIN)/python) </dev/null || $(LOOK)

check: format lint types imports $(TESTED) ## all that a change must pass: format, lint, types, imports, tests

format: $(WITH)dev ## is everything formatted?
	$(BIN)/ruff format --check .

# The second run is for a check that is still in preview: a file opened without its encoding reads differently by system.
lint: $(WITH)dev ## ruff, every rule
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select unspecified-encoding .

# One cache for each system: mypy starts afresh when it finds another system's.
types: $(WITH)dev ## mypy, as on Linux
	$(BIN)/mypy --platform linux --cache-dir .mypy_cache/linux

types-elsewhere: $(WITH)dev ## mypy, as on macOS and Windows
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin src jobs
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 src jobs

imports: $(WITH)dev ## who may import whom
	$(BIN)/lint-imports --no-logo

cover: $(WITH)dev ## the tests, with coverage
	@$(BIN)/coverage erase
	@$(TESTS:RUN=$(BIN)/coverage run) </dev/null || $(LOOK)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

system-tests: $(WITH)test ## the tests that need root, other users, mounts or systemd (as root)
	@$(BIN)/python $(PYTEST) tests/system tests/cli/test_service.py tests/unit/test_services.py $(ARGS) </dev/null || $(LOOK)

sweeps: $(WITH)test ## the tests that try every step or case of what `make test` tries a part of
	@$(BIN)/python $(PYTEST) -m sweep $(ARGS) </dev/null || $(LOOK)

package: $(WITH)dev ## build sdist and wheel, look what is in them, and use both in fresh environments
	sh scripts/try-package.sh $(BIN)/python </dev/null

pythons: $(READY) ## install the wheel with each Python from 3.11 on that is here, and run the demo and tests with it
	@sh scripts/try-pythons.sh $(ARGS) </dev/null

crash: $(WITH)test ## kill whoever writes to the spool at each step, let each step fail, and go on to the end
	$(BIN)/python $(PYTEST) tests/crash $(ARGS) </dev/null

soak: $(WITH)test ## kill, stop and mislead bgjobs for SECONDS (60), then prove that no job was lost and none overlapped
	$(BIN)/python -m tests.soak --seconds $(SECONDS) $(ARGS) </dev/null

fuzz: $(WITH)fuzz ## feed what reads strangers' files with bytes, each of five for SECONDS (60)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS) </dev/null

fix: $(WITH)dev ## repair what can be repaired: lint, then format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(WITH)bench ## measure bgjobs and its peers, in about six minutes
	@sh scripts/install-uwsgi.sh $(BIN)/python </dev/null
	$(BIN)/python -m benchmarks $(ARGS) </dev/null

bench-full: $(WITH)bench ## measure all there is, in about 30 minutes: ten of churn, millions of jobs (20 GB free)
	@sh scripts/install-uwsgi.sh $(BIN)/python </dev/null
	$(BIN)/python -m benchmarks --full --json $(SAMPLES) $(ARGS) </dev/null

bench-plots: $(WITH)plots ## draw what bench-full has written to SAMPLES (benchmarks.json), into docs/plots
	$(BIN)/python -m benchmarks.plots $(SAMPLES) docs/plots $(ARGS) </dev/null

bench-tests: $(WITH)test ## the tests of the benchmarks
	@$(BIN)/python $(PYTEST) tests/benchmarks $(ARGS) </dev/null || $(LOOK)

powercut: $(WITH)test ## cut the power under a busy queue, 200 times, on ext4 and xfs (as root)
	@$(BIN)/python -m tests.powercut $(ARGS) </dev/null

windows: ## the tests on a Windows Python under Wine, which is installed first (as root, on Debian)
	@scripts/test-on-wine.sh $(ARGS) </dev/null

latest: $(WITH)test ## tests with the newest releases of all that bgjobs needs, in .venv-latest
	@JOBS=$(JOBS) sh scripts/try-releases.sh latest $(ARGS) </dev/null

oldest: $(WITH)test ## tests with the oldest releases that pyproject.toml allows, in .venv-oldest
	@JOBS=$(JOBS) sh scripts/try-releases.sh oldest $(ARGS) </dev/null

lock: ## pin the newest releases of all that bgjobs needs in constraints.txt (for maintainers)
	@[ -x $(VENV)-lock/bin/python ] || PYTHON='$(PYTHON)' sh scripts/make-venv.sh $(VENV)-lock </dev/null
	@$(VENV)-lock/bin/python -m pip --quiet --quiet --no-input --disable-pip-version-check install --upgrade uv </dev/null \
		|| $(NOT_INSTALLED)
	@sh scripts/lock.sh $(VENV)-lock/bin/python $(VENV)-lock/bin/uv </dev/null

clean: ## remove .venv, build output and caches; jobs in spool/ stay
	rm -rf $(VENV) $(VENV)-latest $(VENV)-oldest $(VENV)-lock build dist .coverage .coverage.* htmlcov
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY):
	@PYTHON='$(PYTHON)' sh scripts/make-venv.sh $(VENV) </dev/null
	@touch $@

$(INSTALLED): $(SHIPPED) constraints.txt | $(READY)
	@echo 'Installing bgjobs into $(VENV) …'
	@rm -f $(WITH)*
	@$(PIP) install . </dev/null || $(NOT_INSTALLED)
	@touch $@

$(WITH)%: pyproject.toml constraints.txt | $(READY)
	@echo 'Installing bgjobs and its "$*" tools into $(VENV) …'
	@rm -f $(INSTALLED)
	@$(PIP) install --editable '.[$*]' </dev/null || $(NOT_INSTALLED)
	@touch $@
