.DEFAULT_GOAL := help
.PHONY: help run plan fashion fashion-train multistage multistage-train compare sweep join dashboard export test lint \
  test-slow exit-speed stage-speed ase-speed unet-speed search-proof metric-speed mlflow dvc dvc-yaml lock clean

SHELL := bash
PYTHON ?= $(shell for v in 3.11 3.12 3.13; do command -v python$$v && break; done || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
ENV ?= local
NETWORK ?= deep
FOLDER ?= exported
RUNS ?= latest~1 latest
# what follows the trained networks, but for every switch of the curves, which takes hours
FASHION := data_preparation,exit_statistics,optimal_denoiser,timestep_clustering,loss_gap,switch_search,evaluation,reporting
MULTISTAGE := data_preparation,optimal_denoiser,multistage
MULTISTAGE_ALL := data_preparation,metric_reference,optimal_denoiser,multistage_training,multistage

# nothing leaves this machine
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export PYTHONWARNINGS := ignore::FutureWarning
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(VENV)/.installed ## the whole experiment; ENV=... chooses another than digits
	@$(BIN)/kedro run --env $(ENV)

plan: $(VENV)/.installed ## what a run comes to, before it: cost, time here, memory, disk, what is missing; ENV=... as above
	@$(BIN)/kedro plan --env $(ENV)

fashion: $(VENV)/.installed ## Fashion-MNIST with the networks in the repository: nothing is trained
	@$(BIN)/kedro run --env fashion_mnist --pipelines $(FASHION)

fashion-train: $(VENV)/.installed ## Fashion-MNIST from the images on: everything is trained and measured anew
	@$(BIN)/kedro run --env fashion_mnist

multistage: $(VENV)/.installed ## multistage U-Nets against others at equal cost, with those in the repository: nothing is trained
	@$(BIN)/kedro run --env fashion_multistage --pipelines $(MULTISTAGE)

multistage-train: $(VENV)/.installed ## the same from the images on, the search of edges included
	@$(BIN)/kedro run --env fashion_multistage --pipelines $(MULTISTAGE_ALL)

compare: $(VENV)/.installed ## tracked runs side by side in one page: RUNS="latest~1 latest"; ENV=... as above
	@$(BIN)/kedro compare --env $(ENV) $(RUNS)

sweep: $(VENV)/.installed ## the experiment for every combination of values: GRID="backbones.shallow.depth=1,3,5"
	@$(BIN)/kedro sweep --env $(ENV) $(GRID)

join: $(VENV)/.installed ## one more worker for the search of a run: ENV=... as that of the run
	@$(BIN)/kedro join --env $(ENV)

dashboard: $(VENV)/.installed ## the trials of the search on http://127.0.0.1:8080: ENV=... as that of the run
	@$(BIN)/kedro dashboard --env $(ENV)

export: $(VENV)/.installed ## a trained network for other programs: NETWORK=deep FOLDER=exported; ENV=... as above
	@$(BIN)/kedro export --env $(ENV) $(NETWORK) $(FOLDER)

test: lint $(VENV)/.installed ## lint, types, import contracts and the fast tests
	@$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/.installed ## lint, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test-slow: $(VENV)/.installed ## the long tests
	@$(BIN)/pytest -m slow

exit-speed: $(VENV)/.installed ## seconds of early exits against their multiply-accumulates
	@$(BIN)/pytest -q -m slow tests/networks/test_exit_speed.py

stage-speed: $(VENV)/.installed ## speed-up of a switch against its multiply-accumulates, at the papers' size
	@$(BIN)/pytest -q -m slow tests/networks/test_stage_speed.py

ase-speed: $(VENV)/.installed ## seconds of fine-tuning for an exit schedule, of running all blocks for all images
	@$(BIN)/pytest -q -m slow tests/networks/test_ase_speed.py

unet-speed: $(VENV)/.installed ## seconds of a training step of the U-Net, with its own FIR filter and with diffusers'
	@$(BIN)/pytest -q -m slow tests/networks/test_unet_speed.py

search-proof: $(VENV)/.installed ## what a search costs and misses, against measuring every candidate: half an hour
	@$(BIN)/pytest -q -m slow tests/search/test_search_proof.py

metric-speed: $(VENV)/.installed ## seconds of the Fréchet distance beside torchmetrics'
	@$(BIN)/pytest -q -m slow tests/metrics/test_distance_speed.py

mlflow: $(VENV)/.installed ## MLflow's pages on http://127.0.0.1:5000
	@$(BIN)/mlflow server --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri sqlite:///$(CURDIR)/mlflow.db

dvc: $(VENV)/.installed ## the experiment through DVC: only the stages that a change touches
	@test -d .git || $(BIN)/dvc config --local core.no_scm true
	@$(BIN)/kedro repro

dvc-yaml: $(VENV)/.installed ## write dvc.yaml anew from pipelines and catalog
	@$(BIN)/python -m duodiff_pipeline.dvc_stages

lock: ## write requirements.lock anew (needs pip-tools)
	@pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --extra dev --unsafe-package torch -o requirements.lock pyproject.toml

clean: ## remove the virtual environment and caches; data and results stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info src/*.egg-info

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing about 230 packages into $(VENV) (2 GB, some minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
