# The commands for newcomers and developers; `make` alone lists them.
# Needs GNU make and Python 3.11 or newer. The rest is installed into $(VENV) from the lock files.

.DEFAULT_GOAL := help

# The folder of the environment.
VENV ?= .venv
# The Python of a new environment: the one that PYTHON names, else the first suitable one of these.
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
# Further arguments for gateway, pytest or uv.
ARGS ?=
# How many tests run at once.
WORKERS ?= 4

BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest --numprocesses=$(WORKERS)
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
SOURCES := gateway tests docs

# Exits 1 and prints why a Python is unsuitable. Debian ships venv without ensurepip.
define PROBE
import sys
missing = []
for name in ("venv", "ensurepip", "ssl", "sqlite3"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
if sys.version_info < (3, 11):
    sys.stdout.write("is %d.%d.%d" % sys.version_info[:3])
    sys.exit(1)
if missing:
    sys.stdout.write("has no " + " and no ".join(missing))
    sys.exit(1)
endef
export PROBE

.PHONY: help setup run test test-all soak mutants check docs servers bench screenshots format lock clean

help: ## show this list
	@awk -F ': .*## ' '/^[a-z-]+: .*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo 'Settings: ARGS="..." further arguments for run, test, check, bench and lock,'
	@echo '          PYTHON=... the Python of a new environment, VENV=... its folder (.venv),'
	@echo '          WORKERS=... how many tests run at once (4).'

setup: $(VENV)/.installed ## install everything for development into .venv
	@:

run: $(VENV)/.runtime ## start the gateway on port 8080, with a demo team and key
	@exec $(BIN)/gateway serve --demo $(ARGS)

test: setup servers ## run the tests that take minutes
	@$(PYTEST) $(ARGS)

test-all: setup servers ## run all tests, with the long ones and with twenty repeats
	@$(PYTEST) --repeats=20 -m "not soak" $(ARGS)

soak: setup servers ## repeat two hundred times what fails by chance (an hour or more)
	@$(PYTEST) --repeats=200 --timeout=7200 -m "soak or repeated" $(ARGS)

# Each worker takes a mutant. What came out stays in mutants/: a further run does only the rest.
mutants: setup ## make small faults in the code that decides about money; the tests must find them
	@nice $(BIN)/python -m mutmut run --max-children=$(WORKERS) $(ARGS)

SITE = $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going \
	--builder html --doctree-dir build/doctrees docs build/docs

docs: setup ## build the documentation's site in build/docs; a dead link fails
	@$(SITE)
	@echo "Built: build/docs/index.html"

# Everything runs, also after a failure; pytest's closing line comes last.
check: setup servers ## check formatting, lint, types and documentation, and run the tests
	@failed=; \
	$(BIN)/ruff format --check $(SOURCES) || failed="$$failed formatting,"; \
	$(BIN)/ruff check $(SOURCES) || failed="$$failed lint,"; \
	$(BIN)/mypy || failed="$$failed types,"; \
	$(SITE) || failed="$$failed documentation,"; \
	[ -z "$$failed" ] || echo "Failed before the tests:$${failed%,}."; \
	$(PYTEST) $(ARGS) && [ -z "$$failed" ]

# Programs that tests start. A missing one is installed from Debian's packages where that is
# allowed. Its service is stopped: Prometheus' own would take the admin port.
SERVERS := redis-server chromium nginx haproxy prometheus faketime
servers:
	@list_missing() { for name in $(SERVERS); do command -v $$name >/dev/null || echo $$name; done; }; \
	missing=$$(list_missing); \
	[ -n "$$missing" ] || exit 0; \
	sudo=$$([ "$$(id -u)" = 0 ] || echo "sudo -n"); \
	if command -v apt-get >/dev/null; then \
	    echo "Installing" $$missing; \
	    $$sudo apt-get update >/dev/null 2>&1; \
	    for name in $$missing; do \
	        $$sudo env DEBIAN_FRONTEND=noninteractive \
	            apt-get install --yes --no-install-recommends $$name >/dev/null 2>&1; \
	        $$sudo systemctl disable --now $$name >/dev/null 2>&1 || :; \
	    done; \
	fi; \
	for name in $$(list_missing); do \
	    echo "Missing: $$name. It could not be installed; tests that need it fail." >&2; \
	done

# Takes ten minutes. Ask for less with ARGS=--quick, or ARGS='--only "hit small"'.
bench: setup ## measure speed beside a bare server, and hostile clients (ARGS=--quick for a minute of it)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

screenshots: setup servers ## take the README's pictures of the dashboard
	@$(BIN)/python -m tests.dashboard.screenshots

format: setup ## format the code
	@$(BIN)/ruff check --quiet --select I --fix --exit-zero $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

COMPILE = $(BIN)/uv --quiet --no-config pip compile pyproject.toml \
	--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--annotation-style line --custom-compile-command "make lock" $(ARGS)

lock: setup ## lock the dependencies of pyproject.toml (ARGS=--upgrade for the newest of everything)
	@$(PIP) install uv
	@$(COMPILE) --output-file requirements.lock
	@$(COMPILE) --extra otel --constraint requirements.lock --output-file requirements-otel.lock
	@$(COMPILE) --extra s3 --constraint requirements.lock --output-file requirements-s3.lock
	@$(COMPILE) --group dev --constraint requirements.lock --output-file requirements-dev.lock

clean: ## remove the environment and everything that was built; data/ stays
	@rm -rf $(VENV) .venv-ci build dist mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

# Scripts in an environment hold its path, so one that was moved is made again, as is one that is
# incomplete or whose Python is gone. The last line of pyvenv.cfg names the path.
USABLE := $(shell $(BIN)/python -c 'import os, pip; print(open("$(VENV)/pyvenv.cfg").read() \
	.rstrip().endswith(os.path.abspath("$(VENV)")))' 2>/dev/null)
ifneq ($(USABLE),True)
.PHONY: $(VENV)/pyvenv.cfg
endif

$(VENV)/pyvenv.cfg:
	@faults=; \
	for python in $(PYTHONS); do \
	    fault=$$("$$python" -c "$$PROBE" 2>/dev/null) && break; \
	    [ -z "$$fault" ] || faults="$$faults, $$python $$fault"; \
	    python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "Python 3.11 or newer with venv, ensurepip, ssl and sqlite3 is needed:" \
	        "$${faults:-, found none of $(PYTHONS)}." | sed 's/: , /: /' >&2; \
	    exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" -V): takes about 3 seconds."; \
	"$$python" -m venv --clear "$(VENV)"

# flit-core builds the project; the development lock pins it, and it has no dependencies.
$(VENV)/.runtime: $(VENV)/pyvenv.cfg requirements.lock pyproject.toml
	@echo "Installing the gateway's packages into $(VENV) (80 MB): takes about 10 seconds."
	@sed -n '/^flit-core==/,/[^\]$$/p' requirements-dev.lock >$(VENV)/build.lock
	@$(PIP) install --require-hashes --requirement requirements.lock --requirement $(VENV)/build.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed: $(VENV)/.runtime requirements-dev.lock
	@echo "Installing the tools for development into $(VENV) (600 MB): takes about a minute."
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@
