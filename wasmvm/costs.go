package wasmvm

import (
	"fmt"
	"strings"
)

// CostsVersion is the newest version of the gas table, as ledger.Params.Costs names it.
const CostsVersion = 1

// costs is one version of the gas table. BenchmarkGas, here for instructions and in node/executor for host functions,
// prints how much gas each of them takes for a nanosecond; the prices are set so that this differs by no more than 4 times
// between them, each measured where it is slowest. A unit pays for at most a third of a nanosecond there. A version
// never changes once a chain runs with it: the chain's history is executed again with it.
type costs struct {
	ops       [opCount]uint32 // of instructions, on entry to their block
	perLocals uint64          // a function's entry costs 1 for so many parameters and locals
	growPage  uint64          // for each page that memory.grow asks for
	copy16    uint64          // memory.copy, init: for 16 bytes
	fill16    uint64          // memory.fill: for 16 bytes

	start      uint64 // of a call: taking and resetting an instance
	startPage  uint64 // for each 64 KiB page of the memory that is reset, while they are fewer than largePages
	largePage  uint64 // for each page from then on: what a call touches is mapped in anew
	largePages uint64

	host      uint64 // of every host function
	hostByte  uint64 // for each byte that the contract hands over
	item      uint64 // for each data item of the CBOR that it hands over as its result
	backShift uint64 // for n bytes that it is given: n >> backShift
	log       uint64
	read      uint64
	readByte  uint64
	write     uint64
	writeByte uint64
	scan      uint64
	scanNext  uint64
	scanDead  uint64 // for each key that a scan passes because it was deleted earlier in the block
	emit      uint64
	emitByte  uint64
	call      uint64
	context   uint64
	attribute uint64
	random    uint64
	randByte  uint64
	hash      [4]price // by number in the ABI
	verify    [4]uint64
}

// price is a fixed part and a part for each byte.
type price struct{ base, perByte uint64 }

// newCosts returns a version of the gas table.
func newCosts(version uint16) (*costs, error) {
	if version != 1 {
		return nil, fmt.Errorf("%w: gas table %d", ErrVersion, version)
	}
	return costs1(), nil
}

// table returns the gas table of a VM.
func (c *Config) table() (*costs, error) {
	if n := c.Trial[c.Costs]; n > 0 {
		t := costs1()
		t.times(n)
		return t, nil
	}
	return newCosts(c.Costs)
}

// times makes prices so many times as high.
func (c *costs) times(n uint64) {
	for i := range c.ops {
		c.ops[i] *= uint32(n)
	}
	for _, p := range []*uint64{
		&c.growPage, &c.copy16, &c.fill16, &c.start, &c.startPage, &c.largePage, &c.host, &c.hostByte, &c.item, &c.log, &c.read, &c.readByte, &c.write, &c.writeByte,
		&c.scan, &c.scanNext, &c.scanDead, &c.emit, &c.emitByte, &c.call, &c.context, &c.attribute, &c.random, &c.randByte,
	} {
		*p *= n
	}
	for i := range c.hash {
		c.hash[i] = price{c.hash[i].base * n, c.hash[i].perByte * n}
		c.verify[i] *= n
	}
}

func costs1() *costs {
	c := &costs{
		perLocals: 4, growPage: 105_000, copy16: 3, fill16: 4,
		start: 8_000, startPage: 8_000, largePage: 24_000, largePages: 4,
		host: 450, hostByte: 1, item: 24, backShift: 2, log: 500,
		read: 20_000, readByte: 14, write: 125_000, writeByte: 50, scan: 40_000, scanNext: 20_000, scanDead: 100,
		emit: 5_000, emitByte: 25, call: 6_000, context: 1_200, attribute: 2_500, random: 4_000, randByte: 80,
		hash:   [4]price{hashSM3: {3_000, 20}, hashSHA256: {1_500, 12}, hashKeccak256: {4_000, 18}},
		verify: [4]uint64{verifySM2: 400_000, verifyEd25519: 230_000, verifyP256: 500_000},
	}
	for i := range operations {
		c.ops[i] = opCost(i)
	}
	return c
}

// starting returns the price of taking an instance whose memory has so many pages.
func (c *costs) starting(pages uint64) uint64 {
	if pages < c.largePages {
		return c.start + c.startPage*pages
	}
	return c.start + c.largePage*pages
}

// opCost returns the cost of an instruction in version 1.
func opCost(op int) uint32 {
	o := &operations[op]
	typ, name, _ := strings.Cut(o.name, ".")
	if o.imm == immMemArg { // at an address anywhere in half a megabyte
		if len(o.results) > 0 {
			return 15
		}
		return 9
	}
	switch op {
	case opBlock, opLoop, opElse, opEnd:
		return 0
	case opReturn, opSelect, opSelectT, opI64Popcnt:
		return 2
	case opIf, opBr, opBrIf: // taken or not at random
		return 5
	case opI32Popcnt:
		return 5
	case opBrTable:
		return 24
	case opCall:
		return 8
	case opCallIndirect: // of another function each time
		return 50
	case opMemoryGrow:
		return 250
	case opMemoryCopy, opMemoryFill, opMemoryInit:
		return 14
	}
	if strings.HasPrefix(typ, "f") {
		switch {
		case name == "div" || name == "sqrt":
			return 14
		case name == "min" || name == "max":
			return 12
		case name == "ceil" || name == "floor" || name == "trunc" || name == "nearest":
			return 8
		case strings.HasPrefix(name, "convert") || name == "promote_f32" || name == "demote_f64":
			return 7
		case o.nan != 0 || len(o.results) == 1 && o.results[0] == typeI32 && o.imm == immNone: // arithmetic, comparison
			return 4
		}
		return 1
	}
	switch {
	case strings.HasPrefix(name, "div_") || strings.HasPrefix(name, "rem_"):
		if typ == "i64" {
			return 38
		}
		return 24
	case strings.HasPrefix(name, "trunc_"):
		return 12
	case name == "clz" || name == "ctz":
		return 3
	case name == "mul":
		return 2
	}
	return 1
}
