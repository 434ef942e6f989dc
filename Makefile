# Every command of the house. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

CARGO ?= cargo
# The binaries are built alone: a workspace build would turn on the features of the tests.
BINARIES := -p airunner-server -p airunner-cli
VENV := .venv

.PHONY: help build test lint fmt proto-generate docs-generate demo screens bench soak clean test-tools lint-tools

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## build both binaries into ./bin
	$(CARGO) build --locked --release $(BINARIES)
	@mkdir -p bin
	@target=$$($(CARGO) metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])'); \
	  install -m 0755 "$$target/release/airunner-server" "$$target/release/airunner-cli" bin/
	@echo "bin/airunner-server bin/airunner-cli"

test: test-tools ## install what the tests need and run all of them
	$(CARGO) test --locked --workspace

lint: test-tools lint-tools ## formatting, clippy, the API's definition, licences and bans
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	tools/check-proto
	$(CARGO) deny --offline --locked check bans licenses sources

fmt: test-tools ## format the code and the API's definition
	$(CARGO) fmt --all
	$(VENV)/bin/buf format --write proto --path proto/airunner

proto-generate: ## write proto/descriptor.binpb anew
	$(CARGO) run --locked -q -p airunner-proto --example descriptor-set > proto/descriptor.binpb.new
	mv proto/descriptor.binpb.new proto/descriptor.binpb

docs-generate: ## write docs/errors.md and docs/openapi.json anew
	$(CARGO) run --locked -q -p airunner-server --example errors > docs/errors.md.new
	mv docs/errors.md.new docs/errors.md
	$(CARGO) run --locked -q -p airunner-server --example openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

demo: build ## the main job, end to end, through the real binaries
	python3 demo/demo.py --bin bin

screens: build ## draw docs/screens anew, from real runs
	tools/draw-screens --bin bin

bench: build ## every figure of docs/PERFORMANCE.md
	bench/run

soak: ## the long forms of the proofs
	AIRUNNER_SOAK_ROUNDS=1000 $(CARGO) test --locked -p airunner-store --test stores kill

clean: ## remove what was built
	$(CARGO) clean
	rm -rf bin $(VENV)

# What the tests run beside cargo: other people's tools, against which ours are checked.
test-tools:
	@tools/install-test-tools $(VENV)

lint-tools:
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	@$(CARGO) fetch --locked --quiet
