# make demo: trains and evaluates offline on shipped features, and opens the report.
# make test: every check and test. Both make .venv first; nothing else is needed but Python and git.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check browser clean

demo: $(STAMP)
	$(BIN)/ser demo --out demo --open-page

test: check browser
	$(BIN)/python -m pytest

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
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# a test oracle whose network alone is used: what else it requires is heavy and not needed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps funasr
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo
