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
INSTALLED := $(VENV)/installed
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(if $(shell \
	$(name) -c 'import sys; print((3, 11) <= sys.version_info[:2] < (3, 14) or "")' 2>/dev/null),$(name))))

# Our own Ray alone: what is set for another cluster is not for us, nor a folder whose path is too long for sockets.
unexport RAY_ADDRESS RAY_API_SERVER_ADDRESS RAY_TMPDIR RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: setup quickstart play test lint stop chromium prometheus help audit

help: ## show the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED) ## install everything into .venv

$(INSTALLED): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or run make PYTHON=/path/to/python3" >&2; exit 1; fi
	@uv=$$(command -v uv || true); \
	if [ -z "$$uv" ] || ! "$$uv" --version >/dev/null 2>&1; then \
		uv=$(CURDIR)/$(TOOLS)/bin/uv; \
		[ -x "$$uv" ] || "$(PYTHON)" -m pip install --quiet --target $(TOOLS) uv; \
	fi; \
	[ -x $(BIN)/python ] || "$$uv" venv --quiet --python "$(PYTHON)" $(VENV); \
	echo "installing the packages of constraints.txt into $(VENV)"; \
	"$$uv" pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[test]'
	@touch $@

quickstart: setup ## record, train, score and serve a game, all on this machine
	@$(BIN)/python -m jobs.pipeline --config $(CONFIG) storage="$(STORAGE)"

play: setup ## play the network that comes with this repository; GAME=doom, MODEL=distilled
	@$(BIN)/python -m jobs.play game="$(GAME)" model="$(MODEL)" storage="$(STORAGE)"

test: setup chromium prometheus ## run every test
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup ## check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

audit: setup ## known vulnerabilities of the packages in constraints.txt, as the Python registry knows them
	@uv=$$(command -v uv || echo $(CURDIR)/$(TOOLS)/bin/uv); "$$uv" tool run pip-audit --strict --disable-pip --no-deps -r constraints.txt

stop: ## end the game and the Ray that quickstart or play started
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m gamengen.local_head stop; else echo "nothing of ours runs"; fi

# $(call debian,package,its commands,the tests that are skipped without): install it where this may be done
define debian
	@if command -v $(2) >/dev/null; then exit 0; fi; \
	sudo=""; if [ "$$(id -u)" != 0 ]; then sudo="sudo -n"; fi; \
	if ! command -v apt-get >/dev/null || ! $$sudo true 2>/dev/null; then \
		echo "no $(1): $(3) are skipped. Install it (Debian: apt-get install $(1))."; exit 0; \
	fi; \
	echo "installing $(1) for $(3)"; \
	($$sudo apt-get -qq update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(1)) >/dev/null \
		|| echo "$(1) could not be installed: $(3) are skipped."
endef

chromium: # the tests of the page and of the real dinosaur game
	$(call debian,chromium,chromium chromium-browser google-chrome,the browser tests)

prometheus: # the tests of dashboards and alerts; Debian starts it as a service where it has one, which is no use to us
	$(call debian,prometheus,prometheus,the tests of dashboards and alerts)
