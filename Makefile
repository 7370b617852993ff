# Everything a contributor runs. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Tools are kept outside the clone, so that a fresh clone does not build them again.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/countersign
DENY_VERSION := 0.20.2
DENY := $(TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny

# $(call need,program,package): installs what is missing where that is possible, and else stops with the command that does.
need = command -v $(1) >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update --quiet && apt-get install --quiet --yes $(2); } \
	|| { echo "$(1) is missing; it comes with: apt-get install $(2)" >&2; exit 2; }

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build all programs, development profile
	@$(call need,cc,gcc); $(call need,git,git)
	$(CARGO) build --locked --workspace --bins

.PHONY: demo
demo: build ## Run the shop on a mesh, and show what is allowed and what is not
	@$(TARGET)/debug/shop-demo

.PHONY: test
test: build ## Run unit, property and end-to-end tests
	@$(call need,ssh-keygen,openssh-client); $(call need,gpg,gnupg)
	@$(call need,/usr/lib/postgresql/15/bin/initdb,postgresql-15)
	$(CARGO) test --locked --workspace --no-fail-fast --doc
	$(CARGO) test --locked --workspace --no-fail-fast --lib --bins
	$(CARGO) test --locked --workspace --no-fail-fast --test '*'
	$(CARGO) test --locked --package countersign-ca --features fault-points --test faults

.PHONY: lint
lint: $(DENY) ## Check formatting, lints, licences and banned dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(DENY) --locked check bans licenses sources

# Used a few times a day: built quickly rather than to be quick.
$(DENY):
	@$(call need,cc,gcc)
	$(CARGO) install cargo-deny --locked --version $(DENY_VERSION) --debug --no-default-features --root $(TOOLS)/cargo-deny-$(DENY_VERSION)

.PHONY: bench
bench: ## Measure against nginx and Envoy (installs them where it can)
	$(CARGO) build --locked --release --bins -p countersign-ca -p countersign-control -p countersign-proxy -p countersign-integration
	$(TARGET)/release/countersign-bench

.PHONY: bench-policy
bench-policy: ## Measure policy decisions beside Cedar, Rego and Envoy
	$(CARGO) run --locked --release --manifest-path policy/benches/peers/Cargo.toml --target-dir $(TARGET)

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
