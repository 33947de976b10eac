# p2pcap: `make demo` and `make test` need Python 3.11, make and a C compiler, and set everything else up themselves.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
LOCK := requirements/cpu-py311.txt
UV := uv==0.13.9
STAMP := $(VENV)/.installed

.PHONY: help install demo test check fast bench soak docs screenshots lock clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

install: $(STAMP)  ## the virtual environment with everything for a machine without a GPU

# The lock is complete, so nothing is resolved: what runs here is what was tested. uv fetches side by side what pip
# fetches one by one; it takes the machine's find-links and index from pip's variables, and pip steps in where it fails.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

$(STAMP): $(LOCK) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "This needs Python 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet $(UV)
	$(PY) -m uv pip install --quiet --no-deps --compile-bytecode --python $(PY) -r $(LOCK) || \
	  $(PY) -m pip install --quiet --no-deps -r $(LOCK) || \
	  { echo "If torch was not found: docs/volunteer.md names PyTorch's public CPU builds."; exit 1; }
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Through the environment, untouched: a path may hold spaces, quotes and dollars, which neither make nor sh may read.
unexport IMAGES MODEL
demo: export P2PCAP_DEMO_IMAGES = $(value IMAGES)
demo: export P2PCAP_DEMO_MODEL = $(value MODEL)
demo: install  ## a whole swarm on this machine: make demo [IMAGES=DIR] [MODEL=NAME_OR_PATH]
	$(PY) -m demo

# Two files of tests at a time: much of the suite waits, for engines to load and for peers to come and go.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

# The tests' databases flush thousands of commits, which takes half of the suite's time on a disk: where /dev/shm has
# 8 GB free they lie in memory. None of them has to outlive a power cut.
SCRATCH := $(shell test "$$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 8000000 2>/dev/null && echo /dev/shm)
ifneq ($(SCRATCH),)
test fast check: export TMPDIR := $(SCRATCH)
endif

test: install  ## the whole suite, real vLLM included
	$(PY) -m pytest -q $(TWO)

fast: install  ## the tests that start no engine
	$(PY) -m pytest -q $(TWO) -m "not slow"

# trio_typing, which libp2p needs, brings stubs of an old trio that hide trio's own types from mypy.
check: install  ## format, lint, types, import rules, generated docs, fast tests
	rm -rf $(VENV)/lib/python3.11/site-packages/trio-stubs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m p2pcap.cli.reference --check
	$(PY) -m pytest -q $(TWO) -m "not slow"

bench: install  ## every benchmark, as JSON lines
	$(PY) -m benchmarks run all --json

soak: install  ## 20 kills of a real engine, 10,000 simulated swarms, 10 million inputs to every decoder, a sleeper: hours
	$(PY) -m tests.e2e.kill_engine --kills 20
	$(PY) -m tests.simulation --seeds 10000
	$(PY) -m tests.simulation.fuzz --inputs 10000000
	P2PCAP_AUDIT_IMAGES=3200 P2PCAP_AUDIT_GOOD=1000 P2PCAP_AUDIT_SECONDS=3600 P2PCAP_TEST_PATIENCE=1800 \
	  $(PY) -m pytest -q tests/e2e/test_audit.py

docs: install  ## write the generated documentation
	$(PY) -m p2pcap.cli.reference
	$(PY) -m p2pcap_tui.keys

screenshots: install  ## draw the pictures of the terminal UI, and the texts that its tests compare
	$(PY) -m tests.tui.screens

lock: install requirements/overrides.txt  ## write the lock file anew
	$(PY) -m uv pip compile pyproject.toml --extra cpu --extra dev --python-version 3.11 --no-header \
	  --python-platform x86_64-manylinux_2_28 --overrides requirements/overrides.txt -o $(LOCK)

clean:  ## remove the environment and what the demo left
	rm -rf $(VENV) demo-output
