# make demo   the whole job on the embedded model: install, generate, score, report
# make test   the tests        make sweep  the slow ones     make lint   ruff, mypy, import floors
# make docs   the documentation, in build/site       make rehearsal   the models and metrics on a pretended GPU
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test sweep rehearsal lint docs clean

demo: .venv/installed
	$(BIN)/stg-eval run --suite demo --model tiny --output runs/demo

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile $(ARGS)

sweep: .venv/installed
	$(BIN)/python -m pytest -m sweep $(ARGS)

# the models, and the tests of metrics, on a pretended GPU: side by side, as each takes one core
rehearsal: .venv/installed
	$(BIN)/python -m pytest -m rehearsal tests/rehearsal $(ARGS) & \
	$(BIN)/python -m pytest -p on_pretended_gpu tests/metrics $(ARGS); metrics=$$?; wait $$! && exit $$metrics

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
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stg-eval needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps vbench pyiqa cd-fvd mlflow-skinny trackio
	touch $@

clean:
	rm -rf .venv runs build dist
