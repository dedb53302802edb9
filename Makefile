# The house's commands. Each one installs what it needs (as root), or says in one line what is missing.

CARGO ?= cargo
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RELEASE := target/$(HOST)/release
STATIC := RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked --release --target $(HOST)
RUN_TOOLS := openssh-server openssh-client rsync sqlite3
# More than there are processors: each scenario waits for a good part of its time.
TEST_THREADS ?= 8
TEST_TOOLS := $(RUN_TOOLS) acl apache2-bin attr btrfs-progs openssl python3-venv util-linux xfsprogs

.PHONY: help demo rust build release test e2e bench lint fmt crds rbac cluster cluster-down

help: ## Show the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: rust ## Replicate real data on the embedded cluster, and show it (KEEP=1 leaves it running)
	@tests/tools/ensure-tools $(RUN_TOOLS) $(if $(filter 0,$(shell id -u)),btrfs-progs,)
	@$(MAKE) --no-print-directory release
	@rclone=$$(tests/tools/fetch-rclone) || rclone=; \
		$(RELEASE)/xtask demo --binary $(RELEASE)/syncline $${rclone:+--rclone "$$rclone"} $(if $(KEEP),--keep,)

rust:
	@command -v $(CARGO) >/dev/null || { echo "error: Rust is missing. Cure: https://rustup.rs, 1.90 or newer" >&2; exit 1; }

build: rust ## Build the programs for development
	$(CARGO) build --locked

release: rust ## Build the static binary
	$(STATIC) --package syncline-cli --package xtask

test: lint ## Everything that needs no real cluster: lints, unit, interop, scenarios
	@tests/tools/ensure-tools $(TEST_TOOLS)
	$(CARGO) build --locked --workspace --all-targets
	KUBECTL="$$(tests/tools/fetch-kubectl)" RCLONE="$$(tests/tools/fetch-rclone)" MOTO_PYTHON="$$(tests/tools/fetch-moto)" RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked --workspace

cluster: rust ## A single-node Kubernetes for tests: builds it once (Go 1.26 or newer), starts it, prints its kubeconfig
	@$(CARGO) build --locked --quiet --package syncline-test-cluster --package syncline-csi-driver
	@kubeconfig=$$(target/debug/test-cluster up) && tools=$$(target/debug/test-cluster tools) && \
		echo "$$kubeconfig" && echo "export KUBECONFIG=$$kubeconfig PATH=$$tools:\$$PATH"

cluster-down: rust ## End it and remove all of it
	@$(CARGO) build --locked --quiet --package syncline-test-cluster
	@target/debug/test-cluster down

e2e: rust ## Everything that needs a real cluster: it is built, started and taken down (KEEP=1 leaves it running)
	@tests/tools/e2e

bench: rust ## Measure the operator on a real cluster and the rclone mover, each beside what it is compared with
	@bench/run

lint: rust ## Formatting, clippy, layers, CRDs, permissions, documentation, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets
	$(CARGO) run --locked --quiet --package xtask -- check-layers
	$(CARGO) run --locked --quiet --package xtask -- crds --check
	$(CARGO) run --locked --quiet --package xtask -- gen-rbac --check
	$(CARGO) run --locked --quiet --package xtask -- check-docs
	$$(tests/tools/ensure-cargo-deny) --locked check bans licenses sources

fmt: ## Format the code
	$(CARGO) fmt --all

crds: ## Generate deploy/crds from the API's types
	$(CARGO) run --locked --quiet --package xtask -- crds

rbac: ## Generate the chart's rules and docs/permissions.md from the operator's permissions
	$(CARGO) run --locked --quiet --package xtask -- gen-rbac
