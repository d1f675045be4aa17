# make demo         the main job: the whole procedure on real traffic, and what it measured
# make test         lint and the whole suite
# make test-fresh   both of them in a bare Debian 12 root file system (needs root; debootstrap)
# make simulate     random operations on both ends and a network on a virtual clock: N=10000 seeds, or SEED=17 again
# make fuzz         libFuzzer with ASan and UBSan on the engine's parsers: T=60 seconds a target
# make test-report  the report's page in headless Chromium: RUN=DIR looks at one of yours, too, PICTURES=DIR keeps what was seen
# make tsan         the I/O threads beside calls of others under ThreadSanitizer
# Each installs what is missing first (lab/provision.sh).
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
PACKAGES := fiveg native mpquic node control upf ue lab

.PHONY: demo test lint bench clean setup native test-fresh soak canaries conformance simulate fuzz tsan test-report

demo: setup
	$(VENV)/bin/mpq run demo

test: setup lint
	tests/suite.sh $(PY)

setup:
	@lab/provision.sh --quiet

native: setup
	@flock $(VENV)/native.lock $(PY) setup.py -q build_ext --inplace

lint: setup
	$(VENV)/bin/ruff check --no-cache .
	$(VENV)/bin/mypy $(foreach p,$(PACKAGES),-p $(p))
	$(VENV)/bin/lint-imports --no-logo 2>/dev/null || $(VENV)/bin/lint-imports
	gcc -fsyntax-only -std=c11 -D_GNU_SOURCE -O2 -pthread -Wall -Wextra -Wshadow -Wvla -Werror -iquote native/src native/src/*.c
	@if command -v vagrant >/dev/null; then VAGRANT_CHECKPOINT_DISABLE=1 vagrant validate --ignore-provider; fi

bench: setup
	$(VENV)/bin/mpq bench

# Each rule of docs/rules.toml: its test must fail once its protection is removed. IDS="MP-27 Q-1* ..." for a few of them.
canaries: setup
	$(PY) tests/rules/rule_canaries.py $(foreach i,$(IDS),'$(i)')

# docs/conformance.md from docs/rules.toml.
conformance: setup
	$(PY) tests/rules/rule_page.py

# A seed that fails is printed with the command that runs it again.
N ?= 10000
simulate: setup
	$(PY) tests/simulation/simulate.py $(if $(SEED),--seed $(SEED),-n $(N))

# Corpora: tests/fuzz/corpus; what is new is kept in build/fuzz/found, `make -C tests/fuzz minimize` takes the useful part over.
T ?= 60
fuzz:
	@lab/provision.sh --quiet --dev
	$(MAKE) -C tests/fuzz fuzz CC=clang BUILD=$(CURDIR)/build/fuzz T=$(T)

tsan:
	$(MAKE) -C tests/fuzz tsan CC=gcc SAN=thread BUILD=$(CURDIR)/build/tsan

# What takes longer than `make test` may.
soak: setup
	MPQ_SOAK=1 $(PY) -m pytest tests/soak

# Apart from `make test`: a fresh machine has no browser.
test-report:
	@lab/provision.sh --quiet --browser
	MPQ_BROWSER=1 $(PY) -m pytest tests/browser

test-fresh:
	lab/fresh.sh .fresh . -- bash lab/fresh_check.sh

clean:
	rm -rf build dist *.egg-info native/_engine.c native/*.so native/_engine.o .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
