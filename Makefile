# Everything a contributor runs. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# The fuzz targets are built by `make fuzz` alone: they need the laws, which are in no other build.
WORKSPACE := --workspace --exclude countersign-fuzz
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
	$(CARGO) build --locked $(WORKSPACE) --bins

.PHONY: demo
demo: build ## Run the shop on a mesh, and show what is allowed and what is not
	@$(TARGET)/debug/shop-demo

# Its version is that of integration/kubernetes/go.mod.
KUBERNETES_VERSION := 1.36.3
KUBE_APISERVER := $(TOOLS)/kubernetes-$(KUBERNETES_VERSION)/kube-apiserver

.PHONY: kubernetes
kubernetes: $(KUBE_APISERVER) ## Build the kube-apiserver of the tests (once: some minutes), and install etcd
	@$(call need,etcd,etcd-server)

$(KUBE_APISERVER):
	@$(call need,go,golang-go)
	integration/kubernetes/build $(KUBERNETES_VERSION) $@

# Its version is that of integration/oidc-provider/package.json.
OIDC_PROVIDER := $(TOOLS)/oidc-provider-9.13.3

.PHONY: oidc-provider
oidc-provider: $(OIDC_PROVIDER)/node_modules ## Fetch the OpenID provider of the tests
	@$(call need,node,nodejs)

$(OIDC_PROVIDER)/node_modules: integration/oidc-provider/package-lock.json
	@$(call need,npm,npm)
	mkdir -p $(TOOLS)
	rm -rf $(OIDC_PROVIDER).new && mkdir $(OIDC_PROVIDER).new
	cp integration/oidc-provider/package*.json $(OIDC_PROVIDER).new
	npm ci --prefix $(OIDC_PROVIDER).new --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $(OIDC_PROVIDER).new/node_modules
	rm -rf $(OIDC_PROVIDER) && mv $(OIDC_PROVIDER).new $(OIDC_PROVIDER)

KEYCLOAK_VERSION := 26.4.0
KEYCLOAK := $(TOOLS)/keycloak-$(KEYCLOAK_VERSION)
MAVEN_COPY := org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy

.PHONY: keycloak
keycloak: $(KEYCLOAK) ## Fetch the Keycloak of the tests (160 MB, once)

$(KEYCLOAK):
	@$(call need,mvn,maven); $(call need,java,openjdk-17-jre-headless); $(call need,unzip,unzip)
	mkdir -p $(TOOLS)
	rm -rf $@.new && mkdir $@.new
	mvn --batch-mode --quiet $(MAVEN_COPY) -Dmdep.useBaseVersion=true -DoutputDirectory=$@.new \
		-Dartifact=org.keycloak:keycloak-quarkus-dist:$(KEYCLOAK_VERSION):zip
	cd $@.new && unzip -q *.zip && keycloak-*/bin/kc.sh build --db=dev-mem --health-enabled=false >/dev/null
	mv $@.new/keycloak-$(KEYCLOAK_VERSION) $@ && rm -rf $@.new

# Its version is that of integration/step-ca/go.mod. It talks to smart cards, and so needs their library to be built.
STEP_CA_VERSION := 0.30.2
STEP_CA := $(TOOLS)/step-ca-$(STEP_CA_VERSION)/step-ca

.PHONY: step-ca
step-ca: $(STEP_CA) ## Build the step-ca that the CA is compared with (once: some minutes)

$(STEP_CA):
	@$(call need,go,golang-go); $(call need,pkg-config,pkg-config)
	@pkg-config --exists libpcsclite || { [ "$$(id -u)" = 0 ] && apt-get install --quiet --yes libpcsclite-dev; } \
		|| { echo "libpcsclite is missing; it comes with: apt-get install libpcsclite-dev" >&2; exit 2; }
	integration/step-ca/build $(STEP_CA_VERSION) $@

# What tests need besides this workspace. Built beside the programs, since neither waits for the other.
.PHONY: test-tools
test-tools: kubernetes oidc-provider keycloak

.PHONY: test
test: ## Run unit, property and end-to-end tests
	@$(call need,ssh-keygen,openssh-client); $(call need,gpg,gnupg); $(call need,python3,python3 python3-venv)
	@$(call need,openssl,openssl); $(call need,softhsm2-util,softhsm2); $(call need,pkcs11-tool,opensc)
	@$(call need,/usr/lib/postgresql/15/bin/initdb,postgresql-15)
	@$(call need,etcd,etcd-server); $(call need,kubectl,kubernetes-client); $(call need,go,golang-go); $(call need,npm,npm)
	@$(call need,mvn,maven); $(call need,java,openjdk-17-jre-headless); $(call need,unzip,unzip)
	@$(MAKE) --no-print-directory test-tools & tools=$$!; \
	$(MAKE) --no-print-directory build || { kill $$tools; exit 1; }; wait $$tools
	@# Long enough to see that every target works. A search takes longer: `make fuzz`.
	$(MAKE) --no-print-directory fuzz TIME=2
	$(CARGO) test --locked $(WORKSPACE) --no-fail-fast --doc
	$(CARGO) test --locked $(WORKSPACE) --no-fail-fast --lib --bins
	$(CARGO) test --locked $(WORKSPACE) --no-fail-fast --test '*'
	$(CARGO) test --locked --package countersign-ca --features fault-points --test faults

FUZZ_TARGETS := $(patsubst fuzz/targets/%.rs,%,$(wildcard fuzz/targets/*.rs))
# Seconds for each target.
TIME ?= 60

.PHONY: fuzz
fuzz: ## Run every fuzz target for TIME seconds (60), or those named by FUZZ_TARGETS
	@$(call need,c++,g++)
	CARGO_INCREMENTAL=0 RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/fuzz/instrument $(CARGO) build --locked --package countersign-fuzz --bins
	@for target in $(FUZZ_TARGETS); do \
		found=$(abspath $(TARGET))/fuzz/$$target; mkdir -p $$found/corpus; \
		( cd $$found && ../../debug/fuzz-$${target//_/-} -max_total_time=$(TIME) -max_len=4096 -timeout=20 -rss_limit_mb=4096 \
			-print_final_stats=1 corpus $(CURDIR)/fuzz/seeds/$$target >log 2>&1 ) \
			|| { tail -n 50 $$found/log; echo "fuzz $$target: a law is broken; the input is in $$found" >&2; exit 1; }; \
		echo "fuzz $$target: $$(sed -n 's/^stat::number_of_executed_units: *//p' $$found/log) inputs in $(TIME) s, no law broken"; \
	done

.PHONY: lint
lint: $(DENY) ## Check formatting, lints, licences and banned dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked $(WORKSPACE) --all-targets -- -D warnings
	$(DENY) --locked check bans licenses sources

# Used a few times a day: built quickly rather than to be quick.
$(DENY):
	@$(call need,cc,gcc)
	$(CARGO) install cargo-deny --locked --version $(DENY_VERSION) --debug --no-default-features --root $(TOOLS)/cargo-deny-$(DENY_VERSION)

.PHONY: bench
bench: ## Measure against nginx and Envoy (installs them where it can)
	$(CARGO) build --locked --release --bins -p countersign-ca -p countersign-control -p countersign-proxy -p countersign-integration
	$(TARGET)/release/countersign-bench

.PHONY: bench-ca
bench-ca: step-ca ## Measure the CA beside this machine's rate of signatures and step-ca, and 10,000 sidecars at once
	$(CARGO) build --locked --release --bins -p countersign-ca -p countersign-proxy -p countersign-integration
	$(TARGET)/release/countersign-bench-ca --step-ca $(STEP_CA)
	$(CARGO) test --locked --release --package countersign-ca --bins -- --ignored --nocapture --test-threads 1 issue::speed

.PHONY: bench-policy
bench-policy: ## Measure policy decisions, by themselves and beside Cedar, Rego and Envoy
	$(CARGO) build --locked --release --package countersign --bin countersign
	$(CARGO) run --locked --release --manifest-path policy/benches/peers/Cargo.toml --target-dir $(TARGET)

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
