# make demo   the whole job on the embedded models: install, generate, score, report (ARGS=--open shows the page)
# make test   the tests        make sweep  the slow ones     make lint   ruff, mypy, import floors
# make docs   the documentation, in build/site       make rehearsal   the models and metrics on a pretended GPU
# make gpu    tests and benchmarks that need a GPU
PYTHON ?= python3
BIN := .venv/bin

INSTALL = $(BIN)/pip install --disable-pip-version-check --constraint constraints.txt
# What pip does, on one line of 79 columns that is written over; what it said, if it fails.
ON_ONE_LINE = 2>&1 | tee -a .venv/install.log | { cut -c1-79 | while read -r line; do printf '\r\033[K%s' "$$line"; done; \
	printf '\r\033[K'; }; [ $${PIPESTATUS[0]} = 0 ] || { cat .venv/install.log >&2; exit 1; }
SHELL := /bin/bash

.PHONY: demo test sweep rehearsal gpu lint docs clean

demo: .venv/installed
	@$(BIN)/stg-eval run --suite demo --model tiny-weak,tiny --limit 96 --set num_inference_steps=8 --output runs/demo $(ARGS)

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

sweep: .venv/installed
	$(BIN)/python -m pytest -m sweep $(ARGS)

# The models, and tests of metrics that leave every tensor to the package, on a pretended GPU: side by side, a core each.
METRICS = $(addprefix tests/metrics/test_,decoding.py fvd.py inception_score.py loops.py sprites_metrics.py) \
	$(addprefix tests/metrics/vbench/test_,golden.py objects.py)
rehearsal: .venv/installed
	$(BIN)/python -m pytest -m 'rehearsal or not rehearsal' tests/rehearsal $(ARGS) & \
	$(BIN)/python -m pytest -p on_pretended_gpu $(METRICS) $(ARGS); metrics=$$?; wait $$! && exit $$metrics

gpu: .venv/installed
	@$(BIN)/python benchmarks/gpu.py $(ARGS)

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --strict --clean

# vbench pins what breaks diffusers (numpy<2, transformers==4.33.2), pyiqa asks for much that its networks do not use, and
# cd-fvd is a test oracle, mlflow-skinny and trackio want older importlib_metadata and pillow than what is tested here:
# these go in without their dependencies.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stg-eval needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv
	@$(INSTALL) --editable '.[dev,docs]' $(ON_ONE_LINE)
	@$(INSTALL) --no-deps vbench pyiqa cd-fvd mlflow-skinny trackio $(ON_ONE_LINE)
	@printf 'Installed into .venv; what pip said: .venv/install.log\n'
	@touch $@

clean:
	rm -rf .venv runs build dist
