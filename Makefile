# The commands of everyday life; `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed
INSTALL := $(BIN)/python ops/bootstrap.py $(VENV)

# supervisorctl found a program that does not run, and has said so.
SOME_STOPPED := 3

PIN := --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --python-version 3.11

.DEFAULT_GOAL := help
.SUFFIXES:

.PHONY: help
help: ## This list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '  %-14s %s\n' $$target "$$text"; done

# --- Run it ---

.PHONY: run
run: $(RUNTIME) ## Start everything here (PORT=8000 SIMULATOR_PORT=8900 WORKERS=8 VAR_DIR=var)
	@$(BIN)/python -m ops.start

.PHONY: ctl
ctl: $(RUNTIME) ## Look at or control what runs: make ctl ARGS=status, ARGS="restart api"
	@$(BIN)/python -m ops.ctl $(ARGS) || test $$? -eq $(SOME_STOPPED)

.PHONY: demo
demo: $(RUNTIME) ## Play through the product against the running copy
	@$(BIN)/python -m demo

.PHONY: seed
seed: $(RUNTIME) ## Fill the tables with made-up data (sizes: make seed ARGS=--help)
	@$(BIN)/python seed.py $(ARGS)

.PHONY: migrate
migrate: $(RUNTIME) ## Bring the database to the newest revision
	@$(BIN)/python -m flask upgrade

.PHONY: env
env: ## Write .env with random secrets, if there is none (make run does it too)
	@$(PYTHON) -m ops.environment

# --- Work on it ---

.PHONY: test
test: $(DEVELOPMENT) ## Run the tests (choose: make test ARGS="-k callbacks")
	@$(BIN)/python -m pytest --ignore=tests/faults -n 2 --dist worksteal $(ARGS)

.PHONY: faults
faults: $(DEVELOPMENT) ## Run the tests that kill processes and servers under load
	@$(BIN)/python -m pytest tests/faults $(ARGS)

.PHONY: chaos-clicks
chaos-clicks: $(DEVELOPMENT) ## Send 60,000 clicks while everything is killed in turn
	@$(BIN)/python -m pytest tests/faults/test_clicks.py $(ARGS)

.PHONY: lint
lint: $(DEVELOPMENT) ## Check style, types and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: $(DEVELOPMENT) ## Put the code into its usual form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: prove
prove: $(DEVELOPMENT) ## Let hypothesis try thousands of histories of charges, messages, losses and crashes
	@HYPOTHESIS_PROFILE=prove $(BIN)/python -m pytest tests/billing/test_machine.py \
		tests/weather/messages/test_machine_messages.py $(ARGS)

.PHONY: bench
bench: $(DEVELOPMENT) ## Measure how fast it is
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: migration
migration: $(RUNTIME) ## Write a migration for what changed in the models: make migration m="add refunds"
	@test -n "$(m)" || { echo 'Say what changes: make migration m="add refunds"' >&2; exit 1; }
	@$(BIN)/python -m flask db migrate -m "$(m)" --rev-id "$$(ls migrations/versions | \
		sed -n 's/^\([0-9][0-9]*\)_.*\.py$$/\1/p' | sort -n | awk 'END { printf "%04d", $$1 + 1 }')"

.PHONY: requirements
requirements: $(DEVELOPMENT) ## Pin what the requirements*.in name, with hashes
	@$(BIN)/python -m pip -q --disable-pip-version-check --no-input install uv
	@$(BIN)/uv pip compile $(PIN) requirements-build.in -o requirements-build.txt
	@$(BIN)/uv pip compile $(PIN) requirements.in -o requirements.txt
	@$(BIN)/uv pip compile $(PIN) requirements-dev.in -o requirements-dev.txt
	@$(BIN)/uv pip compile $(PIN) benchmarks/peers/pypi/requirements.in \
		-o benchmarks/peers/pypi/requirements.txt

.PHONY: settings
settings: $(RUNTIME) ## Write .env.example and the tables in docs/operations.md from the settings
	@$(BIN)/python -m ops.settings

.PHONY: openapi
openapi: $(RUNTIME) ## Write docs/openapi.json
	@# Nothing is connected to; the settings only have to be there.
	@DATABASE_URL=postgresql://none/none REDIS_URL=redis://none ENV_FILE=/dev/null \
		$(BIN)/python -m flask openapi write docs/openapi.json

.PHONY: postman
postman: openapi ## Write docs/postman_collection.json
	@$(BIN)/python -m ops.postman docs/openapi.json > docs/postman_collection.json

.PHONY: clean
clean: ## Remove the virtual environment and what the tools left; data and .env stay
	@rm -rf $(VENV) .coverage htmlcov .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache \
		var/peers
	@find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

.PHONY: clean-data
clean-data: $(RUNTIME) ## Delete the embedded databases and logs, after asking
	@$(BIN)/python -m ops.clean $(ARGS)

# --- The virtual environment ---

# `make` alone may say python3; what it finds must be new enough, which bootstrap.py checks.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). Perennial needs Python 3.11 or newer; name it: make run PYTHON=..." >&2; exit 1; }
	@$(PYTHON) ops/bootstrap.py $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUNTIME): requirements-build.txt requirements.txt | $(BIN)/python
	@echo "Installing what requirements.txt names ..."
	@$(INSTALL) requirements-build.txt requirements.txt
	@touch $@

$(DEVELOPMENT): requirements-dev.txt $(RUNTIME)
	@echo "Installing what requirements-dev.txt names ..."
	@$(INSTALL) requirements-dev.txt
	@touch $@
