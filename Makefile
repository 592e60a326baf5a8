# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := base kernels engine micro compile pipeline train recipes bench cli

.PHONY: setup demo test lint resolve clean
setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools
	# torch first, so that it may come from an index of its own: TORCH_INDEX=https://download.pytorch.org/whl/cpu
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	mkdir -p $(VENV)/links/prefmill
	for folder in $(FOLDERS); do ln -sfn ../../../$$folder $(VENV)/links/prefmill/$$folder; done
	touch $@

demo: setup
	$(BIN)/prefmill demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # two processes for two cores

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Whether the pinned set installs on a machine that has nothing of ours: asks the public index alone, installs nothing.
resolve: setup
	PIP_CONFIG_FILE=/dev/null XDG_CONFIG_DIRS=/nonexistent PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= \
	PIP_INDEX_URL=https://pypi.org/simple $(BIN)/pip install --quiet --dry-run --ignore-installed \
	--constraint constraints.txt ".[dev]"

clean:
	rm -rf $(VENV) build dist *.egg-info
