package executor

import (
	"context"
	"fmt"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// prices are what a transaction costs before its contract runs, and what system contracts pay for the world state. They
// are part of a version of the gas table, as are the prices of the VM, in whose unit they are: at most a third of a
// nanosecond.
type prices struct {
	tx          ledger.Gas // account lookup, receipt, its hashes
	txByte      ledger.Gas // decoding, hashing, storing
	signature   ledger.Gas // about 15 µs in a batch
	item        ledger.Gas // of CBOR in a system contract's arguments
	get         ledger.Gas
	getByte     ledger.Gas
	put         ledger.Gas
	putByte     ledger.Gas
	scan        ledger.Gas
	scanPair    ledger.Gas
	scanDeleted ledger.Gas // for each key that the block took away, and that a range passes
	event       ledger.Gas
	eventByte   ledger.Gas
	hook        ledger.Gas
	address     ledger.Gas
	codeByte    ledger.Gas // of a module: checking and rewriting it
	weight      ledger.Gas // of a module, which tells how long it compiles
	// Of a call of a system contract. Its record is a row of 350 bytes as a rule, as put has its price, which takes some 6 µs to make and hash
	// (BenchmarkRecord); names and roles can make it 1,000 bytes longer, and the rest is its share of the block's link.
	record     ledger.Gas
	recordByte ledger.Gas // of what the record has a digest of: arguments, and rows before and after
	initialize ledger.Gas // for each gas that _initialize takes: the interpreter runs it, at up to 20 ns
}

// newPrices returns those of a version of the gas table.
func newPrices(version uint16) (*prices, error) {
	if version != 1 {
		return nil, fmt.Errorf("%w: gas table %d", wasmvm.ErrVersion, version)
	}
	return &prices{
		tx: 20_000, txByte: 8, signature: 60_000, item: 60,
		get: 20_000, getByte: 14, put: 125_000, putByte: 50, scan: 40_000, scanPair: 20_000, scanDeleted: 100,
		event: 5_000, eventByte: 25, hook: 6_000, address: 1_000, codeByte: 20, weight: 5, record: 300_000, recordByte: 10, initialize: 8,
	}, nil
}

// pricesOf returns those of a version of the gas table, or in tests one of the future.
func (x *Executor) pricesOf(version uint16) (*prices, error) {
	n := x.trial[version]
	if n == 0 {
		return newPrices(version)
	}
	p, err := newPrices(1)
	if err != nil {
		return nil, err
	}
	for _, price := range []*ledger.Gas{
		&p.tx, &p.txByte, &p.signature, &p.item, &p.get, &p.getByte, &p.put, &p.putByte, &p.scan, &p.scanPair, &p.scanDeleted, &p.event, &p.eventByte,
		&p.hook, &p.address, &p.codeByte, &p.weight, &p.record, &p.recordByte, // and not initialize, which is a factor to the prices of the VM
	} {
		*price *= n
	}
	return p, nil
}

// intrinsic returns what a transaction costs by itself.
func (p *prices) intrinsic(bytes, signatures int) ledger.Gas {
	return p.tx + p.txByte*ledger.Gas(bytes) + p.signature*ledger.Gas(signatures)
}

// recorded returns what the record of a call with so many bytes of arguments costs.
func (p *prices) recorded(args int) ledger.Gas { return p.record + p.recordedBytes(args) }

// recordedBytes returns what the digest of so many bytes costs, if one is made of them.
func (p *prices) recordedBytes(n int) ledger.Gas {
	if n > precompiles.MaxAuditBytes {
		return 0
	}
	return p.recordByte * ledger.Gas(n)
}

// rules are what the chain's parameters say of executing a block.
type rules struct {
	params   ledger.Params
	features precompiles.Features
	prices   *prices
	vm       *wasmvm.VM
}

// known are the rules at a state.
type known struct {
	base *state.Snapshot
	*rules
}

// rules returns the rules at a state. Parameters that name versions which this release does not have are an error that wraps
// wasmvm.ErrVersion: the node must not go on.
func (x *Executor) rules(base *state.Snapshot) (*rules, error) {
	last := x.known.Load()
	if last != nil && last.base == base {
		return last.rules, nil
	}
	params, err := precompiles.ReadParams(base)
	if err != nil {
		return nil, err
	}
	r := &rules{params: params}
	if r.features, err = precompiles.ReadFeatures(base); err != nil {
		return nil, err
	}
	if r.vm, err = x.vm.At(context.Background(), wasmvm.RulesOf(&params)); err != nil {
		return nil, fmt.Errorf("height %d: %w", base.Height(), err)
	}
	if r.prices, err = x.pricesOf(params.Costs); err != nil {
		return nil, err
	}
	x.known.Store(&known{base, r})
	return r, nil
}

// maxBlockWrites bounds the bytes that a block's transactions write. A block must fit into memory and into one record
// of the store, with its receipts: one that does not would stop every node for good.
const maxBlockWrites = 512 << 20

// Bounds on a transaction's execution.
const (
	maxDepth      = 16       // contracts that call one another
	maxEvents     = 64       // in a transaction
	maxEventBytes = 64 << 10 // topics and data in a transaction
	maxKeptScan   = 1 << 20  // bytes of an open scan that a write takes into memory
	maxTrace      = 64 << 10 // bytes of local trace
)
