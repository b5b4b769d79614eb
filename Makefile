# Everything that a developer or CI runs. `make help` lists the targets.

GO            ?= go
GOLANGCI      := v2.15.0
PKG           := github.com/peersignal/peersignal
VERSION       ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS       := -s -w -X $(PKG)/internal/buildinfo.Version=$(VERSION)
FUZZTIME      ?= 1s
RACE_PACKAGES := ./pkg/... ./internal/...

GOFLAGS += -buildvcs=false
export GOFLAGS

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## static binaries in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: demo
demo: ## a server and two daemons meet and sync a group; KEEP=1 leaves them running
	@$(MAKE) --no-print-directory build
	@$(GO) run ./test/demo -bin bin $(if $(KEEP),-keep)

.PHONY: test
test: vet build ## everything that CI runs: vet, tests with the race detector, end-to-end tests, short fuzzing; TRIES=2: what fails is tested again
	$(GO) run ./test/again -race -timeout 30m $(RACE_PACKAGES)
	$(GO) run ./test/again -timeout 30m ./cmd/...
	$(GO) run ./test/again -count=1 -timeout 30m ./test/... # they run programs, which the cache does not see
	$(GO) run ./test/nat -bin bin -short -tries $(or $(TRIES),1)
	@FUZZTIME=$(FUZZTIME) $(GO) run ./test/fuzz

.PHONY: e2e-nat
e2e-nat: build ## two daemons behind real NATs, in network namespaces (root); SHORT=1: three quick cases
	$(GO) run ./test/nat -bin bin $(if $(SHORT),-short)
	$(GO) run ./test/nat/browser -bin bin

.PHONY: vet
vet:
	$(GO) vet ./...
	@test -z "$$(gofmt -l cmd internal pkg test)" || { echo "gofmt -w is needed on:"; gofmt -l cmd internal pkg test; exit 1; }

.PHONY: check
check: lint test ## what must be clean before a commit

.PHONY: lint
lint: bin/golangci-lint ## golangci-lint, pinned
	bin/golangci-lint run --allow-parallel-runners ./...

bin/golangci-lint:
	GOBIN=$(CURDIR)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (default 1s; try FUZZTIME=10m)
	FUZZTIME=$(FUZZTIME) $(GO) run ./test/fuzz

SEEDS ?= 1000
FIRST ?= 1

.PHONY: sim
sim: ## simulated histories of groups: SEEDS=1000 of them from FIRST=1
	$(GO) run ./test/sim -first $(FIRST) -seeds $(SEEDS)

.PHONY: sim-bugs
sim-bugs: ## bugs that are put into the engine must be found by simulation
	$(GO) run ./test/sim -bugs

.PHONY: mutate
mutate: ## break the rules of merge and authorization one by one: the tests must notice each; RUN=regexp for some
	$(GO) run ./test/mutate -run '$(RUN)'

.PHONY: bench
bench: ## benchmarks; figures are ratios within one run
	$(GO) test -run '^$$' -bench . -benchtime 1s ./pkg/... ./internal/...
	@$(MAKE) --no-print-directory bench-signaling SHORT=1

.PHONY: bench-turn
bench-turn: ## the relay beside coturn (Debian package coturn), under 3 minutes; figures are ratios within the run
	$(GO) run ./test/bench/turn

.PHONY: deploy-check
deploy-check: ## alerts, dashboard, units, compose file and chart against the program; wants promtool (Debian package prometheus) and helm
	@command -v helm >/dev/null || { echo "installing helm"; $(GO) install helm.sh/helm/v3/cmd/helm@v3.22.0; }
	PATH="$$PATH:$$($(GO) env GOPATH)/bin" $(GO) test -count=1 -v ./test/deploy

.PHONY: image-check
image-check: ## build the Dockerfile with buildah and start what is in it as its user (root; Debian packages buildah, debootstrap)
	test/image/check.sh

.PHONY: soak
soak: ## hours of traffic compressed: nothing may be left of it; about 5 minutes, SOAK=30m for longer
	SOAK=$(or $(SOAK),5m) $(GO) test -count=1 -timeout 24h -v -run TestSoak ./test/soak

.PHONY: bench-signaling
bench-signaling: build ## the server beside bare ones (gws, coder, Node), under 6 minutes; SHORT=1: less than one; figures are ratios
	$(GO) run ./test/bench/signaling -bin bin $(if $(SHORT),-short)

.PHONY: bench-files
bench-files: ## a file of 1 GiB between two peers beside a bare data channel; SHORT=1: 256 MiB
	$(GO) run ./test/bench/files $(if $(SHORT),-size 268435456 -rounds 2)

.PHONY: bench-sync
bench-sync: ## a cold sync of 100,000 signed changes between two processes beside bare signature checks, edits, start; FULL=1: of 1,000,000; SHORT=1: of 20,000
	$(GO) run ./test/bench/sync $(if $(FULL),-n 1000000,$(if $(SHORT),-n 20000,-rounds 3)) $(if $(PROFILE),-profile $(PROFILE))

.PHONY: bench-recon
bench-recon: ## reconciliation of two stores of 1,000,000 entries beside negentropy, 5 minutes and 2 GB of disk; SHORT=1: of 100,000
	cd test/bench/recon && $(GO) run . $(if $(SHORT),-n 100000)

.PHONY: bench-join
bench-join: ## join a group of MEMBERS (default 10,000) beside bare derivations of ids; the first time it makes their ids, which takes as long again
	mkdir -p .cache
	PEERSIGNAL_BENCH_MEMBERS=$(or $(MEMBERS),10000) PEERSIGNAL_BENCH_IDS=$(CURDIR)/.cache/bench-ids $(GO) test -run '^$$' -bench '^BenchmarkJoin$$' -benchtime 1x -timeout 2h ./pkg/sync

.PHONY: crash
crash: ## kill -9 at CRASHES (default 200) random moments of writing and of a sync: the store is whole each time and the sync completes
	PEERSIGNAL_TEST_CRASHES=$(or $(CRASHES),200) $(GO) test -count=1 -v -timeout 60m -run 'TestKill$$|TestCrash$$' ./pkg/sync/sqlite ./pkg/sync

.PHONY: acme-check
acme-check: bin/pebble ## certificates by ACME, from a real authority that is made for tests
	PATH="$(CURDIR)/bin:$$PATH" $(GO) test -count=1 -v -run ACME ./cmd/peersignal

bin/pebble:
	GOBIN=$(CURDIR)/bin $(GO) install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1

.PHONY: pgo
pgo: build ## record cmd/peersignal/default.pgo, the profile of relaying and logins by which the server is compiled
	test/bench/signaling/profile.sh bin/peersignal cmd/peersignal/default.pgo

.PHONY: golden
golden: ## rewrite golden vectors: only before a first release, never after
	$(GO) test ./pkg/crypto ./pkg/wire ./pkg/sync/keys ./pkg/sync/entry ./pkg/peer/link -run Golden -update

.PHONY: clean
clean:
	rm -rf bin dist
