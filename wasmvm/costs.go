package wasmvm

import (
	"fmt"
	"strings"
)

// CostsVersion is the newest version of the gas table, as ledger.Params.Costs names it.
const CostsVersion = 1

// costs is one version of the gas table. A unit is about a quarter of a nanosecond on the slowest
// instruction that it pays for. A version never changes: a chain's history is executed again with it.
type costs struct {
	ops       [opCount]uint32 // of instructions, on entry to their block
	perLocals uint64          // a function's entry costs 1 for so many parameters and locals
	growPage  uint64          // for each page that memory.grow asks for
	bulkShift uint64          // memory.copy, fill, init: n >> bulkShift

	start     uint64 // of a call: taking and resetting an instance
	startPage uint64 // for each 64 KiB page of the memory that is reset

	host      uint64 // of every host function
	hostByte  uint64 // for each byte that crosses
	read      uint64
	readByte  uint64
	write     uint64
	writeByte uint64
	scan      uint64
	scanPair  uint64 // for each pair of the limit
	scanNext  uint64
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
		return nil, fmt.Errorf("wasmvm: no gas table of version %d, want 1 to %d", version, CostsVersion)
	}
	c := &costs{
		perLocals: 4, growPage: 8_192, bulkShift: 4,
		start: 8_000, startPage: 2_000,
		host: 60, hostByte: 1, read: 2_000, readByte: 2, write: 8_000, writeByte: 8, scan: 2_000, scanPair: 100, scanNext: 400,
		emit: 1_000, emitByte: 8, call: 5_000, context: 300, attribute: 2_000, random: 400, randByte: 4,
		hash:   [4]price{hashSM3: {400, 12}, hashSHA256: {200, 4}, hashKeccak256: {400, 12}},
		verify: [4]uint64{verifySM2: 250_000, verifyEd25519: 150_000, verifyP256: 400_000},
	}
	for i := range operations {
		c.ops[i] = opCost(i)
	}
	return c, nil
}

// opCost returns the cost of an instruction in version 1.
func opCost(op int) uint32 {
	o := &operations[op]
	typ, name, _ := strings.Cut(o.name, ".")
	if o.imm == immMemArg {
		return 3
	}
	switch op {
	case opBlock, opLoop, opElse, opEnd:
		return 0
	case opIf, opBr, opBrIf, opReturn, opSelect, opSelectT, opGlobalGet, opGlobalSet, opI32Popcnt, opI64Popcnt:
		return 2
	case opBrTable, opMemorySize:
		return 4
	case opCall:
		return 6
	case opCallIndirect:
		return 12
	case opMemoryGrow:
		return 300
	case opMemoryCopy, opMemoryFill, opMemoryInit:
		return 10
	}
	if strings.HasPrefix(typ, "f") {
		switch {
		case name == "div" || name == "sqrt":
			return 10
		case name == "min" || name == "max":
			return 18
		case strings.HasPrefix(name, "convert") || name == "promote_f32" || name == "demote_f64":
			return 4
		case o.nan != 0:
			return 3
		}
		return 1
	}
	switch {
	case strings.HasPrefix(name, "div_") || strings.HasPrefix(name, "rem_"):
		return 10
	case strings.HasPrefix(name, "trunc_"):
		return 20
	case name == "mul":
		return 2
	}
	return 1
}
