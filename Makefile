# Every target makes what it needs first; `make` alone lists them. Settings: make setup TORCH=cu130 PYTHON=python3.12
export TORCH ?= cpu
export EXTRAS ?= test
PEERS ?= .venv-bench
MASKBENCH ?= ../shared/data/maskbench.jsonl.gz
ENGINE ?= $(or $(firstword $(notdir $(shell command -v docker podman))),docker)
IMAGE ?= sluice:local
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup kernels model serve test test-all lint types format bench-setup bench peers clients gpu-check image \
    image-check clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with pinned dependencies (PYTHON=..., TORCH=cpu|pypi|cu130|..., EXTRAS=test,gpu)
	@scripts/setup.sh

kernels: setup ## Compile the CPU kernels (once, some minutes)
	@scripts/kernels.sh

model: setup ## Fetch the default model (98 MB) into the user's cache folder
	@$(BIN)/sluice pull

serve: model kernels ## Serve the default model on 127.0.0.1:8000 (ARGS="--port 9000" passes options on)
	@exec $(BIN)/sluice serve $(ARGS)

test: model kernels lint types ## Run the checkers and the default tests (below 15 minutes on 2 cores)
	@$(BIN)/pytest -m "not slow"

test-all: model kernels lint types ## Run everything, slow tests included, and search for new counterexamples
	@HYPOTHESIS_PROFILE=searching $(BIN)/pytest

lint: setup ## Check style, formatting and the import rules
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports --no-logo

types: setup ## Check the types
	@$(BIN)/pyright

format: setup ## Rewrite the sources in the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench-setup: setup ## Install the peers to compare with, in an environment of their own (.venv-bench)
	@scripts/bench-setup.sh $(PEERS)

bench: bench-setup model kernels ## Run every benchmark, beside its peers where it has some
	@$(BIN)/python -m bench.engine --peer-python $(PEERS)/bin/python
	@$(BIN)/python -m bench.decode_cpu --peer-python $(PEERS)/bin/python
	@$(BIN)/python -m bench.adversaries --peer-python $(PEERS)/bin/python
	@$(BIN)/python -m bench.isolation
	@$(BIN)/python -m bench.batches
	@$(BIN)/python -m bench.ratios
	@$(BIN)/python -m bench.attention_cpu
	@$(BIN)/python -m bench.gateway
	@$(BIN)/python -m bench.gateway --route
	@$(BIN)/python -m bench.gateway --face $(addprefix --litellm ,$(wildcard .venv-clients/peers/bin/litellm))
	@$(BIN)/python -m bench.ledger
	@$(BIN)/python -m bench.decisions
	@if [ -f "$(MASKBENCH)" ]; then \
	    $(BIN)/python -m bench.masks --data "$(MASKBENCH)" --peer-python $(PEERS)/bin/python --sample 100 && \
	    $(BIN)/python -m bench.replay --data "$(MASKBENCH)" --peer-python $(PEERS)/bin/python --schemas 1000 && \
	    $(BIN)/python -m bench.extraction --data "$(MASKBENCH)"; \
	else echo "bench: $(MASKBENCH) is missing: masks, replay and extraction are left out (MASKBENCH=FILE names it)" >&2; fi

peers: model kernels ## Ask servers that others wrote through one of ours, with official clients; writes docs/peers.md
	@$(BIN)/python clients/peers.py

clients: model kernels ## Run real clients against a server, each cohort in its own environment; writes docs/clients.md
	@$(BIN)/python clients/run.py

gpu-check: ## Test and time the GPU kernels on a CUDA device (needs TORCH=cu130 EXTRAS=test,gpu); figures in build/gpu-check
	@scripts/gpu-check.sh

image: ## Build the container image (ENGINE=docker|podman, IMAGE=sluice:local; ARGS passes options on)
	@BUILDAH_FORMAT=docker $(ENGINE) build --file deploy/Dockerfile --tag $(IMAGE) $(ARGS) .

image-check: ## Run the image without rights on a read-only root, ask it for an answer, stop it and start it again
	@ENGINE=$(ENGINE) IMAGE=$(IMAGE) deploy/check.sh

clean: ## Remove environments, caches and build products (not the models)
	rm -rf .venv .venv-clients $(PEERS) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
