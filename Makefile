# Two commands for a fresh clone: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Linux machines whose package index has no CPU build of torch: set this to the CPU index that pytorch.org names.
TORCH_INDEX ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What a run may reach is what `groundtune models fetch` names; everything else stays offline.
export HF_HUB_OFFLINE ?= 1
# pip leaves compiling to the first import; not keeping what that makes would cost each process ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install install-dev quickstart serve test test-clients check lint lock clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# --no-deps: the lock lists everything, so that no CUDA package comes along with torch.
# --no-compile: modules are compiled when first imported, which most of them never are.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-deps --no-compile $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@$(BIN)/python -c "import torch" || { echo "torch does not import: this index served its CUDA build; run 'make clean install TORCH_INDEX=<the CPU index that pytorch.org names>'" >&2; exit 1; }
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/pip install -q --no-deps --no-compile -r requirements-dev.lock
	@touch $@

quickstart: install
	$(BIN)/groundtune quickstart --config configs/quickstart-cpu.yaml

serve: install
	$(BIN)/groundtune serve

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install-dev
	$(BIN)/groundtune models fetch qwen2.5-coder-0.5b-instruct smollm2-135m-instruct multilingual-e5-small-asked multilingual-e5-small
	$(BIN)/pytest

# Clients that are no dependency, in environments of their own: langchain-openai, litellm, npm's openai.
test-clients: install-dev
	$(BIN)/python -m tests.clients.environments var/test-clients
	$(BIN)/pytest tests/clients

check: lint test

# Pins what a fresh install of pyproject.toml's ranges resolves to.
lock:
	$(PYTHON) benchmarks/lock.py

clean:
	rm -rf $(VENV)
