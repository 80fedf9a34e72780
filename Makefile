# Every developer command in one line each. All of them work in the project's own .venv, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 4
READY := $(VENV)/.ready
BUILT := $(VENV)/.built
CORE := $(wildcard src/fastmove/*.pyx src/fastmove/*.pxd) setup.py

.PHONY: help venv build demo test nightly lint bench ci dist build-checked build-asan test-checked test-asan docs clean

help:            ## this list
	@grep -E '^[a-z-]+: .*## ' Makefile | sed 's/:.*## /\t/' | expand -t 18

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group build --group test --group lint
	touch $@

$(BUILT): $(READY) $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src/fastmove
	touch $@

venv: $(READY)   ## the virtual environment

build: $(BUILT)  ## the compiled modules, in place

demo: $(BUILT)   ## retrieve a study from the embedded PACS, and prove that every byte arrived
	$(BIN)/python tools/demo.py

test: $(BUILT)   ## the whole suite
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

nightly: $(BUILT)  ## the long versions of what the suite has in short: at most 85 minutes
	$(BIN)/python -m pytest -m nightly -n $(JOBS) --dist worksteal --timeout 3600

lint: $(BUILT)   ## style, types, stubs, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src/fastmove/*.pyx src/fastmove/*.pxd
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/public_api.py
	$(BIN)/python -m mypy.stubtest fastmove._codec fastmove._elements fastmove._sink fastmove._transcode --allowlist tests/typing/stubtest-allow.txt --ignore-unused-allowlist
	$(BIN)/python tools/gen_uids.py --check
	$(BIN)/python tools/gen_dictionary.py --check
	$(BIN)/python tools/gen_movescu_docs.py --check
	$(BIN)/python tools/gen_reference.py --check
	$(BIN)/python tools/gen_configuration.py --check

bench: $(BUILT)  ## receive, send, retrieve and movescu, beside whatever else is installed
	$(BIN)/python -m benchmarks receive
	$(BIN)/python -m benchmarks send
	$(BIN)/python -m benchmarks retrieve
	$(BIN)/python -m benchmarks movescu

docs: $(BUILT)   ## write the generated pages anew
	$(BIN)/python tools/gen_uids.py
	$(BIN)/python tools/gen_dictionary.py
	$(BIN)/python tools/gen_movescu_docs.py
	$(BIN)/python tools/gen_reference.py
	$(BIN)/python tools/gen_configuration.py

dist: $(READY)   ## source distribution and wheel, and the wheel in an empty environment
	rm -rf dist build/dist-venv
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(PYTHON) -m venv build/dist-venv
	build/dist-venv/bin/python -m pip install --quiet dist/*.whl
	cd build && dist-venv/bin/fastmove --version && dist-venv/bin/fastmove --help > /dev/null

build/checked: $(READY) $(CORE)
	FASTMOVE_FLAVOUR=checked $(BIN)/python setup.py -q build --build-base build/checked-tmp --build-lib $@
	touch $@

build/asan: $(READY) $(CORE)
	FASTMOVE_FLAVOUR=sanitize $(BIN)/python setup.py -q build --build-base build/asan-tmp --build-lib $@
	touch $@

build-checked: build/checked   ## the compiled modules with asserts and UBSan

build-asan: build/asan   ## the compiled modules with ASan and UBSan

test-checked: build/checked $(BUILT)   ## unit and wire tests on the checked modules
	PYTHONPATH=build/checked $(BIN)/python -m pytest -q -n $(JOBS) tests/unit tests/wire tests/properties

test-asan: build/asan $(BUILT)   ## unit and wire tests of the compiled modules under AddressSanitizer
	LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH=build/asan \
	  $(BIN)/python -m pytest -q tests/unit/test_codec*.py tests/unit/test_sink*.py tests/unit/test_transcode.py tests/wire tests/properties

ci: lint test test-checked dist   ## what has to pass before a change lands

clean:           ## everything that was made
	rm -rf $(VENV) build dist src/fastmove/*.so src/fastmove/*.c src/*.egg-info
