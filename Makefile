# hg3: demonstration and tests. Each target makes .venv on its own, from Python 3.11 or later, a C++
# compiler and make; a second call installs nothing.
#
# Variables, on the command line or in the environment:
#   PYTHON       the Python that .venv is made with (python3)
#   TORCH_INDEX  the package index that torch alone comes from, to choose its build:
#                  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu     no CUDA
#                  make demo TORCH_INDEX=https://download.pytorch.org/whl/cu130   CUDA 13.0
#                without it, pip's own index decides, which on Linux is mostly a CUDA build
#   HG3_BUILD    the torch extension: auto, cpu, cuda or none (see setup.py)
# .venv remembers the last two until they are given anew: giving another one installs again.

PYTHON ?= python3
TORCH := torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.hg3-installed
TORCH_RECORD := $(VENV)/.hg3-torch-index

stamp_says := $(shell cat $(STAMP) 2>/dev/null)
torch_was := $(shell cat $(TORCH_RECORD) 2>/dev/null)
torch_index := $(or $(strip $(TORCH_INDEX)),$(torch_was))
build := $(or $(strip $(HG3_BUILD)),$(firstword $(stamp_says)),auto)

# Installed with other settings, or for a tree in another place: install again.
ifneq ($(stamp_says)|$(torch_was),$(build) $(CURDIR)|$(torch_index))
stale := stale
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-all test-cluster gpu-check clean stale

help:
	@echo "make demo      train, generate and check a small release, in runs/demo"
	@echo "make test      ruff, mypy and the quick tests"
	@echo "make test-all  ruff, mypy and all tests"
	@echo "make test-cluster  accidents on a real SLURM of one node, as root on Debian"
	@echo "make gpu-check for whoever has a GPU: build, tests, sanitizers, benchmarks, in runs/gpu-check"
	@echo "make install   only the set-up that the others do on their own"
	@echo "make clean     remove .venv and whatever was built (not runs/)"
	@echo "Variables (PYTHON, TORCH_INDEX, HG3_BUILD) are explained at the top of the Makefile."

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/hg3 demo --out runs/demo

test: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -m "not slow and not cluster"

test-all: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -m "slow or not cluster"

# On a SLURM of one node that it brings up itself, for which it needs root and, the first time, Debian's packages.
test-cluster: $(STAMP)
	$(BIN)/python -m pytest -m "cluster and not slow" tests/cluster

# It builds the extension for CUDA itself, in place of what the set-up built.
gpu-check: $(STAMP)
	$(BIN)/python -m benchmarks.gpu_check --out runs/gpu-check

# The stamp goes first and comes back last, so a broken-off install is taken up again. torch is
# installed alone, before what depends on it, so that nothing can bring in a second one. It is pinned
# by constraints.txt from there on; an index for torch need not have those pins, so they are not asked
# of it. PATH has .venv/bin, where the extension's build finds ninja.
$(STAMP): pyproject.toml setup.py constraints.txt Makefile $(wildcard csrc/*) $(stale)
	@set -eu; rm -f $@; start=$$(date +%s); \
	if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "hg3 needs Python 3.11 or later, and $(PYTHON) is not: name one, as in make PYTHON=python3.11" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $(PYTHON)"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	fi; \
	if [ "$(torch_index)" != "$$(cat $(TORCH_RECORD) 2>/dev/null)" ]; then \
	  rm -f $(TORCH_RECORD); $(PIP) -q uninstall -y torch 2>/dev/null; \
	fi; \
	echo "installing $(TORCH)$(if $(torch_index), from $(torch_index))"; \
	$(PIP) install $(if $(torch_index),--index-url "$(torch_index)",-c constraints.txt) $(TORCH); \
	echo "$(torch_index)" > $(TORCH_RECORD); \
	echo "installing hg3 and the rest"; \
	$(PIP) -q install -c constraints.txt setuptools wheel ninja; \
	rm -f hg3/_C*.so; \
	PATH="$(CURDIR)/$(BIN):$$PATH" HG3_BUILD=$(build) \
	  $(PIP) -q install -c constraints.txt --no-build-isolation -e '.[dev,evaluation,private,tracking,cluster]'; \
	echo "$(build) $(CURDIR)" > $@; \
	echo "installed in $$(($$(date +%s) - start)) s, with torch" \
	  "$$($(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))')"

clean:
	rm -rf $(VENV) build dist *.egg-info hg3/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
