# Every target makes its prerequisites: on a fresh machine, `make run` and `make test` suffice.
# Needs Python 3.11 or newer with pip; uses uv instead if uv is installed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
SETTINGS ?= settings.toml

# $(call install,FILE): install exactly the packages of a lock, then the project itself, editable. A lock is complete, so nothing is
# resolved, and versions published later are not considered.
ifdef UV
install = $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --require-hashes -r $(1) && \
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --no-build-isolation -e .
else
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(1) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.installed ## create .venv with the packages that inboxd needs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "inboxd needs Python 3.11 or newer; choose one: make PYTHON=python3.12")'
	$(if $(UV),$(UV) venv --quiet --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

$(VENV)/.installed: $(BIN)/python requirements.txt pyproject.toml
	$(call install,requirements.txt)
	@touch $@

$(VENV)/.installed-dev: $(BIN)/python requirements-dev.txt pyproject.toml
	$(call install,requirements-dev.txt)
	@touch $@ $(VENV)/.installed

.PHONY: run
run: $(VENV)/.installed ## run everything in this terminal, on an embedded server; drop files into drop/inbox
	@exec $(BIN)/inboxd up --settings $(SETTINGS)

# more processes than cores, since tests of real programs mostly wait
TEST_PROCESSES ?= 4

# the environments of other Celery projects, without inboxd
APPS := build/apps/celery-5.3/.installed build/apps/celery-5.7/.installed build/apps/django/.installed build/apps/flask-celery/.installed

build/apps/%/.installed: tests/apps/%.txt $(VENV)/.installed-dev
	rm -rf build/apps/$* && $(BIN)/python -m venv --without-pip build/apps/$*
	$(BIN)/python -m pip --python build/apps/$*/bin/python install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

.PHONY: test
test: $(VENV)/.installed-dev $(APPS) ## run all tests, including those with real servers and processes; ARGS="tests/unit -x"
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(ARGS)

.PHONY: test-install
test-install: $(VENV)/.installed-dev ## install every lock with pip 23.0.1, the newest pip and uv; fill a wheelhouse and install from it
	$(BIN)/python -m pytest -m install tests/install $(ARGS)

.PHONY: test-rules
test-rules: $(VENV)/.installed-dev $(if $(shell command -v promtool),,build/prometheus) ## test alert rules and dashboard with a real Prometheus
	PATH="$$PATH:$(CURDIR)/build/prometheus/usr/bin" $(BIN)/python -m pytest -m prometheus tests/live/monitoring/test_prometheus.py $(ARGS)

build/prometheus: # unpacks Debian's package without installing it: no service starts, and root is not needed
	@command -v apt-get dpkg >/dev/null || { echo "promtool is not on PATH: install Prometheus and retry" >&2; exit 1; }
	mkdir -p build && cd build && apt-get download --quiet prometheus && dpkg -x prometheus_*.deb prometheus.new && \
		mv prometheus.new prometheus && rm prometheus_*.deb

build/redis: # Debian's Redis with its libraries, unpacked likewise: the embedded Valkey is built without TLS
	@command -v apt-get dpkg >/dev/null || { echo "needs Debian's packages" >&2; exit 1; }
	mkdir -p build/redis.new && cd build/redis.new && apt-get download --quiet redis-tools liblzf1 libjemalloc2 && \
		for package in *.deb; do dpkg -x "$$package" .; done && rm *.deb && mv ../redis.new ../redis

WHEELS := build/wheelhouse
BOXES ?= / build/trixie

.PHONY: wheelhouse
wheelhouse: $(WHEELS)/.filled ## download all packages, for `deploy/install.sh --wheels build/wheelhouse` without a network

$(WHEELS)/.filled: requirements-stage.txt deploy/wheelhouse.sh
	deploy/wheelhouse.sh $(WHEELS) 3.13
	@touch $@

build/trixie: # Debian 13, with systemd 257 and Python 3.13; needs root and mmdebstrap
	mkdir -p build
	mmdebstrap --quiet --mode=root --variant=minbase \
		--include=systemd-sysv,dbus-user-session,libpam-systemd,python3-venv,iproute2,procps,openssl,libatomic1,tmux,make trixie $@ || { rm -rf $@; exit 1; }

.PHONY: test-clients
test-clients: $(VENV)/.installed-dev ## upload with real client programs through real servers; print the table of docs/clients.md (root)
	$(BIN)/python -m pytest -m clients tests/clients -s $(ARGS)

.PHONY: test-examples
test-examples: $(VENV)/.installed-dev $(APPS) ## run the folders of examples/ with real files, ocrmypdf, clamd, PostgreSQL, Django and Flask
	$(BIN)/python -m pytest -m examples -n $(TEST_PROCESSES) --dist loadfile tests/examples $(ARGS)

.PHONY: test-mounts
test-mounts: $(VENV)/.installed-dev ## test on real FUSE mounts that hang and die, and with wrong clocks; needs bindfs and cc
	@command -v bindfs >/dev/null && command -v cc >/dev/null || { echo "make test-mounts needs bindfs and a C compiler" >&2; exit 1; }
	unshare $$([ "$$(id -u)" = 0 ] || echo --user --map-root-user) --mount --propagation private \
		$(BIN)/python -m pytest -m mounts tests/mounts $(ARGS)

.PHONY: test-systemd
test-systemd: $(VENV)/.installed-dev $(WHEELS)/.filled build/redis $(filter-out /,$(BOXES)) ## test on systemd 252 and 257, booted in boxes (root); BOXES=/: only this machine's systemd
	@[ "$$(id -u)" = 0 ] || { echo "make test-systemd needs root to boot systemd in a box" >&2; exit 1; }
	for root in $(BOXES); do \
		INBOXD_BOX_ROOT=$$root INBOXD_WHEELS=$(WHEELS) $(BIN)/python -m pytest -m systemd tests/systemd $(ARGS) || exit 1; \
	done

.PHONY: fuzz
fuzz: $(VENV)/.installed-dev ## feed a million malformed inputs to the decoders of messages, leases, outcomes, notes, logs and settings
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-60000} $(BIN)/python -m pytest -n 2 --dist worksteal tests/fuzz $(ARGS)

.PHONY: drill
drill: $(VENV)/.installed-dev $(APPS) ## drop thousands of files while programs are killed, Redis is flushed, (with bindfs and cc) a mount hangs and clocks jump; print a ledger
	PYTHONPATH=tests:. unshare $$([ "$$(id -u)" = 0 ] || echo --user --map-root-user) --mount --propagation private \
		$(BIN)/python bench/drill.py $$(command -v bindfs >/dev/null && command -v cc >/dev/null && echo --mount) $(ARGS)

.PHONY: audit
audit: $(VENV)/.installed-dev ## drop thousands of files, kill workers, flush Redis; check that `inboxd audit` accounts for each file
	PYTHONPATH=tests:. $(BIN)/python bench/audit.py $(ARGS)

.PHONY: soak
soak: $(VENV)/.installed-dev ## drop files for an hour at a constant rate; print each process's memory and open files
	PYTHONPATH=tests:. $(BIN)/python bench/soak.py $(ARGS)

.PHONY: outage
outage: $(VENV)/.installed-dev ## drop files while Redis is stopped for minutes; print the watcher's memory
	PYTHONPATH=tests:. $(BIN)/python bench/outage.py $(ARGS)

.PHONY: bench
bench: $(VENV)/.installed-dev ## compare the speed of inboxd and its peers, whose packages are installed in build/bench (Node is optional)
	PYTHONPATH=tests:. $(BIN)/python bench/speed.py $(ARGS)

.PHONY: bench-scale
bench-scale: $(VENV)/.installed-dev ## measure a million files, idle inboxes, a large file, a slow handler, many inboxes and sub-folders
	PYTHONPATH=tests:. $(BIN)/python bench/at_scale.py $(ARGS)

.PHONY: bench-logs
bench-logs: $(VENV)/.installed-dev ## time `inboxd trace` and `log` on a million lines and on a journal (needs root and systemd's journald)
	PYTHONPATH=tests:. $(BIN)/python bench/logs.py $(ARGS)

.PHONY: bench-types
bench-types: $(VENV)/.installed-dev ## compare content types with `file` on thousands of real files, downloaded into build/content-types
	PYTHONPATH=. $(BIN)/python bench/content_types.py $(ARGS)

.PHONY: bench-handlers
bench-handlers: $(VENV)/.installed-dev $(APPS) ## time commands against xargs, webhooks against clients, tasks of another project against it alone
	PYTHONPATH=tests:. $(BIN)/python bench/handlers.py $(ARGS)

.PHONY: bench-web
bench-web: $(VENV)/.installed-dev ## time the pages of `inboxd web` with 100,000 failed files while files are processed, and its cost for that work
	PYTHONPATH=tests:. $(BIN)/python bench/web.py $(ARGS)

.PHONY: mutants
mutants: $(VENV)/.installed-dev ## plant bugs in a copy of the tree, one at a time; print the test that detects each
	$(BIN)/python bench/mutants.py $(ARGS)

.PHONY: check
check: $(VENV)/.installed-dev ## check lint rules, format, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs
docs: $(VENV)/.installed-dev ## build the documentation into build/site, and check its links
	$(BIN)/python docs/settings_page.py > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	$(BIN)/mkdocs build

.PHONY: pages
pages: $(VENV)/.installed-dev ## write the man pages and completion scripts of deploy/share from the commands
	rm -rf deploy/share && $(BIN)/python deploy/pages.py deploy/share

.PHONY: fmt
fmt: $(VENV)/.installed-dev ## format the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

# --no-strip-extras: a resolver ignores a pin of `coverage` when a package requires `coverage[toml]`
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-strip-extras --no-emit-index-url --no-emit-find-links --quiet

.PHONY: lock
lock: $(VENV)/.installed-dev ## pin all packages, with hashes; ARGS=--upgrade takes the newest versions
	$(COMPILE) $(ARGS) --extra embedded --extra notify --extra web --extra webhook --group build pyproject.toml -o requirements.txt
	$(COMPILE) $(ARGS) -c requirements.txt --extra embedded --extra notify --extra stage --extra web --extra webhook --group build pyproject.toml -o requirements-stage.txt
	$(COMPILE) $(ARGS) --all-extras --group build --group dev pyproject.toml -o requirements-dev.txt
	$(COMPILE) $(ARGS) bench/requirements.in -o bench/requirements.txt
	for app in tests/apps/*.in; do $(COMPILE) $(ARGS) $$app -o $${app%.in}.txt || exit 1; done
	cd bench/peers/with_bullmq && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

.PHONY: clean
clean: ## remove .venv, build/ and caches; drop/ and var/ are kept
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
