# Everything a person or a CI machine does with this tree. Nothing here needs root.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE ?= .visualindex
PORT ?= 8000
IMAGES ?=
ARGS ?=

export PYTHONUNBUFFERED := 1

##@ Try it

.PHONY: demo
demo: $(VENV)/.runs ## Start the service with a furniture catalogue to search (IMAGES=dir PORT=8000 STATE=.visualindex)
	@$(BIN)/visualindex demo --state "$(STATE)" --port "$(PORT)" $(if $(IMAGES),--images "$(IMAGES)") $(ARGS)

.PHONY: down
down: $(VENV)/.runs ## End a service that was left running in STATE
	@$(BIN)/visualindex down --state "$(STATE)"

##@ Work on it

.PHONY: venv
venv: $(VENV)/.develops ## Make .venv with everything, test tools and torch included (5 GB)

.PHONY: test
test: $(VENV)/.develops ## Run the tests (ARGS="tests/spec -x")
	$(BIN)/python -m pytest $(ARGS)

.PHONY: check
check: lint ## Lint, formatting, types and layers
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: lint
lint: $(VENV)/.develops ## Lint and formatting alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: bench
bench: $(VENV)/.develops ## Measure the service beside the bare pipeline (ARGS=--help)
	$(BIN)/python -m benchmarks.service $(ARGS)

.PHONY: bench-engine
bench-engine: $(VENV)/.develops ## Measure the index engine beside its peers (ARGS="--full", --grow, --profile, --coefficients, --help)
	$(BIN)/python -m benchmarks.engine $(ARGS)
.PHONY: bench-rerank
bench-rerank: $(VENV)/.develops ## Measure what reranking gains on two collections (ARGS=--short)
	$(BIN)/python -m benchmarks.rerank $(ARGS)

.PHONY: chaos
chaos: $(VENV)/.develops ## Kill parts of a running service and count what was lost (ARGS=--short)
	$(BIN)/python -m benchmarks.chaos $(ARGS)

.PHONY: soak
soak: $(VENV)/.develops ## Put mixed load on a running service for 20 minutes and count what was lost (ARGS="--minutes 60")
	$(BIN)/python -m benchmarks.soak $(ARGS)

.PHONY: e2e
e2e: $(VENV)/.develops ## Tell the whole story on a real cluster, faults included (ARGS=--short CLUSTER=../shared/cluster)
	@CLUSTER="$(CLUSTER)" BASE="$(BASE)" scripts/e2e.sh $(ARGS)

.PHONY: chart
chart: $(VENV)/.develops ## Write what the chart repeats: the CRD, and its values as a table
	cp crds/visualindexes.visualindex.dev.yaml charts/visualindex/files/
	$(BIN)/python scripts/chart_values.py

.PHONY: constraints
constraints: $(VENV)/.develops ## Choose the pinned versions anew
	printf 'hatchling\neditables\npip\nuv\n' | $(BIN)/uv pip compile pyproject.toml - --universal --python-version 3.11 \
	  --extra cpu --extra torch --extra local --extra operator --extra dev --no-header --no-annotate --upgrade --quiet \
	  | grep -vE "== '(emscripten|win32)'" > constraints.new
	mv constraints.new constraints.txt

.PHONY: clean
clean: ## Remove the environment, caches and STATE with its service, database and pictures
	@if [ -x $(BIN)/visualindex ] && [ -d "$(STATE)" ]; then $(BIN)/visualindex down --state "$(STATE)"; fi
	rm -rf $(VENV) .venv-peers "$(STATE)" build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

##@ Container image

IMAGE ?= localhost/visualindex:dev
VARIANT ?= cpu
BASE ?=
CLUSTER ?= ../shared/cluster
export IMAGE VARIANT BASE

.PHONY: image
image: ## Build the image with buildah, docker or podman (IMAGE=localhost/visualindex:dev VARIANT=cpu BASE=python:3.12-slim)
	@scripts/image.sh build

.PHONY: sbom
sbom: ## Write the image's packages as CycloneDX into dist/
	@scripts/image.sh sbom

.PHONY: image-load
image-load: ## Give the image to the one-node cluster in CLUSTER
	@scripts/image.sh load "$(CLUSTER)"

##@ Help

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What is installed is a file beside it, so that a second `make demo` installs nothing.

$(VENV)/.runs: pyproject.toml constraints.txt scripts/install.py | $(BIN)/python
	@echo "installing the service without torch into $(VENV)"
	@$(BIN)/python scripts/install.py cpu,local
	@touch $@

$(VENV)/.develops: pyproject.toml constraints.txt scripts/install.py | $(BIN)/python
	@echo "installing everything into $(VENV): torch with its CUDA libraries makes it 5 GB"
	@$(BIN)/python scripts/install.py cpu,local,torch,operator,dev
	@touch $@ $(VENV)/.runs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed: 'sudo apt-get install python3 python3-venv', or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv module is missing: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
