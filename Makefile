# make demo          set up, open napari on the sample cube and detect its sources; without a display, or with
#                    HEADLESS=1, run the same detection and print the candidates
# make test          set up and run the tests, a file at a time on each core
# make lint          check style and formatting
# make types         check the types of the whole package with mypy
# make coverage      run the tests and show what none of them ran
# make docs          build the documentation site in site/, without warnings
# make lowest        run the tests with the oldest libraries that pyproject.toml allows; Python 3.11
# make mutants       change the rules of the search one at a time and list what no test notices; takes 20 minutes
# make screenshots   take the pictures in docs/images anew
# make clean         remove all that was set up
#
# TESTS=tests/cube chooses some of the tests. PYTHON=python3.12 chooses the Python,
# TORCH_INDEX=https://download.pytorch.org/whl/cu130 a PyTorch with CUDA; both matter when .venv is made.

VENV := .venv
BIN := $(VENV)/bin
LOWEST := build/lowest
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --no-input --disable-pip-version-check -qq

ifeq ($(shell uname),Linux)
HEADLESS ?= $(if $(DISPLAY)$(WAYLAND_DISPLAY),,1)
endif

# What Qt's xcb platform and napari's OpenGL canvas load from the system, and the Debian package of each.
LIBRARIES := libEGL.so.1=libegl1 libGL.so.1=libgl1 libdbus-1.so.3=libdbus-1-3 libfontconfig.so.1=libfontconfig1 \
	libglib-2.0.so.0=libglib2.0-0 libxcb-cursor.so.0=libxcb-cursor0 libxcb-icccm.so.4=libxcb-icccm4 \
	libxcb-keysyms.so.1=libxcb-keysyms1 libxcb-shape.so.0=libxcb-shape0 libxkbcommon-x11.so.0=libxkbcommon-x11-0

# A Python that will do: the right version, and able to make virtual environments (Debian splits that off).
FIND_PYTHON = for python in $(or $(PYTHON),python3 python3.12 python3.11 python3.13); do \
	$$python -c "import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null && break; \
	python=; done

.PHONY: demo test lint types coverage docs lowest mutants screenshots clean system
.DELETE_ON_ERROR:

demo: system $(VENV)/installed
	$(BIN)/almadet demo $(if $(HEADLESS),--headless)

test: HEADLESS :=
test: PROGRAMS := Xvfb=xvfb
test: system $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(TESTS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/python -m mypy

coverage: HEADLESS :=
coverage: PROGRAMS := Xvfb=xvfb
coverage: system $(VENV)/installed-dev
	$(BIN)/python -m pytest --cov --cov-report=term $(TESTS)

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html -d build/doctrees -c docs . site
	@echo "The documentation is in site/docs/index.html"

# dask is named so that uv takes its oldest release too: distributed fits one release of dask only.
lowest: HEADLESS :=
lowest: PROGRAMS := Xvfb=xvfb
lowest: system $(VENV)/installed-dev
	@$(PIP) install uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct \
		dask -e ".[pyqt6,train,evaluate,distributed,casa,hdf5]" --group test
	$(LOWEST)/bin/python -m pytest $(TESTS)

mutants: $(VENV)/installed-dev
	$(BIN)/python benchmarks/mutation.py search measure cube --budget 0.5

screenshots: HEADLESS :=
screenshots: PROGRAMS := Xvfb=xvfb xauth=xauth
screenshots: system $(VENV)/installed
	xvfb-run -a -s "-screen 0 1920x1080x24" $(BIN)/python docs/make_screenshots.py

clean:
	rm -rf $(VENV) build dist site docs/generated src/*.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache

# As root on Debian or Ubuntu install the system packages that are missing; else say which, and stop where a
# window is to open.
system:
	@missing=; \
	test -x $(BIN)/python || { $(FIND_PYTHON); test "$$python" || missing=python3-venv; }; \
	if test "$$(uname)" = Linux; then \
		known=$$(PATH="$$PATH:/sbin:/usr/sbin" ldconfig -p); \
		for need in $(LIBRARIES); do case $$known in *"$${need%=*}"*) ;; *) missing="$$missing $${need#*=}";; esac; done; \
		for need in $(PROGRAMS); do command -v $${need%=*} >/dev/null || missing="$$missing $${need#*=}"; done; \
	fi; \
	if test "$$missing" && test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		echo "Installing system packages:" $$missing; \
		apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends -o DPkg::Lock::Timeout=300 $$missing >/dev/null; \
	elif test "$$missing"; then \
		echo "System packages are missing; on Debian or Ubuntu: sudo apt-get install" $$missing; \
		test "$(HEADLESS)"; \
	fi

$(BIN)/python:
	@$(FIND_PYTHON); \
	test "$$python" || { echo "No Python 3.11 to 3.13 with venv found; name one with make PYTHON=..."; exit 1; }; \
	$$python -m venv $(VENV)

# PyTorch first and alone, so that only PyTorch is ever looked for on its index; --retries 1, so that a machine
# that reaches PyPI but not that index loses no time and takes the release that PyPI, or pip.conf, has.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing napari-almadet into $(VENV); this takes a few minutes the first time"
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install --no-deps --retries 1 --timeout 15 --extra-index-url $(TORCH_INDEX) -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e ".[pyqt6]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(PIP) install -c constraints.txt -e ".[pyqt6,train,evaluate]" --group dev
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	@$(PIP) install -c constraints.txt --group docs
	@touch $@
