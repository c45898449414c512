# One command each; `make help` lists them. Everything runs from .venv, which the first call makes.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help repro paper-in-miniature multiply-adds test kill-test check format ui show checkout \
	publish preset export export-split submission predict drop-classifier \
	setup setup-tensorflow import-checkpoint bench bench-setup lock

PYTHON ?= python3
PORT ?= 5000
KILLS ?= 20
WORKERS ?= 2
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONPATH
# GNU make 3.81, which macOS has, looks for commands in the PATH of old, but for a shell of ours.
SHELL := bash

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-26s %s\n", $$1 ($$1 == "preset" ? " NAME=..." : $$1 == "export-split" ? " SPLIT=... OUT=..." : $$1 ~ /^(export|submission)$$/ ? " ROW=..." : $$1 ~ /^(show|checkout)$$/ ? " RUN=..." : $$1 == "predict" ? " CHECKPOINT=... IMAGES=..." : $$1 == "drop-classifier" ? " CHECKPOINT=... OUT=..." : ""), $$2}' Makefile

repro: setup ## run the pipeline that params.yaml describes, and print its table
	dvc repro
	@echo
	@cat report/table.txt
	@echo
	@echo "The page with pictures and curves:  report/index.html"
	@echo "The runs in MLflow:                 make ui"
	@grep -qs '^  v3_os16:' params.yaml \
		&& echo "Change a number, run what it moves: dvc exp run -S rows.v3_os16.inference.flip=true" || true

multiply-adds: setup ## prove the networks by the paper's Multiply-Adds
	@python -m pipeline.cost paper.yaml presets/voc.yaml presets/cityscapes.yaml presets/zoo.yaml presets/zoo-cityscapes.yaml

# Threads of torch that wait for each other asleep leave the processor to the other tests.
test: setup ## pass the tests, 2 files at a time; WORKERS=...
	OMP_WAIT_POLICY=passive pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

kill-test: setup ## kill a training at 20 random points; KILLS=...
	DEEPLAB_KILLS=$(KILLS) pytest tests/test_resume.py -k random

check: setup ## ruff format, ruff, mypy strict
	ruff format --check
	ruff check
	mypy

format: setup ## format the code and sort its imports
	ruff format
	ruff check --fix

ui: setup ## MLflow UI on 127.0.0.1, port 5000 or PORT=...
	python -m pipeline.tracking params.yaml $(PORT)

show: setup ## what a run was, and where its state is; an id or a row's or model's key
	@test -n "$(RUN)" || { echo "error: RUN=... is needed: an id of MLflow, a key of rows or models, or an experiment of DVC"; exit 1; }
	@python -m pipeline.tracking.show params.yaml "$(RUN)"

checkout: setup ## bring code, params and outs back to the state of a run
	@test -n "$(RUN)" || { echo "error: RUN=... is needed: an id of MLflow, or a key that one run has; make show RUN=... lists them"; exit 1; }
	@python -m pipeline.tracking.checkout params.yaml "$(RUN)"

publish: setup ## page and MLflow of what was run so far, or of what dvc pull brought
	@python -m pipeline.tracking.so_far params.yaml

preset: ## take presets/NAME.yaml as params.yaml
	@test -f "presets/$(NAME).yaml" || { echo "error: NAME=$(NAME) is not one of: $(basename $(notdir $(wildcard presets/*.yaml)))"; exit 1; }
	@git diff --quiet HEAD -- params.yaml \
		|| git hash-object presets/*.yaml | grep -q "$$(git hash-object params.yaml)" \
		|| { echo "error: params.yaml has changes that no commit and no preset holds; commit or restore it first"; exit 1; }
	cp "presets/$(NAME).yaml" params.yaml

paper-in-miniature: setup ## rows of six of the paper's tables in miniature; takes that preset
	@$(MAKE) --no-print-directory preset NAME=paper-in-miniature
	dvc repro
	@echo
	@cat report/table.txt
	@echo
	@echo "The page, ours beside the paper's:  report/index.html"
	@echo "Back to the miniature:              make preset NAME=miniature"

export: setup ## write ROW's network as exports/ROW.onnx, held to predict
	@test -n "$(ROW)" || { echo "error: ROW=... is needed, a key of rows in params.yaml; a split is written by export-split"; exit 1; }
	@python -m pipeline.exporting params.yaml "$(ROW)" checkpoints exports

export-split: setup ## write SPLIT (a data/*.arrow) as a folder OUT like VOC's
	@test -n "$(SPLIT)" -a -n "$(OUT)" || { echo "error: SPLIT=data/....arrow and OUT=folder are needed"; exit 1; }
	python -m pipeline.export_split "$(SPLIT)" "$(OUT)"

predict: setup ## label maps of your own pictures, to OUT=...
	@test -n "$(CHECKPOINT)" -a -n "$(IMAGES)" -a -n "$(OUT)" || { echo "error: CHECKPOINT=file.safetensors, IMAGES=folder and OUT=folder are needed"; exit 1; }
	@python -m pipeline.pictures "$(CHECKPOINT)" "$(IMAGES)" "$(OUT)" "$(or $(MAX_SIDE),2049)" params.yaml "$(ROW)"

drop-classifier: setup ## a checkpoint as the start of a training on other classes
	@test -n "$(CHECKPOINT)" -a -n "$(OUT)" || { echo "error: CHECKPOINT=file.safetensors and OUT=file.safetensors are needed"; exit 1; }
	@python -m pipeline.drop_classifier "$(CHECKPOINT)" "$(OUT)"

submission: setup ## what the server of VOC or Cityscapes takes, of a submission or a row
	@test -n "$(ROW)" || { echo "error: ROW=... is needed, a key of submissions or of rows in params.yaml"; exit 1; }
	@if dvc stage list --name-only | grep -qxF "submission@$(ROW)"; \
		then dvc repro "submission@$(ROW)" && ls -l submissions/"$(ROW)"/results.*; \
		else python -m pipeline.submission params.yaml "$(ROW)" predictions submissions; \
	fi

setup: .venv/installed

# uv is pinned in the lock with the rest; pip serves to fetch uv alone.
.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"error: Python >= 3.11 is needed, {sys.executable} is {sys.version.split()[0]}")'
	.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)"
	uv pip sync --quiet --python .venv/bin/python requirements.lock
	touch $@

setup-tensorflow: setup ## add TensorFlow, which reads the authors' checkpoints
	uv pip install --quiet --python .venv/bin/python --require-hashes --requirement requirements-tensorflow.lock

import-checkpoint: setup ## TensorFlow checkpoint TAR=... to OUT=..., LOGITS=drop without logits
	@test -n "$(TAR)" -a -n "$(OUT)" || { echo "error: TAR=archive.tar.gz and OUT=file.safetensors are needed"; exit 1; }
	@python -m pipeline.importing "$(TAR)" "$(OUT)" "$(or $(LOGITS),keep)"

bench-setup: setup ## add the libraries that bench/ measures beside ours
	uv pip install --quiet --python .venv/bin/python --require-hashes --requirement requirements-bench.lock

bench: bench-setup ## measure ours beside the peers; each takes some minutes
	@status=0; for arguments in "loading" "preparing" "train_step" "train_step --backbone xception65" "evaluation" "tracking"; do \
		echo; echo "python -m bench.$$arguments"; python -m bench.$$arguments || status=1; \
	done; exit $$status

lock: ## pin the newest versions that pyproject.toml allows
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
		--no-annotate --no-header --group dev pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
		--no-annotate --no-header --constraint requirements.lock --group tensorflow \
		--output-file requirements-tensorflow.lock
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
		--no-annotate --no-header --constraint requirements.lock --group bench \
		--output-file requirements-bench.lock
