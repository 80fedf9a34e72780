# Every developer command in one line each. All of them work in the project's own .venv, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 5
LEAST ?= 1000000
READY := $(VENV)/.ready
BUILT := $(VENV)/.built
CORE := $(wildcard src/fastmove/*.pyx src/fastmove/*.pxd) setup.py
FUZZING := $(VENV)/.fuzzing
# The tests that put bytes through the compiled modules, by what they import; those with a listener are the long ones.
COMPILED = tests/wire tests/fuzz \
  $(shell grep -lE '_(codec|content|elements|sink|transcode) import|receivers|tests.encoded|storage.target' \
  $(filter-out %/test_layers.py,$(wildcard tests/unit/test_*.py tests/properties/test_*.py)))
CATALOGUE = $(wildcard tests/integration/test_catalogue_*.py) tests/integration/test_state_cells.py
ASAN = LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
  PYTHONMALLOC=malloc PYTHONPATH=build/asan $(BIN)/python -m pytest -q -n 2 --dist worksteal --timeout 300 \
  -m 'not nightly and not rss'

.PHONY: help venv build demo test nightly lanes lint bench ci dist docs clean fuzz fuzz-seeds lock reproduce \
  build-checked build-asan build-fuzz build-refcount test-checked test-asan test-asan-short test-leaks

help:            ## this list
	@grep -E '^[a-z-]+: .*## ' Makefile | sed 's/:.*## /\t/' | expand -t 18

$(READY): pyproject.toml requirements/lock.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
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

nightly: build-fuzz $(FUZZING) $(BUILT)  ## the long versions of what the suite has in short: at most 85 minutes
	$(BIN)/python -m pytest -m nightly -n 2 --dist worksteal --timeout 3600
	$(BIN)/python -m tests.fuzz --seconds 1200 --least $(LEAST) --at-most 1200

lint: $(BUILT)   ## style, types, stubs, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src/fastmove/*.pyx src/fastmove/*.pxd tests/fuzz/*.pyx
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/public_api.py
	$(BIN)/python -m mypy.stubtest fastmove._codec fastmove._content fastmove._elements fastmove._gather fastmove._sink fastmove._transcode --allowlist tests/typing/stubtest-allow.txt --ignore-unused-allowlist
	$(BIN)/python tools/gen_uids.py --check
	$(BIN)/python tools/gen_dictionary.py --check
	$(BIN)/python tools/gen_movescu_docs.py --check
	$(BIN)/python tools/gen_reference.py --check
	$(BIN)/python tools/gen_configuration.py --check
	$(BIN)/python tools/lock.py --check

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

lock: $(READY)   ## write requirements/ anew: the newest versions that fit, with their hashes; asks the index
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools
	$(BIN)/python tools/lock.py

reproduce: $(READY)   ## the wheel twice, from what is committed: the same bytes
	$(BIN)/python tools/reproduce.py

build-checked build-asan build-fuzz: build-%: $(READY)
	$(BIN)/python tools/build_flavour.py $*

build-refcount: $(READY)
	$(BIN)/python tools/build_flavour.py refcount --interpreter python3-dbg

test-checked: build-checked $(BUILT)   ## unit and wire tests on the checked modules
	PYTHONPATH=build/checked $(BIN)/python -m pytest -q -n $(JOBS) tests/unit tests/wire tests/properties

test-asan: build-asan $(BUILT)   ## what goes through the compiled modules, under AddressSanitizer and UBSan
	$(ASAN) $(COMPILED) $(CATALOGUE)

test-asan-short: build-asan $(BUILT)   ## the same without listeners: all bytes of the catalogue, as seeds
	$(ASAN) $(COMPILED)

test-leaks: build-refcount   ## no public compiled call leaves a reference, by an interpreter that counts them all
	PYTHONPATH=build/refcount:. python3-dbg -m tests.leaks.references

$(FUZZING): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock-fuzz.txt
	touch $@

fuzz: build-fuzz $(FUZZING) $(BUILT)   ## each fuzz target for a minute, and LEAST executions (a million)
	$(BIN)/python -m tests.fuzz --seconds 60 --least $(LEAST)

fuzz-seeds: $(BUILT)   ## take down anew what the tests of the catalogue send
	$(BIN)/python -m pytest -q -p tests.fuzz.recording tests/integration/test_catalogue_*.py

lanes: test-asan test-leaks fuzz  ## AddressSanitizer, reference counts and fuzzing: by hand; CONTRIBUTING says what they need

ci: lint test test-checked dist   ## what has to pass before a change lands

clean:           ## everything that was made
	rm -rf $(VENV) build dist src/fastmove/*.so src/fastmove/*.c src/*.egg-info
