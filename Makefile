# Every target makes the virtual environment it needs; nothing is installed outside .venv.
PYTHON ?= python3
PIP := .venv/bin/pip --disable-pip-version-check
SOURCES := pyproject.toml $(wildcard recjpq/native/* training/native/*)
# What the demo passes to `recjpq-train all`, such as DEMO_TRAIN="--set train.max_epochs=2 --force".
DEMO_TRAIN ?=
# What `make bench` is told, such as BENCH="--artifact DIR --dataset DIR --docs"; see `--help`.
BENCH ?=

# What `make test` tells pytest: two files at a time, since half of the tests wait for a process, a store or a
# deadline. One file alone: make test TEST=tests/service/test_workers.py
TEST = -n 2 --dist loadfile

# What `make stack` is told, such as STACK="--without grafana --keep".
STACK ?=

.DEFAULT_GOAL := help
.PHONY: help install demo serve test browser check stack bench bench-service clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed-training ## install what trains and serves into .venv

demo: .venv/.installed-training ## train on MovieLens-100K, then serve at http://127.0.0.1:8000
	.venv/bin/recjpq-train download runs/demo/data
	.venv/bin/recjpq-train all --config training/configs/demo.toml $(DEMO_TRAIN)
	@echo 'serving at http://127.0.0.1:8000 (Ctrl-C ends it); try:'
	@echo "  curl -s localhost:8000/recommend -d '{\"history\": [\"50\", \"172\", \"174\"], \"k\": 10}'"
	RECJPQ_MODEL_PATH=runs/demo/artifacts .venv/bin/recjpq-serve

serve: .venv/.installed-serving ## serve the newest artifact of RECJPQ_MODEL_PATH
	.venv/bin/recjpq-serve

test: .venv/.installed-dev ## every test
	.venv/bin/pytest $(TEST)

browser: .venv/.installed-dev ## fetch a Chromium for the tests of the page, which are skipped without one
	.venv/bin/python -m playwright install chromium

check: .venv/.installed-dev ## format, lint and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

stack: ## check all that docker-compose.yml promises, as a project of its own; needs a container engine
	$(PYTHON) -m deploy.check_compose $(STACK)

bench: .venv/.installed-dev ## exact top-k: validate, then measure beside other methods
	.venv/bin/python -m benchmarks.scoring $(BENCH)

bench-service: .venv/.installed-dev ## the service under open-loop load, beside scoring in the ONNX graph
	.venv/bin/python -m benchmarks.service $(BENCH)

clean: ## remove the virtual environment and build products
	rm -rf .venv build dist

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"found Python {v[0]}.{v[1]}, expected 3.11 or later; run: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv

.venv/.installed-serving: .venv/bin/python $(SOURCES)
	$(PIP) install --quiet --editable '.[cpu]'
	@touch $@

.venv/.installed-training: .venv/bin/python $(SOURCES)
	@echo 'installing PyTorch, ONNX Runtime and this project into .venv (a minute or two)'
	$(PIP) install --quiet --editable '.[cpu,training]'
	@touch $@ .venv/.installed-serving

.venv/.installed-dev: .venv/bin/python $(SOURCES)
	@echo 'installing everything for development into .venv (a minute or two)'
	$(PIP) install --quiet --editable '.[cpu,training,bench,dev]'
	@touch $@ .venv/.installed-training .venv/.installed-serving
