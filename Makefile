# Every target makes .venv and installs what it needs there, from requirements/dev.lock alone.
PYTHON ?= python3
VENV_PYTHON = .venv/bin/python

.PHONY: help demo test check bench soak interop-full fuzz fresh-check coverage lock clean

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 20

demo: ## two processes, a recorded connection between them, and what was proven
	@$(PYTHON) -m tools.bootstrap run
	@.venv/bin/securesock demo

test: ## every suite; as root on Debian installs the packages of system-packages.txt first. SUITES="unit pair" picks
	@$(PYTHON) -m tools.bootstrap dev
	@$(VENV_PYTHON) -m tools.run_suites $(SUITES)

check: ## style, types, import directions, house rules, documents, and the built package. CHECKS="ruff mypy" picks
	@$(PYTHON) -m tools.bootstrap dev
	@$(VENV_PYTHON) -m tools.run_checks $(CHECKS)

bench: ## speed and memory beside ssl, plain sockets and (root) other IPsec; writes benchmarks/results.json. CASES="bulk" picks
	@$(PYTHON) -m tools.bootstrap dev
	@$(VENV_PYTHON) -m benchmarks $(CASES)

soak: ## many connections and much data against one process: nothing grows, nothing is lost
	@$(PYTHON) -m tools.bootstrap dev
	@SECURESOCK_SOAK=full $(VENV_PYTHON) -m pytest tests/soak

interop-full: ## other people's implementations, all features with all instead of pairwise; as root on Debian
	@$(PYTHON) -m tools.bootstrap dev
	@$(VENV_PYTHON) -c "from tools import system_packages; system_packages.install_missing()"
	@INTEROP_FULL=1 $(VENV_PYTHON) -m pytest -rs tests/interop tests/kernel

fuzz: ## every parser against what the fuzzer thinks of, for SECONDS in all (3600). TARGETS="ikev2_message" picks
	@$(PYTHON) -m tools.bootstrap dev
	@$(VENV_PYTHON) -m fuzz.run --seconds $(or $(SECONDS),3600) $(TARGETS)

fresh-check: ## a clone in a minimal Debian of its own: make demo as root and as nobody (root only)
	@$(PYTHON) -m tools.fresh_check

coverage: ## which lines and branches the suites without processes reach
	@$(PYTHON) -m tools.bootstrap dev
	@.venv/bin/coverage run -m pytest -q tests/unit tests/vectors tests/pair tests/property
	@.venv/bin/coverage report --skip-covered --show-missing

lock: ## write requirements/dev.lock anew from pyproject.toml and requirements/dev.in
	@$(PYTHON) -m tools.bootstrap dev
	@CUSTOM_COMPILE_COMMAND="make lock" $(VENV_PYTHON) -m piptools compile --quiet --upgrade \
		--generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--extra eap --output-file requirements/dev.lock pyproject.toml requirements/dev.in

clean: ## remove what the targets made, .venv too
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
