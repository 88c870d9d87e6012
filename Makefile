# One command from a fresh checkout to a running lesson: `make lab`. `make help` lists the rest.
# Kept to what GNU make 3.81 knows, because that is what macOS ships.

PYTHON ?= python3
LAB_FLAGS ?=
PYTEST_FLAGS ?=
PINS_FLAGS ?=
MUTATION_FLAGS ?=
TORCH_BACKEND ?=

VENV := .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/set-up-in
UV_FLAGS := --python $(VENV)/bin/python

# OpenMP threads that spin while they wait steal the second core of a laptop from JupyterLab and from each other.
export OMP_WAIT_POLICY := PASSIVE
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help setup lab test lint test-package test-notebooks test-learners test-authors test-classroom mutation bench-sliders format pins onnxruntime-web site doctor clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:
	@echo 'make lab      set up, then open the course in JupyterLab'
	@echo 'make setup    set up only: Python packages into $(VENV)'
	@echo 'make doctor   set up, then check this machine and say how to mend what is wrong'
	@echo 'make test     set up, then run all tests, notebooks included'
	@echo 'make test-classroom  set up, then have nbgrader grade three students in every lesson (half an hour)'
	@echo 'make mutation        set up, then change every solution at every place: no check may call it right (minutes)'
	@echo 'make bench-sliders   set up, then measure how fast the sliders are, in a real browser (some minutes)'
	@echo 'make site     set up, then make the web site of the course in build/site (a minute, no network)'
	@echo 'make onnxruntime-web  fetch what runs the live pictures of the site (33 MB, once); make site works without'
	@echo 'make format   lay out code and notebooks with ruff'
	@echo 'make pins     write requirements.txt from pyproject.toml (PINS_FLAGS=--upgrade for newer versions)'
	@echo 'make clean    remove $(VENV) and caches; data, notebooks and runs stay'
	@echo
	@echo 'PYTHON=python3.12     another Python for the set-up (3.11 to 3.14; make clean first)'
	@echo 'TORCH_BACKEND=cpu     set up without the gigabytes of CUDA that torch brings on Linux (make clean first)'
	@echo 'LAB_FLAGS=--no-browser   more options for JupyterLab'

# The stamp holds the folder that was set up. Missing Python or another folder (the checkout was moved) means: again.
ifneq ($(shell test -x $(VENV)/bin/python && cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

setup: $(STAMP)

# Package edits need no new set-up: the package is installed as a link to this folder. The stamp is away while packages
# are moved in: where it is missing, a set-up was killed, and the next one starts over (what was downloaded is kept).
# Once the pins are installed nothing here asks the network; the package is built by the pinned hatchling among them.
$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo 'Set-up stopped: there is no $(PYTHON) here. Install Python 3.11 to 3.14, or name yours: make setup PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 15) or sys.exit("Set-up stopped: the course needs Python 3.11 to 3.14, and $(PYTHON) is %d.%d. Name another: make setup PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Set-up stopped: $(PYTHON) comes without venv. On Debian and Ubuntu: sudo apt install python3-venv' >&2; exit 1; }
	@{ test -f $(STAMP) && $(RUN) pip --version >/dev/null 2>&1; } || \
	  { echo 'Making $(VENV)'; $(PYTHON) -m venv --clear $(VENV) && touch $(STAMP); }
	@echo 'Installing packages into $(VENV): some minutes the first time'
	@$(RUN) pip install --quiet --disable-pip-version-check --constraint requirements.txt uv
	@rm -f $(STAMP); $(RUN) uv pip install $(UV_FLAGS) --requirement requirements.txt \
	  $(if $(TORCH_BACKEND),--torch-backend=$(TORCH_BACKEND)) || { touch $(STAMP); exit 1; }
	@$(RUN) uv pip install $(UV_FLAGS) --quiet --no-deps --no-build-isolation --editable .
	@echo '$(CURDIR)' > $(STAMP)

# The repository is JupyterLab's root folder; its terminals find the course's Python first.
lab: setup
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) jupyterlab --ServerApp.root_dir=. \
	  --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_FLAGS)

# As a file: this runs even where the package cannot be imported.
doctor: setup
	@$(VENV)/bin/python dit_course/setup/doctor.py

test: setup lint test-package test-notebooks

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .

# Two workers of one thread each; tests/conftest.py keeps a file on one worker.
test-package: setup
	$(ONE_THREAD) $(RUN) pytest tests -n 2 --dist loadfile $(PYTEST_FLAGS)

# Learners' and authors' notebooks under nbval, offline, in time. Learners' run one at a time with all cores, as at home;
# authors' run what a learner's notebook ran before them, and need to be right: two at a time, with one thread each.
test-notebooks: test-learners test-authors

test-learners: setup
	$(RUN) pytest tests/run_three_minutes.py tests/run_notebooks.py $(PYTEST_FLAGS)

test-authors: setup
	$(ONE_THREAD) $(RUN) pytest tests/run_solutions.py -n 2 --dist worksteal --durations 30 $(PYTEST_FLAGS)

# Every lesson handed out, solved by three students, collected and graded by nbgrader; the test run does this for one.
test-classroom: setup
	$(RUN) pytest tests/run_classroom.py $(PYTEST_FLAGS)

# What was tried before is kept in .cache/, until a solution or its check changes.
mutation: setup
	@$(ONE_THREAD) $(VENV)/bin/python tests/mutation/run.py --survivors $(MUTATION_FLAGS)

bench-sliders: setup
	@$(VENV)/bin/python tests/benchmarks/sliders.py

# onnxruntime-web runs the live pictures of the site. Of its 130 MB two files are needed; the empty third says which version.
ORT_WEB := .cache/onnxruntime-web/1.30.0
onnxruntime-web: $(ORT_WEB)

$(ORT_WEB):
	@command -v npm >/dev/null || { echo 'There is no npm here: install Node.js, or do without the live pictures of the site' >&2; exit 1; }
	@rm -rf $(@D) && mkdir -p $(@D)
	@cd $(@D) && npm pack --silent onnxruntime-web@$(@F) >/dev/null && tar -xzf *.tgz --strip-components 2 \
	  package/dist/ort.wasm.bundle.min.mjs package/dist/ort-wasm-simd-threaded.wasm && rm *.tgz && touch $(@F)

site: setup
	@$(ONE_THREAD) $(RUN) dit_course site

format: setup
	$(RUN) ruff check --fix-only --quiet .
	$(RUN) ruff format .

# One version for all supported Pythons and systems. torch itself names the CUDA packages it needs on Linux: left out
# here, they come with the default torch and stay away with TORCH_BACKEND=cpu. Old pins are kept where they still fit.
pins: setup
	cp requirements.txt $(VENV)/pins.txt
	$(RUN) uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --fork-strategy fewest \
	  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make pins' \
	  --quiet --output-file $(VENV)/pins.txt $(PINS_FLAGS)
	grep -Ev '^(cuda-|nvidia-|triton=)' $(VENV)/pins.txt > requirements.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find dit_course tests -name __pycache__ -type d -prune -exec rm -rf {} +
