# Every command. `make` lists them; a fresh machine needs Python 3.11 or newer and make.
.DEFAULT_GOAL := help
SHELL := /bin/sh
# The distribution's interpreter, where it will do: one that was compiled on the machine is slower
# (docs/decisions/0108). Another: make … PYTHON=python3.12
FITS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell /usr/bin/python3 -c '$(FITS)' 2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
SERVICES := auth keyvault chat voice billing
UV := $(BIN)/uv
OPENAPI ?= openapi
# Trust what the machine trusts, where it says so: a proxy may sign with an authority of its own.
AUTHORITIES := $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem \
	/etc/pki/tls/certs/ca-bundle.crt))
export UV_SYSTEM_CERTS ?= $(if $(AUTHORITIES),true,false)
export NODE_EXTRA_CA_CERTS ?= $(AUTHORITIES)
LOCK = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--no-annotate --python-version 3.11 --custom-compile-command "make lock"
# The kits of transit and KMS: for keyvault's image and the operators'.
KEY_SERVICES := --extra keyvault-kms --extra keyvault-vault

.PHONY: help setup run down status demo test chaos check format lint types contracts lock \
	bench doctor compose compose-sandbox drill images images-test legacy proof proof-short proof-kubernetes manifests up migrate openapi clean

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Two states of one environment: what running needs, and what developing needs beside it.
$(BIN)/uv: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/bootstrap.txt
	@touch $@

$(VENV)/.running: $(BIN)/uv requirements/embedded.txt pyproject.toml
	@echo "Installing what running needs ..."
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/embedded.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.running requirements/development.txt deploy/legacy/package-lock.json
	@echo "Installing what developing needs ..."
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/development.txt
	@cd deploy/legacy && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --silent \
		|| echo "What deploy/legacy needs can't be had here; its tests are left out."
	@touch $@

setup: $(VENV)/.developing ## install everything for developing

run: $(VENV)/.running ## run the whole suite; SANDBOX=1 uses simulated vendors; Ctrl-C stops it
	@exec $(BIN)/companion up

down: $(VENV)/.running ## stop a suite that runs in another terminal
	@$(BIN)/companion down

status: $(VENV)/.running ## what runs, on which ports
	@$(BIN)/companion status

migrate: $(VENV)/.running ## databases and queues at DATABASE_URL and BROKER_URL, else of the running suite
	@$(BIN)/companion migrate

demo: $(VENV)/.running ## the tour, against a running suite
	@$(BIN)/companion demo

doctor: $(VENV)/.running ## what is wrong here, or with the running suite
	@$(BIN)/companion doctor

drill: $(VENV)/.running ## back the running sandbox up, restore it beside, prove that nothing is lost
	@$(BIN)/companion backup drill

test: $(VENV)/.developing ## the tests, on real engines, in three processes
	@$(BIN)/python -m pytest -n 3 -m "not slow and not docker" --durations 20

chaos: $(VENV)/.developing ## the slow tests: stalled engines, pools of chat under a flood
	@$(BIN)/python -m pytest -m slow

check: lint types contracts ## format, lint, types, import contracts

format: $(VENV)/.developing ## rewrite the code in its one format
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format --quiet .

lint: $(VENV)/.developing
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.developing
	@$(BIN)/mypy services shared deploy tests bench

contracts: $(VENV)/.developing
	@$(BIN)/lint-imports

images: $(VENV)/.developing ## pull or make every image of the compose file, with sizes
	@mkdir -p .companion
	@$(BIN)/python -m deploy.images --env .companion/images.env

images-test: images ## what is in the images, and that they run locked down
	@$(BIN)/python -m pytest -m docker tests/docker/test_images.py

up: ## the suite in containers: make secrets, images and .env first (docs/compose.md)
	@docker compose up --detach --wait

compose: up

compose-sandbox: ## the same with simulated vendors
	@docker compose -f docker-compose.yml -f deploy/compose/sandbox.yml up --detach --wait

proof: $(VENV)/.developing ## the deployment on a real Docker engine: built, scaled, broken, and its books compared
	@$(BIN)/python -m deploy.proof

proof-short: $(VENV)/.developing ## the same with three faults
	@$(BIN)/python -m deploy.proof --short

proof-kubernetes: $(VENV)/.developing ## the same where kubectl points: the overlay `development` runs there; URL= of its gateway
	@$(BIN)/python -m deploy.proof.cluster $(if $(URL),--url $(URL))

legacy: $(VENV)/.developing ## the older Express service's own tests
	@cd deploy/legacy && PATH="$(CURDIR)/$(BIN):$$PATH" npm test --silent

openapi: $(VENV)/.developing ## each service's OpenAPI document, into OPENAPI=openapi
	@$(BIN)/python -m deploy.openapi $(OPENAPI)

manifests: $(VENV)/.developing ## write the Kubernetes manifests anew from the tables
	@$(BIN)/python -m deploy.k8s.render

bench: $(VENV)/.developing ## the benchmarks of turns, streams, speech, sign-ins, key use, the ledger and tier pools, as tables
	@$(BIN)/python -m bench.turn
	@$(BIN)/python -m bench.streams
	@$(BIN)/python -m bench.voice
	@$(BIN)/python -m bench.sign_in
	@$(BIN)/python -m bench.key_use
	@$(BIN)/python -m bench.keyvault
	@$(BIN)/python -m bench.ledger
	@$(BIN)/python -m bench.pools

lock: $(BIN)/uv ## resolve the dependencies anew, with hashes
	@$(LOCK) --all-extras pyproject.toml -o requirements/development.txt
	@for name in $(SERVICES); do \
		$(LOCK) --extra $$name --extra tracing -c requirements/development.txt pyproject.toml \
			-o requirements/$$name.txt || exit 1; done
	@$(LOCK) --extra voice --extra voice-offline --extra tracing -c requirements/development.txt \
		pyproject.toml -o requirements/voice-offline.txt
	@$(LOCK) --extra keyvault $(KEY_SERVICES) -c requirements/development.txt pyproject.toml \
		-o requirements/key-services.txt
	@$(LOCK) --extra auth --extra keyvault --extra tools $(KEY_SERVICES) -c requirements/development.txt \
		pyproject.toml -o requirements/tools.txt
	@$(LOCK) $(foreach name,$(SERVICES) embedded,--extra $(name)) \
		-c requirements/development.txt pyproject.toml -o requirements/embedded.txt
	@echo uv | $(LOCK) - -o requirements/bootstrap.txt
	@echo cyclonedx-python-lib | $(LOCK) -c requirements/development.txt - -o requirements/images.txt

clean: ## remove the environment and caches; the data in .companion stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
