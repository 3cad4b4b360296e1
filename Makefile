# The Gaussian CRF network in Caffe. `make help` lists the targets.
# Everything that is made lies under build/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory

GPU ?= 0
ifeq ($(GPU),1)
  BUILD := build/gpu
  CPU_ONLY := OFF
else
  BUILD := build/cpu
  CPU_ONLY := ON
endif
VENV := build/venv
PYTHON := $(VENV)/bin/python
PREFIX ?= /usr/local
export CAFFE_SRC ?=

# Any checkout of the project finds what any other has compiled.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

CMAKE_FLAGS = -G Ninja -Wno-dev -Wno-deprecated \
  -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
  -DCPU_ONLY=$(CPU_ONLY) -DUSE_LEVELDB=OFF -DUSE_OPENMP=ON \
  -DBLAS=Open -DOpenBLAS_LIB=/usr/lib/$(MULTIARCH)/openblas-openmp/libopenblas.so \
  -DOpenBLAS_INCLUDE_DIR=/usr/include/$(MULTIARCH)/openblas-openmp \
  -Dpython_version=3 -DPYTHON_EXECUTABLE=$(CURDIR)/$(PYTHON) \
  -DBUILD_docs=OFF -DBUILD_matlab=OFF \
  -DEXTRA_LAYERS_DIR=$(CURDIR)/caffe_layers
MULTIARCH = $(shell dpkg-architecture -qDEB_HOST_MULTIARCH)

# $(call say,...): the one line that a failed step ends with.
say = { echo "make: $(1)" >&2; exit 1; }

.PHONY: all packages compiler source venv configure
.PHONY: test test-fast lint format check install clean help

all: configure  ## build Caffe with the layers, and a Python environment
	@ninja -C $(BUILD) all || $(call say,the build failed; the reason is above$(if \
	  $(shell df --output=avail -BM . | sed -n '2s/^ *[0-9]\{1,2\}M/full/p'),: the disk is full))

packages:
	@caffe_fork/install-packages.sh

compiler: packages
	@command -v $${CXX:-g++} >/dev/null || \
	  $(call say,no C++ compiler: $${CXX:-g++} is not on PATH)

source: packages
	@mkdir -p build && caffe_fork/fetch.sh build/source

# The stamp is written last, and names the place, as an environment cannot move.
venv: packages
	@stamp="$(CURDIR) $$(sha256sum <requirements.txt)"; \
	[ "$$(cat $(VENV)/.made-from 2>/dev/null)" = "$$stamp" ] || { \
	  echo "Making the Python environment $(VENV)"; \
	  rm -rf $(VENV); \
	  /usr/bin/python3 -m venv $(VENV) && \
	  $(PYTHON) -m pip install -q --no-deps -r requirements.txt || \
	    $(call say,cannot make the Python environment $(VENV); the reason is above); \
	  echo "$$stamp" >$(VENV)/.made-from; }

configure: compiler source venv
	@stamp='$(CMAKE_FLAGS)'; \
	[ "$$(cat $(BUILD)/.made-from 2>/dev/null)" = "$$stamp" ] || { \
	  rm -rf $(BUILD); mkdir -p $(BUILD); \
	  cmake -S build/source -B $(BUILD) $(CMAKE_FLAGS) >$(BUILD)/cmake.log || \
	    $(call say,cmake failed; see $(BUILD)/cmake.log); \
	  echo "$$stamp" >$(BUILD)/.made-from; }

test: all  ## all tests; ends with "N passed, N failed, N skipped"
	@ninja -C $(BUILD) gcrf.testbin test.testbin
	@$(PYTHON) tests/run_tests.py --build $(BUILD)

test-fast: all  ## our own tests without the slow ones, under a minute
	@ninja -C $(BUILD) gcrf.testbin
	@$(PYTHON) tests/run_tests.py --build $(BUILD) --fast

CXX_FILES = $(wildcard caffe_layers/*.hpp caffe_layers/*.cpp caffe_layers/*.cu)

lint: venv  ## formatters and linters, changing nothing
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(if $(CXX_FILES),$(VENV)/bin/clang-format --dry-run --Werror $(CXX_FILES))
	@$(if $(CXX_FILES),$(VENV)/bin/cpplint --quiet $(CXX_FILES))

format: venv  ## format all sources
	@$(VENV)/bin/ruff format
	@$(VENV)/bin/ruff check --fix
	@$(if $(CXX_FILES),$(VENV)/bin/clang-format -i $(CXX_FILES))

clean:  ## remove build/
	rm -rf build

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1|\2/p' Makefile | column -t -s '|'
