# Everything a newcomer types: make demo, make test. The rest is for working on it.
SHELL   := /bin/bash
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0)
# TAGS=wasmtime builds that engine in; it needs a C compiler.
TAGS    :=
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      := go
BUILD   := build
# What the race detector covers: all but the chain, which is Cosmos' to race.
PLAIN    = $(shell $(GO) list ./... | grep -vE '/(chain|api/chain|cmd/fallowd|e2e|bench)(/|$$)')

.PHONY: build test test-all test-wasmtime race fuzz floods lint gen demo bench soak package guest speech clean

build: ## both binaries, into build/
	$(GO) build -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o $(BUILD)/ ./cmd/fallow ./cmd/fallowd

guest: ## the film's guest, from C
	@packaging/needs.sh guest
	$(MAKE) -s -C examples/film

speech: ## a guest that is not ours, from npm
	@packaging/needs.sh npm
	$(MAKE) -s -C examples/speech

demo: build guest ## the main job on a local network, with results and a bill
	@examples/film/demo.sh

test: build guest speech ## what must pass before a commit
	$(GO) test -timeout 30m ./...

test-wasmtime: ## the sandbox and its conformance on the other engine
	$(GO) test -tags wasmtime ./runner/conformance
	$(GO) test -tags wasmtime ./runner/wasm -engine wasmtime

test-all: build guest speech ## test, and what takes longer
	@packaging/needs.sh netns
	FALLOW_LONG=1 $(GO) test -timeout 30m ./...

soak: build guest speech ## a market at work while its parties are killed: SOAK_SECONDS (default 1800), SOAK_SEED
	SOAK_SECONDS=$${SOAK_SECONDS:-1800} $(GO) test ./e2e -run 'TestSoak$$' -count=1 -timeout $$(($${SOAK_SECONDS:-1800} + 600))s -v

race: build guest
	$(GO) test -race -timeout 30m $(PLAIN)

fuzz: ## every fuzz target in turn, FUZZ_SECONDS in all (default 600)
	@packaging/fuzz.sh

floods: ## what floods do to others, as ratios (about five minutes)
	@packaging/floods.sh

lint:
	@packaging/lint.sh

gen: ## regenerate api/
	api/gen.sh

bench: build guest ## the table of docs/benchmarks.md
	$(GO) run -tags wasmtime ./bench

package: build ## man pages, systemd units and a deb, into dist/
	@packaging/package.sh $(VERSION)

clean:
	rm -rf $(BUILD) dist out
