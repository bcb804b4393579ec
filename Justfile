# The contributor's menu: `just` lists it. Every recipe only wraps commands that work without it.

_default:
    @just --list

# what a change must pass before it is pushed
check:
    go build ./... && go vet ./... && go test ./... && golangci-lint run ./... && go mod tidy -diff

# all tests
test:
    go test ./...

# tests of the concurrent parts under the race detector
race:
    go test -race -short $(go list ./consensus/... ./node/... ./plugins ./plugins/ca/quorum ./plugins/ca/x509ca ./plugins/engine/... ./state ./transport/... ./wasmvm | grep -v '/node/contract')

# the linter, pinned as in .ci/run
lint:
    golangci-lint run ./...

# fuzz every decoder of a package, such as ./state/ledger, for a minute each
fuzz PKG:
    for t in $(go test -list '^Fuzz' {{PKG}} | grep '^Fuzz'); do go test -run '^$' -fuzz "^$t\$" -fuzztime 60s {{PKG}}; done

# simulate schedules of a whole group from one seed
sim SEED="1":
    go run ./testnet sim --schedules 5000 --nodes 4 --seed {{SEED}}

# real processes under load and faults: killed, paused, cut off, without disk or journal
chaos SEED="1":
    go run ./testnet chaos --minutes 10 --seed {{SEED}}

# four nodes on this machine; Ctrl-C stops them
testnet:
    go run ./testnet up

# load the running testnet and measure
bench:
    go run ./testnet bench

# measure networks of its own over load, payload, accounts, conflict rate and block size, into sweep.csv and sweep.svg
sweep RUNS="1":
    go run ./testnet bench --sweep --runs {{RUNS}}

# build the node into ./build/fondaco
build:
    CGO_ENABLED=0 go build -trimpath -o build/fondaco ./node/cmd/fondaco
