# Every target sets the environment up first; a finished set-up costs nothing to repeat.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
VENV := $(CURDIR)/.venv
# .venv/bin in front of the PATH for ninja and ray; the rest keeps libraries from looking for a network
RUN := PATH="$(VENV)/bin:$$PATH" HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
TESTS ?= tests
SEEDS ?= 1-100

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench chaos chaos-drivers

help:
	@echo "make demo   the whole loop on this machine, results in runs/demo"
	@echo "make test   all tests (those that need a GPU are left out)"
	@echo "make check  formatting, lint, types, locks"
	@echo "make bench  every script in benchmarks/"
	@echo "make chaos  RL broken by three faults a seed (SEEDS=a-b, 1-100); chaos-drivers: drivers killed, an hour"
	@echo "make setup  only the environment (.venv); the others do it by themselves"

setup:
	@$(PYTHON) requirements/install.py

demo: setup
	@$(RUN) residency demo --run runs/demo

test: setup
	@$(RUN) RAY_AUTH_MODE=disabled python -m pytest $(TESTS)

check: setup
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) pyright
	@$(RUN) python requirements/check_lock.py cpu
	@$(RUN) python requirements/check_lock.py gpu

bench: setup
	@status=0; for script in $$(grep -l __main__ benchmarks/*.py); do \
		echo "== $$script"; $(RUN) python "$$script" || status=1; \
	done; exit $$status

chaos: setup
	@$(RUN) python tests/chaos/rl_chaos.py --seeds $(SEEDS)

chaos-drivers: setup
	@$(RUN) python tests/chaos/driver_kills.py
	@$(RUN) python tests/chaos/recipe_kills.py
