# make demo | test | bench | lint | format | stubs | wheel | docs | clean
#
# Needs Python 3.10 or later and a C++17 compiler. Everything else goes into .venv. Variables:
#   PYTHON=...      the interpreter .venv is made with
#   CXX=...         the compiler
#   PYTEST_ARGS=... more arguments for pytest, e.g. PYTEST_ARGS='-k conv2d -x'
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
# pip's CMake and Ninja are found where the machine has none of its own.
export PATH := $(PATH):$(abspath $(BIN))
# pip's notices are about machines, not about this project.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
BUILD := build/py
# Where there is a CUDA compiler: this machine's GPU, or any one architecture, to see that it compiles. A wheel has all.
gpu := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
build: export CUDAARCHS ?= $(or $(gpu),90)

CXX_FILES := $(shell git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh' 'cuda/*.h' 2>/dev/null)
SOURCES := CMakeLists.txt pyproject.toml \
           $(shell find cpp cuda python/bindings tests/cpp -type f ! -name '*.md' ! -name '*~' 2>/dev/null)

.PHONY: help demo test test-cpp test-python build bench lint format stubs wheel docs clean

help:
	@sed -n '1,7s/^# \{0,1\}//p' Makefile

$(VENV)/.bootstrapped: tools/bootstrap.sh
	@sh tools/bootstrap.sh $(VENV)
	@touch $@

# One build makes the extension module and the C++ tests.
$(VENV)/.built: $(VENV)/.bootstrapped $(SOURCES)
	@echo "Building convec (minutes at first, seconds later)"
	@$(PIP) install --no-build-isolation -Cbuild-dir=$(BUILD) -Ccmake.define.CONVEC_BUILD_TESTS=ON -e .
	@touch $@

build: $(VENV)/.built

demo: build
	@$(BIN)/convec demo

test: test-cpp test-python

test-cpp: build
	@ctest --test-dir $(BUILD) --output-on-failure --timeout 300 --parallel 2

test-python: build
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: build
	@$(BIN)/python benchmarks/run.py --quick

$(VENV)/.linters: $(VENV)/.bootstrapped pyproject.toml
	@$(PIP) install $$($(BIN)/python tools/extra.py lint)
	@touch $@

lint: build $(VENV)/.linters
	@BIN=$(BIN) bash tools/lint.sh

format: $(VENV)/.linters
	@$(BIN)/clang-format -i $(CXX_FILES)
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

stubs: build $(VENV)/.linters
	@$(BIN)/python tools/make_stubs.py

wheel: $(VENV)/.bootstrapped
	@$(PIP) install build
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .
	@ls -l dist

# The reference of the Python package; the guides are the Markdown files in docs/.
docs: build
	@$(PIP) install $$($(BIN)/python tools/extra.py docs)
	@$(BIN)/pdoc --docformat google --output-directory build/docs convec
	@echo "build/docs/index.html"

clean:
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
