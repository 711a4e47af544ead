# Everything runs with plain Go; `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

MODULES  := libs protos services/standalone tests bench
PACKAGES := $(addprefix ./,$(addsuffix /...,$(MODULES)))
# Packages with goroutines of their own.
RACE := ./libs/engine/... ./libs/mvcc ./libs/watch ./libs/lease ./libs/compactor ./libs/etcdapi ./libs/server

# No cgo anywhere but under the race detector, which needs it.
export CGO_ENABLED = 0

DATA_DIR ?= data/default.headwater
ARGS     ?=
FUZZTIME ?= 20s
BENCH    ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build everything; the server goes to bin/headwater
	go build $(PACKAGES)
	go build -o bin/headwater ./services/standalone

.PHONY: run
run: ## Run a server on 127.0.0.1:2379 with its data in ./data (ARGS="--flag …" adds flags)
	@mkdir -p $(dir $(DATA_DIR))
	go build -o bin/headwater ./services/standalone
	exec bin/headwater --data-dir=$(DATA_DIR) --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 $(ARGS)

.PHONY: test
test: ## Run all tests (those against real etcd and of the built server too)
	go test -timeout 15m $(PACKAGES)

.PHONY: race
race: ## Run the concurrent packages under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -short -timeout 15m $(RACE)

.PHONY: vet
vet: ## go vet and gofmt
	go vet $(PACKAGES)
	@unformatted=$$(gofmt -l $(MODULES)); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }

.PHONY: lint
lint: vet ## vet, then golangci-lint (built from the module proxy at a pinned version)
	for m in $(MODULES); do (cd $$m && go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run ./...); done

.PHONY: fuzz
fuzz: ## Fuzz every decoder for FUZZTIME each
	for m in $(MODULES); do (cd $$m; \
	  for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz || true); do \
	    echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done); done

.PHONY: bench
bench: ## Run the loads against headwater, real etcd and a null server; BENCH="…" passes flags (see bench/README.md)
	go build -o bin/compare ./bench/cmd/compare
	bin/compare $(BENCH)

.PHONY: proto
proto: ## Generate Go from protos/ (needs protoc; the plugin comes from the module proxy)
	$(MAKE) -C protos generate

.PHONY: tidy
tidy: ## Bring the modules to the same versions, then go mod tidy in each
	go work sync
	for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy); done
