# taproom: build, test, show. Every target works from a clean clone.

GO      ?= go
PKGS    ?= ./...
FUZZTIME ?= 20s
BENCHTIME ?= 1s

.PHONY: all build demo test race lint fuzz bench cover deps clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o taproom ./cmd/taproom

# What the demo and the tests use beside Go: installed when that is possible,
# named when it is not.
deps:
	@sh integration/deps.sh

demo: build
	@sh integration/deps.sh demo
	@sh examples/demo.sh ./taproom
	@sh examples/demo-ioam.sh ./taproom

test: deps
	$(GO) vet $(PKGS)
	$(GO) test -timeout 15m $(PKGS)

race: deps
	$(GO) test -race -timeout 20m $(PKGS)

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Every fuzz target for a while: make fuzz FUZZTIME=10m
fuzz:
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$p || exit 1; \
	  done; done

bench: build deps
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) ./stack ./stack/wire ./filter/... ./ioam/... ./rdma/...
	$(GO) test -run '^$$' -bench . -benchtime 0.2s ./integration/rdma
	$(GO) build -o bin/bench ./integration/bench
	./bin/bench -rounds 1 -time 1s -hooks -gro -scale
	./bin/bench -rounds 1 -time 1s -hooks -gro -mtu 9000,65520
	./bin/bench -time 1s -matrix -quick

cover:
	$(GO) test -coverprofile coverage.out $(PKGS)
	$(GO) tool cover -func coverage.out | tail -1

clean:
	rm -f taproom coverage.out
