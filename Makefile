# The Gaussian CRF network in Caffe. `make help` lists the targets.
# Everything that is made goes under build/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory

ifneq ($(words $(CURDIR)),1)
  $(error "$(CURDIR)" has a space in it, which make cannot handle: move this folder)
endif

GPU ?= 0
# Code for sm_75, for sm_80 to 89, for sm_90, and PTX for later GPUs
CUDA_ARCH ?= 75-real 80-real 90
DNNL ?= 1
PREFIX ?=
VOC ?=
OPTIONS ?=
export CAFFE_SRC ?=

VENV := build/venv
LAYERS := $(CURDIR)/caffe_layers
CMAKE_FLAGS = -G Ninja -Wno-dev -Wno-deprecated \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_LIBDIR=lib \
  -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
  -DEXTRA_LAYERS_DIRS='$(LAYERS)' \
  -Dpython_version=3 -DPYTHON_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python \
  -DBLAS=Open -DUSE_OPENMP=ON -DUSE_LEVELDB=OFF \
  -DOpenBLAS_LIB=/usr/lib/$(MULTIARCH)/openblas-openmp/libopenblas.so \
  -DOpenBLAS_INCLUDE_DIR=/usr/include/$(MULTIARCH)/openblas-openmp
MULTIARCH = $(shell dpkg-architecture -qDEB_HOST_MULTIARCH)
ifeq ($(GPU),1)
  BUILD := build/gpu
  # nvcc of an own installation, of Debian's default place, or of PyPI's wheels
  WHEELS := $(wildcard $(CURDIR)/$(VENV)/lib/python3*/site-packages/nvidia/*/bin)
  PATH := $(PATH):/usr/local/cuda/bin$(patsubst %,:%,$(WHEELS))
  CMAKE_FLAGS += -DCPU_ONLY=OFF -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache \
    -DCMAKE_CUDA_ARCHITECTURES='$(subst $() ,;,$(CUDA_ARCH))'
else ifeq ($(DNNL),1)
  BUILD := build/cpu
  LAYERS := $(LAYERS);$(CURDIR)/caffe_fork/dnnl
  CMAKE_FLAGS += -DCPU_ONLY=ON -DUSE_DNNL=ON
else
  BUILD := build/cpu-without-dnnl
  CMAKE_FLAGS += -DCPU_ONLY=ON
endif

# Checkouts of the project share what they have compiled.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

# $(call stop,...): end a failed step with one line.
stop = { free=$$(df --output=avail -BM build | tail -n 1 | tr -dc 0-9); \
  if [ "$$free" -lt 50 ]; then echo "make: the disk is full: $$free MB left for build/"; \
  else echo "make: $(1)"; fi >&2; exit 1; }

# $(call pip-install,FOLDER,FILE): into the Python environment FOLDER. Each file
# also pins what its packages depend on, so pip has nothing to choose.
pip-install = $(1)/bin/pip install -q --disable-pip-version-check --no-deps -r $(2) || \
  $(call stop,cannot install the packages of $(2) in $(1); the reason is above)

# $(call make-venv,FOLDER): the stamp is written last, and contains the path,
# because an environment cannot be moved.
make-venv = stamp="$(1) $$(sha256sum <requirements.txt)"; \
  [ "$$(cat $(1)/.made-from 2>/dev/null)" = "$$stamp" ] || { \
    echo "Making the Python environment $(1)"; \
    rm -rf $(1) && /usr/bin/python3 -m venv $(1) || \
      $(call stop,cannot make the Python environment $(1); the reason is above); \
    $(call pip-install,$(1),requirements.txt); \
    echo "$$stamp" >$(1)/.made-from; }

# The trained model that comes with the project, joined into one file for caffe.
MODEL := $(wildcard models/voc_lite/*)
JOINED := build/models/voc_lite.caffemodel
join-model = stamp="$$(cat $(MODEL) tools/lib/gcrf/{shipped,efficientnet}.py | sha256sum)"; \
  [ -e $(JOINED) ] && [ "$$(cat build/models/.made-from 2>/dev/null)" = "$$stamp" ] || { \
    . ./env.sh && tools/package_model.py join models/voc_lite --output $(JOINED) || \
      $(call stop,cannot join the trained model; the reason is above); \
    echo "$$stamp" >build/models/.made-from; }

.PHONY: packages compiler source venv venv-dev configure
.PHONY: all demo voc-lite voc photographs figures test test-fast lint format check install clean help

# build/current is the build that was made last: env.sh uses it.
all: configure  ## build Caffe with the layers, and a Python environment
	@ninja -C $(BUILD) all || $(call stop,the build failed; the reason is above)
	@[ "$$(readlink build/current)" = $(notdir $(BUILD)) ] || { \
	  ln -sfn $(notdir $(BUILD)) build/current; \
	  echo "Built $(BUILD). For caffe, pycaffe and the tools, in each shell: . ./env.sh"; }
	@$(if $(MODEL),$(join-model))

packages:
	@mkdir -p build
	@caffe_fork/install-packages.sh

compiler: packages
	@command -v $${CXX:-g++} >/dev/null || \
	  $(call stop,no C++ compiler: $${CXX:-g++} is not on PATH)
ifeq ($(GPU),1)
	@command -v nvcc >/dev/null || \
	  $(call stop,no CUDA compiler: nvcc is neither on PATH nor in /usr/local/cuda/bin)
endif

source: packages
	@caffe_fork/fetch.sh build/source

venv: packages
	@$(call make-venv,$(CURDIR)/$(VENV))

# Adds the packages of tests and linters to the same environment.
venv-dev: venv
	@stamp="$$(sha256sum <requirements-dev.txt)"; \
	[ "$$(cat $(VENV)/.made-from-dev 2>/dev/null)" = "$$stamp" ] || { \
	  echo "Adding the packages of the tests and linters"; \
	  $(call pip-install,$(CURDIR)/$(VENV),requirements-dev.txt); \
	  echo "$$stamp" >$(VENV)/.made-from-dev; }

configure: compiler source venv
	@stamp="$(CMAKE_FLAGS)"; \
	[ "$$(cat $(BUILD)/.made-from 2>/dev/null)" = "$$stamp" ] || { \
	  rm -rf $(BUILD); mkdir -p $(BUILD); \
	  cmake -S build/source -B $(BUILD) $(CMAKE_FLAGS) >$(BUILD)/cmake.log || \
	    $(call stop,cmake failed; the reason is above and in $(BUILD)/cmake.log); \
	  echo "$$stamp" >$(BUILD)/.made-from; }

demo: all  ## train, compare with a dense CRF, and write demo/report.html
	@. ./env.sh && tools/demo.py --output demo

need-voc = [ "$(words $(VOC))" = 1 ] || \
  $(call stop,which photographs? make $@ VOC=FOLDER (one in VOC's layout))

voc-lite: all  ## VOC=FOLDER OPTIONS=...: the same on photographs, in runs/voc_lite; 40 minutes
	@$(need-voc)
	@. ./env.sh && tools/voc_lite.py --root $(VOC) --output runs/voc_lite $(OPTIONS)

voc: all  ## VOC=FOLDER OPTIONS=...: three longer runs, in runs/voc_*, and the tables of docs/voc.md
	@$(need-voc)
	@. ./env.sh && for seed in 1 2 3; do \
	  tools/voc_lite.py --root $(VOC) --output runs/voc_$$seed --full --seed $$seed $(OPTIONS) || exit; \
	done && tools/voc_table.py runs/voc_{1,2,3}

# From scikit-image, and free to show: a cat (CC0) and a person (NASA, public domain).
photographs: all  ## draw the README's photographs again, by the trained model
	@. ./env.sh && tools/draw_photographs.py --output docs/photographs.png \
	  --dense-crf models/voc_lite/dense_crf.json \
	  $(VENV)/lib/python3*/site-packages/skimage/data/{chelsea,astronaut}.png

# The images with the greatest gain, two in between, and the one with the greatest loss.
# The pixel is far from its badge.
figures: demo photographs  ## draw the README's figures again, from demo/
	@. ./env.sh && eval=demo/eval_unary/results_unary && \
	tools/compare.py --root demo/shapes --output docs/comparison.png \
	  --ids shapes_000847 shapes_000857 shapes_000822 shapes_000858 --predictions \
	  unary=$$eval "unary + dense CRF=$${eval}_dense_crf" GCRF=demo/eval/results && \
	tools/explain.py --deploy demo/run/nets/deploy.prototxt --root demo/shapes \
	  --weights demo/run/snapshots/finetune_iter_400.caffemodel --pixel 136 40 \
	  --output demo/explained.png demo/shapes/JPEGImages/shapes_000847.jpg && \
	tools/plot_training.py demo/run --output docs/training.png && \
	cp demo/explained.png docs/

test: all venv-dev  ## run all tests; ends with "N passed, N failed, N skipped"
	@ninja -C $(BUILD) gcrf.testbin test.testbin || \
	  $(call stop,the tests do not compile; the reason is above)
	@$(VENV)/bin/python tests/run_tests.py --build $(BUILD)

test-fast: all venv-dev  ## run our own tests without the slow ones
	@ninja -C $(BUILD) gcrf.testbin || \
	  $(call stop,the tests do not compile; the reason is above)
	@$(VENV)/bin/python tests/run_tests.py --build $(BUILD) --fast

CXX_FILES = $(wildcard $(foreach suffix,hpp cpp cu,caffe_layers/*.$(suffix) caffe_fork/dnnl/*.$(suffix)))
OTHER_CXX_FILES = $(wildcard caffe_layers/*.cuh $(addprefix tests/cuda_on_cpu/,*.cpp include/*.hpp))

# cpp_lint.py does not know that gmf_layer.hpp is the header of gmf_layer.cpp, nor
# any data layers except Caffe's own, nor where a lambda ends.
lint: venv-dev source  ## check the format and the style of all sources
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/clang-format --dry-run --Werror $(CXX_FILES) $(OTHER_CXX_FILES)
	@$(VENV)/bin/python -W ignore build/source/scripts/cpp_lint.py \
	  --filter=-build/include_order,-caffe/data_layer_setup,-readability/braces \
	  $(CXX_FILES) 2>&1 | sed '/^Done processing/d'

format: venv-dev  ## format all sources
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format
	@$(VENV)/bin/clang-format -i $(CXX_FILES) $(OTHER_CXX_FILES)

check: lint all  ## lint, and check that prototxt/ is what tools/make_nets.py writes
	@. ./env.sh && python tools/make_nets.py --check

# Sources, chosen by their kind: no data sets, caches or benchmarks.
INSTALLED = env.sh requirements.txt $(wildcard python_layers/*.py prototxt/*.prototxt \
  tools/*.py tools/lib/python_layers tools/lib/gcrf/*.py data/*.sh data/*.md data/shapes/*.py) \
  $(MODEL)

install: all  ## PREFIX=FOLDER: put a copy there that does not need build/
	@[ "$(words $(PREFIX))" = 1 ] || $(call stop,where to? make install PREFIX=FOLDER)
	@cmake --install $(BUILD) --prefix $(PREFIX) >/dev/null && \
	  cp --parents --no-dereference $(INSTALLED) $(PREFIX)/ && \
	  $(if $(MODEL),cp $(JOINED) $(PREFIX)/models/ &&) \
	  mkdir -p $(PREFIX)/snapshots || \
	  $(call stop,cannot write $(PREFIX); the reason is above)
	@$(call make-venv,$(abspath $(PREFIX))/venv)
	@echo "Installed. To use it: . $(PREFIX)/env.sh"

clean:  ## remove build/
	rm -rf build

help:  ## show this list
	@{ sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1|\2/p' Makefile; \
	echo "make GPU=1 ...|with CUDA, in build/gpu"; \
	echo "make GPU=1 CUDA_ARCH=86 ...|for one kind of GPU only"; \
	echo "make DNNL=0 ...|without the oneDNN engine, in build/cpu-without-dnnl"; \
	echo "make CAFFE_SRC=DIR ...|from your own checkout of BVLC Caffe"; } | column -t -s '|'
