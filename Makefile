# `make compare` runs the main job, `make test` the tests. Every target sets up first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
# Tests run in as many processes as there are cores, up to four, each with one thread of torch.
PYTEST = $(BIN)/python -m pytest
PARALLEL = -n logical --maxprocesses 4 --dist worksteal

.PHONY: compare test test-fast test-all lint types docs

compare: $(READY)
	$(BIN)/embedkit compare first_look_en
	@printf '\nThe same model on Korean, a language that it was not trained on:\n\n'
	$(BIN)/embedkit evaluate first_look_ko
	@printf '\nThe lesson: no pooling helps a model that does not read the language of your texts.\n'

# Everything but the tests that take minutes: under 5 minutes on two cores.
test: $(READY)
	$(PYTEST) $(PARALLEL)

# The unit tests of the Python API that take a moment: under a minute. What is ignored would be
# imported, which takes seconds: commands, trainings, and what is inside other libraries.
FAST = not (slow or browser or process or thorough or command)
test-fast: $(READY)
	$(PYTEST) $(PARALLEL) -m "$(FAST)" tests/unit \
		$(addprefix --ignore tests/unit/,cli training integrations)

# What `make test` leaves out, and the browser, which not every machine has: BROWSER=no where there
# is none. Fails where a test is skipped because something is not installed.
BROWSER ?= yes
test-all: $(READY)
	$(BIN)/python -m pip check
	$(PYTEST) $(PARALLEL) --all-installed -m "slow$(if $(filter no,$(BROWSER)),, or browser)"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python docs/architecture.py --check
	! git grep -nE '^(<{7}|>{7}) '  # what a merge leaves

types: $(READY)
	$(BIN)/mypy

# The documentation, in build/site; a warning of mkdocs is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev,docs]"
	touch $(READY)
