# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := base kernels engine micro compile pipeline train recipes bench cli

.PHONY: setup demo test lint clean
setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools
	# torch first and pinned: a range would take the newest build with its CUDA packages
	$(BIN)/pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	mkdir -p $(VENV)/links/prefmill
	for folder in $(FOLDERS); do ln -sfn ../../../$$folder $(VENV)/links/prefmill/$$folder; done
	touch $@

demo: setup
	$(BIN)/prefmill demo

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf $(VENV) build dist *.egg-info
