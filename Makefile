# Every target needs nothing before it: Python 3.11 to 3.13 with pip, and nothing else that is not installed here.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CONFIG ?= configs/quickstart.yaml
STORAGE ?= $(CURDIR)/runs
GAME ?= chrome_dino
MODEL ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
TOOLS := build/tools
PROMETHEUS := $(CURDIR)/$(TOOLS)/prometheus/usr/bin
AUDITOR ?= $(or $(shell command -v uv),$(TOOLS)/bin/uv) tool run pip-audit
INSTALLED := $(VENV)/installed
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(if $(shell \
	$(name) -c 'import sys; print((3, 11) <= sys.version_info[:2] < (3, 14) or "")' 2>/dev/null),$(name))))

# Our own Ray alone: what is set for another cluster is not for us, nor a folder whose path is too long for sockets.
unexport RAY_ADDRESS RAY_API_SERVER_ADDRESS RAY_TMPDIR RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: setup quickstart play test slow lint stop chromium prometheus help audit

help: ## show the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED) ## install everything into .venv

# --seed: with the environment activated, pip has to be its own, not the machine's.
$(INSTALLED): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or run make PYTHON=/path/to/python3" >&2; exit 1; fi
	@uv=$$(command -v uv || true); \
	if [ -z "$$uv" ] || ! "$$uv" --version >/dev/null 2>&1; then \
		uv=$(CURDIR)/$(TOOLS)/bin/uv; \
		[ -x "$$uv" ] || "$(PYTHON)" -m pip install --quiet --target $(TOOLS) uv; \
	fi; \
	[ -x $(BIN)/python ] || "$$uv" venv --quiet --seed --python "$(PYTHON)" $(VENV); \
	echo "installing the packages of constraints.txt into $(VENV)"; \
	"$$uv" pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[test]'
	@touch $@

quickstart: setup ## record, train, score and serve a game, all on this machine
	@$(BIN)/python -m jobs.pipeline --config $(CONFIG) storage="$(STORAGE)"

play: setup ## play the network that comes with this repository; GAME=<folder of gamengen/weights>, MODEL=distilled
	@$(BIN)/python -m jobs.play game="$(GAME)" model="$(MODEL)" storage="$(STORAGE)"

test: setup chromium prometheus ## run the tests, but for the slow ones
	@PATH="$(PROMETHEUS):$$PATH" $(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

slow: setup chromium prometheus ## run the slow tests: whole runs, killed machines, networks at full size
	@PATH="$(PROMETHEUS):$$PATH" $(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: setup ## check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

audit: setup ## known vulnerabilities of the packages in constraints.txt, as the Python registry knows them
	@status=0; said=$$($(AUDITOR) --strict --disable-pip --no-deps --progress-spinner off -r constraints.txt 2>&1) || status=$$?; \
	if [ $$status = 0 ] || grep -q "^Found .* vulnerabilit" <<<"$$said"; then echo "$$said"; exit $$status; fi; \
	echo "error: the audit did not come to its end (is the registry within reach?): $$(tail -n 1 <<<"$$said")" >&2; exit 2

stop: ## end the game and the Ray that quickstart or play started
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m gamengen.local_head stop; else echo "nothing of ours runs"; fi

chromium: # the browser for the tests of the page and of the real dinosaur game; they are skipped without
	@if command -v chromium chromium-browser google-chrome >/dev/null; then exit 0; fi; \
	sudo=""; if [ "$$(id -u)" != 0 ]; then sudo="sudo -n"; fi; \
	if ! command -v apt-get >/dev/null || ! $$sudo true 2>/dev/null; then \
		echo "no Chromium: the browser tests are skipped. Install it (Debian: apt-get install chromium)."; exit 0; \
	fi; \
	echo "installing Chromium for the browser tests"; \
	($$sudo apt-get -qq update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium) >/dev/null \
		|| echo "Chromium could not be installed: the browser tests are skipped."

prometheus: # for the tests of dashboards and alerts; unpacked, not installed: Debian's package starts a service
	@if command -v prometheus >/dev/null || [ -x $(PROMETHEUS)/prometheus ]; then exit 0; fi; \
	skipped="the tests of dashboards and alerts are skipped. Install it (Debian: apt-get install prometheus)."; \
	if ! command -v apt-get >/dev/null; then echo "no Prometheus: $$skipped"; exit 0; fi; \
	echo "unpacking Prometheus for the tests of dashboards and alerts"; \
	sudo=""; if [ "$$(id -u)" != 0 ]; then sudo="sudo -n"; fi; \
	mkdir -p $(TOOLS)/prometheus; cd $(TOOLS)/prometheus; \
	(apt-get -qq download prometheus || ($$sudo apt-get -qq update && apt-get -qq download prometheus)) >/dev/null 2>&1 \
		&& dpkg -x prometheus_*.deb . && rm prometheus_*.deb || echo "Prometheus could not be unpacked: $$skipped"
