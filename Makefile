# Makes its own virtual environment, then trains or tests in it. `make` alone says what there is.

EXPERIMENT = inverted_double_pendulum
WORKDIR = runs/$(EXPERIMENT)
ARGS =
TESTS =
MARKED = extra
VENV = .venv
PYTHON ?=
# JAX's libraries for the accelerator: those for the CUDA that the driver speaks, if there is one.
EXTRAS = $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA[A-Za-z ]*Version: *\(1[23]\)\..*/cuda\1/p' | head -n 1)

RUN = $(VENV)/bin/python
# Files of tests go to whichever process is free; each compiles its own, on a core of its own.
PYTEST = $(RUN) -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile
INSTALL = $(RUN) -m pip --disable-pip-version-check -qq install --constraint constraints.txt --editable

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow test-learning test-extra lint docs clean

help:
	@echo 'make train    train $(EXPERIMENT) into $(WORKDIR); once more: go on where it stopped'
	@echo '                EXPERIMENT=ant  WORKDIR=runs/x  ARGS="--config.seed=3 --config.total_env_steps=200000"'
	@echo 'make test     run the tests;  TESTS=tests/functional  ARGS="-k gae"'
	@echo '     test-slow        those that take long: several processes, devices and sweeps, the code of the guides'
	@echo '     test-learning    those that train for long to a known answer'
	@echo '     test-extra       those that need an extra, which make setup installs;  MARKED="torch or wandb"'
	@echo 'make lint     check the style'
	@echo 'make docs     build the documentation into site/'
	@echo 'make setup    install into $(VENV);  PYTHON=python3.12  EXTRAS=cuda12, cuda13, tpu, torch, wandb, or a suite of environments'
	@echo 'make clean    delete the virtual environments and what was built or cached; runs/ stays'

train: $(VENV)/installed
	@$(RUN) -m jaxrl.train --config=experiments/$(EXPERIMENT).py --workdir=$(WORKDIR) $(ARGS)

test: $(VENV)/installed-test
	@$(PYTEST) -m 'not extra and not slow' $(TESTS) $(ARGS)

test-slow: $(VENV)/installed-test
	@$(PYTEST) -m 'slow and not extra and not learning' $(TESTS) $(ARGS)

test-learning: $(VENV)/installed-test
	@$(PYTEST) -m 'learning and not extra' $(TESTS) $(ARGS)

test-extra: $(VENV)/installed-test
	@$(PYTEST) -m '$(MARKED)' $(TESTS) $(ARGS)

lint: $(VENV)/installed-test
	@$(RUN) -m ruff check .

docs: $(VENV)/installed-docs
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet
	@echo 'site/index.html'

setup: $(VENV)/made
	@$(install)
	@touch $(VENV)/installed

clean:
	rm -rf .venv .venv-* build site dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

define install
echo 'installing jaxrl$(EXTRAS:%= with %) into $(VENV); the first time this takes minutes ...'
$(INSTALL) '.$(EXTRAS:%=[%])'
endef

# Each stamp is touched last, so that a step cut short is done again.
$(VENV)/installed: setup.cfg pyproject.toml constraints.txt | $(VENV)/made
	@$(install)
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo 'installing what the tests need ...'
	@$(INSTALL) '.[test]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	@echo 'installing what the documentation needs ...'
	@$(INSTALL) '.[docs]'
	@touch $@

# The first Python that runs, is new enough and can make virtual environments: a name on the PATH may be a shim with
# nothing behind it. One that constraints.txt was tried on is taken before a newer one.
$(VENV)/made:
	@for below in 3,14 4,0; do \
	  for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14); do \
	    if "$$python" -c "import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < ($$below))" \
	        >/dev/null 2>&1; then \
	      echo "making $(VENV) with $$("$$python" --version)"; \
	      "$$python" -m venv --clear $(VENV) && touch $@; \
	      exit; \
	    fi; \
	  done; \
	done; \
	echo 'error: no Python >= 3.11 with venv$(PYTHON:%= at %); install one, or name it: make PYTHON=...' >&2; \
	exit 1
