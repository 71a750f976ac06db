# Everything a developer runs. `make help` lists the targets; each sets up .venv first where it must.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
DEMO_OUT ?= demo-output
PYTEST_ARGS ?=
FUZZ_CASES ?= 10000

# napari draws with OpenGL, which Qt's offscreen platform lacks: with no screen, a virtual X server
# stands in.
ifeq ($(shell uname -s)$(DISPLAY)$(WAYLAND_DISPLAY),Linux)
HEADLESS := yes
ON_SCREEN := xvfb-run -a -s "-screen 0 1920x1200x24"
endif

# Files of tests run side by side, one for each core; make test PYTEST_ARGS="-n 0" runs them in turn,
# and PYTEST_ARGS="-p no:xdist" without the plugin.
IN_PARALLEL := $(if $(findstring no:xdist,$(PYTEST_ARGS)),,-n auto --maxprocesses 8 --dist worksteal)

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup screen demo test test-versions fuzz lint format types manifest docs wheel-smoke bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the pinned dependencies and this project, editable

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is not Python 3.11 or newer; name one that is: make setup PYTHON=python3.12" >&2; \
	  exit 1; }
	scripts/install_system_libraries.sh $(PYTHON)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[all,graphcut,test,docs,dev]'
	@touch $@

screen:
ifdef HEADLESS
	@command -v xvfb-run >/dev/null || { \
	  echo "error: no screen (DISPLAY is not set) and no xvfb-run; on Debian or Ubuntu: sudo apt-get install xvfb xauth" >&2; \
	  exit 1; }
endif

demo: $(STAMP) screen ## Explore the MNI152 brain; with no screen, write pictures to demo-output
ifdef HEADLESS
	$(ON_SCREEN) $(BIN)/structseg demo --headless --out $(DEMO_OUT)
else
	$(BIN)/structseg demo
endif

test: $(STAMP) screen ## Run the tests; some of them: make test PYTEST_ARGS="-k geometry"
	$(ON_SCREEN) $(BIN)/python -m pytest $(IN_PARALLEL) $(PYTEST_ARGS)

test-versions: $(STAMP) screen ## The tests with the lowest versions declared and with the newest; takes long
	$(BIN)/python scripts/check_versions.py lowest
	$(BIN)/python scripts/check_versions.py newest

fuzz: $(STAMP) ## Attack every reader with damaged input: make fuzz FUZZ_CASES=10000
	$(BIN)/python -m tests.fuzz --cases $(FUZZ_CASES)

lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP) ## Apply the formatting and the safe style fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP) ## Check the types
	$(BIN)/mypy

manifest: $(STAMP) ## Check the napari manifest
	$(BIN)/npe2 validate napari-structseg

# Deprecations of napari and npe2 are not faults of a page. Not --quiet: it would hide from --strict
# what --strict counts.
docs: $(STAMP) ## Build the documentation site in site/; a dead link within it fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -W ignore::DeprecationWarning -m mkdocs build --strict

wheel-smoke: $(STAMP) ## Build the wheel and try it in a clean environment
	$(BIN)/python scripts/smoke_wheel.py

bench: $(STAMP) screen ## Time the sliders; writes bench-explore.json
	$(ON_SCREEN) $(BIN)/structseg bench explore --json bench-explore.json
