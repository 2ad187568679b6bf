# make demo: trains and evaluates offline on shipped features, and opens the report.
# make test: every check and test. Both make .venv first; nothing else is needed but Python and git.
# make docs: the pages of docs/ as a site, in bench/site.
# make bench EMODB=folder: the tables of docs/performance.md that need no features; takes a while.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

EMODB ?= EmoDB

.PHONY: demo test check browser bench docs clean

demo: $(STAMP)
	$(BIN)/ser demo --out demo --open-page

test: check browser
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# The page's tests need a browser; without one they are skipped, and say so.
browser:
	@if ! command -v chromedriver >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  { timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 \
	    apt-get install -y -qq --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 || true; fi

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is older than Python 3.11, which the pinned versions need: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# a test oracle whose network alone is used: what else it requires is heavy and not needed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps funasr
	touch $(STAMP)

# the site of docs/, in bench/site
docs: $(STAMP)
	$(BIN)/python -m mkdocs build --strict -d bench/site

bench: $(STAMP)
	mkdir -p bench
	$(BIN)/ser manifest emodb --root $(EMODB) --out bench/emodb.jsonl
	$(BIN)/python benchmarks/training.py one --batch-size 32
	$(BIN)/python benchmarks/training.py list --batch-size 32
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/extraction.py --manifest bench/emodb.jsonl --rows 1000000
	$(BIN)/python benchmarks/emotion2vec.py --audio $(EMODB)/wav
	$(BIN)/python benchmarks/latency.py --audio $(firstword $(wildcard $(EMODB)/wav/*))
	$(BIN)/python benchmarks/timeline.py --audio $(EMODB)/wav
	$(BIN)/python benchmarks/no_speech.py --speech $(EMODB)/wav
	$(BIN)/python benchmarks/serve.py

clean:
	rm -rf $(VENV) demo bench
