# Every command of the house. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

CARGO ?= cargo
# The binaries are built alone: a workspace build would turn on the features of the tests.
BINARIES := -p airunner-server -p airunner-cli
VENV := .venv
# How long each fuzzer runs, in seconds, and what watches its memory (`none` where the compiler has no sanitizer).
SECONDS := 60
SANITIZER := address

.PHONY: help build test test-vm terraform-test lint fmt proto-generate docs-generate terraform-generate demo aws-local screens bench soak fuzz clean test-tools terraform-tools lint-tools fuzz-tools

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

build: ## build both binaries into ./bin
	$(CARGO) build --locked --release $(BINARIES)
	@mkdir -p bin
	@target=$$($(CARGO) metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])'); \
	  install -m 0755 "$$target/release/airunner-server" "$$target/release/airunner-cli" bin/
	@echo "bin/airunner-server bin/airunner-cli"

test: test-tools terraform-tools ## install what the tests need and run all of them
	$(CARGO) test --locked --workspace
	tools/test-vm
	tools/check-terraform

test-vm: ## the tests of isolation in virtual machines that have all cgroup controllers
	tools/test-vm

terraform-test: ## Terraform against an emulator of AWS, compose file and Dockerfile
	tools/check-terraform

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

terraform-generate: ## write the tables that Terraform makes anew
	$(CARGO) run --locked -q -p airunner-aws --example tables > infra/terraform/modules/tables/tables.json.new
	mv infra/terraform/modules/tables/tables.json.new infra/terraform/modules/tables/tables.json

demo: build ## the main job, end to end, through the real binaries
	python3 demo/demo.py --bin bin

aws-local: build test-tools ## the demo over DynamoDB, S3, KMS and SSM, in an emulator
	python3 demo/demo.py --bin bin --aws $(VENV)/bin/ministack

screens: build ## draw docs/screens anew, from real runs
	tools/draw-screens --bin bin

bench: build test-tools ## every figure of docs/PERFORMANCE.md
	bench/run
	bench/output.py
	bench/retention.py
	bench/aws $(VENV)/bin/ministack

soak: ## the long forms of the proofs
	AIRUNNER_SOAK_ROUNDS=1000 $(CARGO) test --locked --workspace --test stores kill
	AIRUNNER_TEST_ROUNDS=200 $(CARGO) test --locked --workspace --test faults -- --nocapture

# The compiler is the stable one: it is only told to take the sanitizer's flag, which it otherwise leaves to nightlies.
# What is found stays in fuzz/artifacts (input that fails) and fuzz/found (input that reaches new code).
fuzz: fuzz-tools ## run each fuzzer for SECONDS=60
	@export RUSTC_BOOTSTRAP=1; \
	  $(CARGO) fuzz build --fuzz-dir fuzz --sanitizer $(SANITIZER); \
	  for target in $$($(CARGO) fuzz list --fuzz-dir fuzz); do \
	    mkdir -p "fuzz/found/$$target"; \
	    echo "== $$target, $(SECONDS) s"; \
	    $(CARGO) fuzz run --fuzz-dir fuzz --sanitizer $(SANITIZER) "$$target" "fuzz/found/$$target" "fuzz/corpus/$$target" \
	      -- -max_total_time=$(SECONDS) -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 -print_funcs=0 -verbosity=0; \
	  done

clean: ## remove what was built
	$(CARGO) clean
	rm -rf bin $(VENV)

# What the tests run beside cargo: other people's tools, against which ours are checked.
test-tools:
	@tools/install-test-tools $(VENV)

terraform-tools:
	@tools/install-terraform-tools $(VENV)

fuzz-tools:
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz

lint-tools:
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	@$(CARGO) fetch --locked --quiet
