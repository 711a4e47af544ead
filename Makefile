# Everything runs with plain Go; `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PODS     := kv watchhub leasekeeper
MODULES  := libs protos services/standalone services/headwaterctl $(addprefix services/,$(PODS)) tests bench
PACKAGES := $(addprefix ./,$(addsuffix /...,$(MODULES)))
# Packages with goroutines of their own.
RACE := ./libs/engine/... ./libs/fair ./libs/auth ./libs/tlsconf ./libs/gateway ./libs/tracing ./libs/mvcc ./libs/watch/... ./libs/lease/... ./libs/election ./libs/keyspace ./libs/bus/... ./libs/feed ./libs/compactor ./libs/etcdapi ./libs/server ./libs/relay ./libs/status ./libs/compose/... ./libs/alarm

# What test-fdb runs on a real FoundationDB; SUITES="./libs/election …" runs some of it.
SUITES := ./libs/engine/foundationdb ./libs/engine/testengine ./libs/mvcc ./libs/election ./libs/keyspace ./libs/lease/shards ./libs/compose \
	./tests/internal/pods ./tests/pods ./tests/keyspaces ./tests/cluster ./tests/faults ./tests/clients ./tests/robustness ./tests/sidebyside

# No cgo anywhere but under the race detector and with FoundationDB's client, which need it.
export CGO_ENABLED = 0

DATA_DIR ?= data/default.headwater
ARGS     ?=
FUZZTIME ?= 20s
BENCH    ?=
PICTURES ?=

comma := ,

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build everything; the server goes to bin/headwater, its command line to bin/headwaterctl
	go build $(PACKAGES)
	go build -o bin/headwater ./services/standalone
	go build -o bin/headwaterctl ./services/headwaterctl

.PHONY: pods
pods: ## Build the pods of a distributed Headwater into bin/ (needs a C compiler and FoundationDB's client package 7.3)
	for p in $(PODS); do CGO_ENABLED=1 go build -tags foundationdb -o bin/headwater-$$p ./services/$$p; done

.PHONY: run
run: ## Run a server on 127.0.0.1:2379 with its data in ./data (ARGS="--flag …" adds flags)
	@mkdir -p $(dir $(DATA_DIR))
	go build -o bin/headwater ./services/standalone
	exec bin/headwater --data-dir=$(DATA_DIR) --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 $(ARGS)

.PHONY: test
test: ## Run all tests (those against real etcd and of the built server too)
	go test -timeout 15m -skip '^TestSeed$$' $(PACKAGES)
	@# Go's cache of test results does not see files outside the tests' module: docker-compose.yml, k8s/, deploy/,
	@# docs/, README.md; nor what planted faults change in libs/.
	go test -count=1 ./tests/deploy
	go test -count=1 -run TestReferences ./tests/packages
	go test -count=1 ./tests/simulation
	go test -count=1 ./bench/scale
	go test -count=1 -run TestReadmeNumbers ./bench/compare
	cd tests/deploy/schema && GOWORK=off go test -count=1 ./...
	cd tests/deploy/chart && GOWORK=off go test -count=1 ./...
	cd tests/metrics/mixin && GOWORK=off go test -count=1 ./...
	cd tests/lint && GOWORK=off go test -count=1 ./...
	@echo "NOT TESTED in a browser: that is make test-browser"
	@echo "NOT TESTED on a real FoundationDB: that is make test-fdb"

.PHONY: test-browser
test-browser: ## Try the status page in a headless Chromium (CHROMIUM=path; PICTURES=dir has pictures of it written there)
	cd tests/status/browser && GOWORK=off HEADWATER_PICTURES="$(PICTURES)" go test -count=1 -v ./...

.PHONY: test-fdb
test-fdb: ## Run the suites on the FoundationDB of FDB_CLUSTER_FILE (needs its client 7.3 and a C compiler; FDB_HOME=dir with lib and include, SUITES="…")
	@test -s "$${FDB_CLUSTER_FILE:-}" || { echo "test-fdb: FDB_CLUSTER_FILE must name a cluster file; nothing was tested"; exit 1; }
	CGO_ENABLED=1 $(if $(FDB_HOME),CGO_CFLAGS="-O2 -I$(FDB_HOME)/include" CGO_LDFLAGS="-L$(FDB_HOME)/lib -Wl$(comma)-rpath$(comma)$(FDB_HOME)/lib") \
	  FDB_CLUSTER_FILE="$$(realpath "$$FDB_CLUSTER_FILE")" HEADWATER_TEST_ENGINE=foundationdb go test -tags foundationdb -p 1 -count=1 -timeout 60m $(SUITES)

.PHONY: etcd-suites
etcd-suites: ## Run etcd's own e2e and common suites against the built server (some 20 min; SUITE=e2e ARGS="-run Curl" for less)
	cd tests && for s in $(or $(SUITE),e2e common); do go run ./etcdsuites/cmd/etcdsuites -suite $$s $(ARGS) || exit 1; done

.PHONY: kube
kube: ## Run kube-apiservers over mutual TLS: new certificates under load, three on one server (KUBE_APISERVER=path)
	@test -n "$(KUBE_APISERVER)" || { echo "set KUBE_APISERVER to a kube-apiserver"; exit 1; }
	cd tests && KUBE_APISERVER="$(KUBE_APISERVER)" go test -count=1 -v ./kube

.PHONY: next
next: ## Test the undocumented features in use against the newest releases (docs/private.md; needs the module proxy)
	HEADWATER_TEST_NEXT=1 go test -count=1 -timeout 30m -v -run TestNext ./tests/packages

.PHONY: stack
stack: ## Run the distributed form as local processes on 127.0.0.1:2379 (needs FoundationDB 7.3, nginx and a C compiler; FDB_HOME=dir, ARGS="--flag …")
	go run ./tests/stack/cmd/stack $(ARGS)

.PHONY: zones-check
zones-check: ## Drill what a FoundationDB of k8s/overlays survives, on processes that are killed (FDB_HOME=dir; minutes)
	HEADWATER_TEST_ZONES=1 FDB_HOME="$(FDB_HOME)" go test -count=1 -timeout 30m -v -run TestZones ./tests/deploy

.PHONY: images-check
images-check: ## Build both images by buildah without a container engine, and start them (needs root, buildah, debootstrap; FDB_HOME=dir)
	FDB_HOME="$(FDB_HOME)" tests/deploy/images-check

.PHONY: manifests-check
manifests-check: ## Apply every overlay and the chart to a kube-apiserver that is built from the module proxy (needs kubectl; a long while the first time)
	tests/deploy/manifests-check

.PHONY: cross
cross: ## Build and vet the standalone server and headwaterctl for every system of a release (TARGETS="darwin/arm64 …")
	for target in $(or $(TARGETS),linux/amd64 linux/arm64 darwin/amd64 darwin/arm64); do \
	  export GOOS=$${target%/*} GOARCH=$${target#*/}; echo "== $$target"; \
	  go vet ./libs/... ./services/standalone ./services/headwaterctl; \
	  go build -o /dev/null ./services/standalone; go build -o /dev/null ./services/headwaterctl; done

.PHONY: install-check
install-check: ## Tag HEAD in a clone, and go install it from a module proxy as its users will
	tests/deploy/install-check

.PHONY: release
release: ## Make archives, Debian packages, chart, SBOMs and checksums in dist/ (VERSION=0.1.0, TARGETS="linux/amd64 …")
	deploy/release

.PHONY: chaos
chaos: ## Kill every kind of process of a stack under load and judge the history (as for stack; ARGS="--duration=10m --rate=200")
	go run ./tests/stack/cmd/chaos --dir=data/chaos --port=24379 --base-port=24380 $(ARGS)

.PHONY: race
race: ## Run the concurrent packages under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -short -timeout 15m $(RACE)

.PHONY: vet
vet: ## go vet, gofmt, and the linters of .golangci.yml (tests/lint, which CI runs too)
	go vet $(PACKAGES)
	@unformatted=$$(gofmt -l $(MODULES)); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	cd tests/lint && GOWORK=off go build -o $(CURDIR)/bin/lint .
	bin/lint $(PACKAGES)

.PHONY: lint
lint: vet ## vet, then golangci-lint itself (minutes to build; it also analyzes the packages of others)
	for m in $(MODULES); do (cd $$m && go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run ./...); done

# What mutate judges. PKG="libs/feed", FILES="chain.go,window.go", SAMPLE=40 and SEED=1 choose; MUTATE="--again" passes flags.
PKG    ?= libs/revision libs/feed libs/election libs/lease libs/watch libs/mvcc
FILES  ?=
SAMPLE ?= 0
SEED   ?= 1
MUTATE ?=

.PHONY: mutate
mutate: ## Judge small changes to the code by its tests, for hours (PKG="libs/feed …" FILES=a.go,b.go SAMPLE=40; docs/mutation.md)
	go build -o bin/mutate ./tests/mutate/cmd/mutate
	nice -n 15 bin/mutate --files="$(FILES)" --sample=$(SAMPLE) --seed=$(SEED) $(MUTATE) $(PKG)

# Which seeds simulate runs; SIMULATE="-duration=3s …" passes flags, PLANTED=all looks for the planted faults instead.
SEEDS    ?= 10
FIRST    ?= 1
SIMULATE ?=
PLANTED  ?=
.PHONY: simulate
simulate: ## Run whole deployments from seeds (SEEDS=100 FIRST=1; SEED=7 replays one with its trace; PLANTED=all; docs/simulation.md)
	@mkdir -p bin
	go build -o bin/simulate ./tests/simulation/cmd/simulate
	nice -n 10 bin/simulate -seeds=$(SEEDS) -first=$(FIRST) \
	  $(if $(filter command environment,$(origin SEED)),-seed=$(SEED)) $(if $(PLANTED),-planted=$(PLANTED)) $(SIMULATE)

.PHONY: simulate-short
simulate-short: ## Run three short seeds of simulate, each twice alike, as make test does (HOST=native or wasm)
	HEADWATER_SIMULATE=$(if $(filter command,$(origin HOST)),$(HOST)) go test -count=1 -run "^TestSeed$$" -v ./tests/simulation

.PHONY: fuzz
fuzz: ## Fuzz every decoder for FUZZTIME each
	for m in $(MODULES); do (cd $$m; \
	  for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz || true); do \
	    echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done); done

.PHONY: bench
bench: ## Run the loads against headwater, real etcd and a null server; BENCH="…" passes flags (see bench/README.md)
	go build -o bin/compare ./bench/cmd/compare
	bin/compare $(BENCH)

.PHONY: bench-fdb
bench-fdb: ## Measure pods on one FoundationDB process (needs what make stack needs, but nginx; FDB_HOME=dir, BENCH="…" passes flags)
	go build -o bin/bench-fdb ./bench/cmd/fdb
	bin/bench-fdb $(BENCH)

.PHONY: bench-move
bench-move: ## Measure snapshots and restores beside etcd's and etcdutl's (BENCH="--mib=256 …" passes flags)
	go build -o bin/headwater ./services/standalone
	go build -o bin/headwaterctl ./services/headwaterctl
	go build -o bin/etcd go.etcd.io/etcd/server/v3
	go build -o bin/etcdutl go.etcd.io/etcd/etcdutl/v3
	go build -o bin/move ./bench/cmd/move
	bin/move $(BENCH)

.PHONY: bench-keyspaces
bench-keyspaces: ## Measure many keyspaces in one standalone server (BENCH="--users=10 …" passes flags)
	go build -o bin/headwater ./services/standalone
	go build -o bin/bench-keyspaces ./bench/cmd/keyspaces
	bin/bench-keyspaces $(BENCH)

.PHONY: proto
proto: ## Generate Go from protos/ (needs protoc; the plugins come from the module proxy)
	$(MAKE) -C protos generate

.PHONY: tidy
tidy: ## Bring the modules to the same versions, then go mod tidy in each
	go work sync
	for m in $(MODULES) tests/deploy/schema tests/deploy/chart tests/lint tests/metrics/mixin tests/status/browser; do \
	  (cd $$m && GOWORK=off go mod tidy); done
