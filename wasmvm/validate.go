package wasmvm

import (
	"bytes"
	"slices"
)

// charge is gas that is paid at one place for all instructions up to the next place that a branch can leave or reach.
type charge struct {
	at      int // byte in the function's code before which it is paid
	cost    uint64
	checked bool // whether the call ends there when the gas is used up
}

// analysis is what the rewriter needs to know of a function.
type analysis struct {
	charges []charge // in order of at; the first is the function's entry
	words   uint64   // of its frame, see MaxDepth
	calls   bool     // calls functions of the module, so that its frame can have others above it
	nan32   bool     // makes f32 values that may be NaNs
	nan64   bool
	sized   bool   // has instructions that the rewriter needs an i32 for: with a price by an operand, or a select of floats
	selects []byte // types of what its selects choose between, in order
	weight  uint64 // see MaxComplexity
	paths   uint64 // see MaxPaths
}

// control is an open block.
type control struct {
	op          int
	params      []byte
	results     []byte
	height      int // of the operand stack below the block's parameters
	unreachable bool
	loops       int    // open loops, this one included
	charge      int    // that instructions add to, as an index of charges
	target      int    // lowest index of a control that a branch inside goes to
	branches    uint64 // that go to its label
}

// validator checks one function after another by the algorithm of the WebAssembly 2.0 specification, appendix "Validation
// Algorithm", and assigns its instructions to charges.
//
// A charge covers straight-line code, and goes on behind a block out of which nothing branches, because then whoever
// enters the block also leaves it at its end. A branch to an enclosing loop counts as leaving, because it skips the
// code behind the block. (Ewasm's and Parity's injectors, from which the idea of merging comes, ignore such branches.)
type validator struct {
	decoder
	costs    *costs
	strict   bool
	function int // that the module defines
	locals   []byte
	operands []byte
	controls []control
	result   analysis
	highest  int
	blocks   uint64 // that compilers make of the function with its metering: what begins behind a branch is one
	merges   uint64 // Σ (branches to a label)²
	values   uint64 // that instructions make
	loops    int
}

// check validates a function and returns what the rewriter needs. What it returns is valid until the next call.
func (v *validator) check(function int) (*analysis, error) {
	f := &v.m.bodies[function]
	t := &v.m.types[v.m.funcs[function]]
	v.function = function
	v.decoder.reader = reader{buf: f.code, off: f.offset}
	v.locals = append(append(v.locals[:0], t.params...), f.types...)
	v.operands, v.controls = v.operands[:0], v.controls[:0]
	v.result = analysis{
		charges: append(v.result.charges[:0], charge{cost: uint64(len(v.locals)) / v.costs.perLocals, checked: true}),
		selects: v.result.selects[:0],
	}
	v.highest, v.blocks, v.merges, v.values, v.loops = 0, 1, 0, 0, 0

	v.controls = append(v.controls, control{op: opBlock, results: t.results})
	var i instruction
	for len(v.controls) > 0 && v.err == nil {
		v.next(&i)
		if v.err == nil {
			v.instruction(&i)
		}
	}
	if v.err == nil && v.left() > 0 {
		v.fail("%d bytes follow the end of the function", v.left())
	}
	locals := max(uint64(len(v.locals)), 1)
	v.exceed("locals × blocks of a function", locals*v.blocks, MaxLocalsBlocks)
	if v.err != nil {
		if e, ok := v.err.(*ModuleError); ok { //nolint:errorlint // set by fail and exceed, never wrapped
			e.function = function
		}
		return nil, v.err
	}
	v.result.words = uint64(len(v.locals)+v.highest) + (v.values+locals*v.blocks)/4
	v.result.weight = locals * v.blocks * uint64(1+v.loops)
	v.result.paths = 4*v.blocks*v.blocks + locals*v.merges
	return &v.result, nil
}

func (v *validator) push(t byte) {
	v.operands = append(v.operands, t)
	v.values++
	v.highest = max(v.highest, len(v.operands))
}

func (v *validator) pushAll(types []byte) {
	for _, t := range types {
		v.push(t)
	}
}

func (v *validator) pop() byte {
	top := &v.controls[len(v.controls)-1]
	if len(v.operands) == top.height {
		if !top.unreachable {
			v.fail("an operand is missing")
		}
		return unknown
	}
	t := v.operands[len(v.operands)-1]
	v.operands = v.operands[:len(v.operands)-1]
	return t
}

func (v *validator) expect(want byte) byte {
	got := v.pop()
	if got != want && got != unknown && want != unknown {
		v.fail("an operand is %s, want %s", typeName(got), typeName(want))
	}
	return got
}

func (v *validator) popAll(types []byte) {
	for _, t := range slices.Backward(types) {
		v.expect(t)
	}
}

// leave marks the rest of the innermost block as unreachable.
func (v *validator) leave() {
	top := &v.controls[len(v.controls)-1]
	v.operands = v.operands[:top.height]
	top.unreachable = true
}

// newCharge starts a charge behind the current instruction, for the innermost block.
func (v *validator) newCharge(i *instruction, checked bool) {
	v.controls[len(v.controls)-1].charge = len(v.result.charges)
	v.result.charges = append(v.result.charges, charge{at: i.end, checked: checked})
}

// label returns the types that a branch to depth carries, and notes the branch.
func (v *validator) label(depth uint64) []byte {
	if depth >= uint64(len(v.controls)) {
		v.fail("a branch leaves %d blocks, %d are open", depth+1, len(v.controls))
		return nil
	}
	index := len(v.controls) - 1 - int(depth)
	top := &v.controls[len(v.controls)-1]
	top.target = min(top.target, index)
	c := &v.controls[index]
	c.branches++
	if c.op == opLoop {
		return c.params
	}
	return c.results
}

// split counts blocks that begin behind an instruction.
func (v *validator) split(n uint64) {
	v.blocks += n
	v.exceed("blocks and branches of a function", v.blocks, MaxBlocks)
}

func (v *validator) open(i *instruction, b blockType) {
	outer := v.controls[len(v.controls)-1]
	c := control{op: i.op, params: b.params, results: b.results, height: len(v.operands), loops: outer.loops, charge: outer.charge, target: len(v.controls)}
	if i.op == opLoop {
		c.loops++
		v.loops = max(v.loops, c.loops)
		v.exceed("nested loops", uint64(c.loops), MaxLoopNesting)
		v.split(1) // the check of the gas
	}
	v.split(1)
	v.exceed("nested blocks", uint64(len(v.controls)), MaxBlockNesting)
	v.controls = append(v.controls, c)
	v.pushAll(b.params)
	if i.op != opBlock {
		v.newCharge(i, i.op == opLoop)
	}
}

// instruction checks one instruction and adds its cost to the current charge.
func (v *validator) instruction(i *instruction) {
	o := &operations[i.op]
	top := &v.controls[len(v.controls)-1]
	v.result.charges[top.charge].cost += uint64(v.costs.ops[i.op])
	if o.float && v.strict {
		v.pos = i.start
		v.fail("%s: the strict profile has no floating point; declare the profile std in the schema", o.name)
		return
	}
	if o.fixed {
		if o.imm == immMemArg || o.imm == immZero || o.imm == immInit || o.imm == immCopy {
			if !v.m.memory.declared {
				v.fail("%s without a memory", o.name)
			}
		}
		for k := len(o.params) - 1; k >= 0; k-- {
			v.expect(o.params[k])
		}
		for k := range len(o.results) {
			v.push(o.results[k])
		}
		switch o.nan {
		case typeF32:
			v.result.nan32 = true
		case typeF64:
			v.result.nan64 = true
		}
		switch i.op {
		case opF32ConvertU, opF64ConvertU:
			v.split(1)
		case opMemoryGrow:
			v.result.sized = true
			v.split(2)
		case opMemoryCopy, opMemoryFill:
			v.result.sized = true
			v.split(1)
		case opMemoryInit:
			v.result.sized = true
			v.split(1)
			if v.m.dataCount < 0 || i.a >= uint64(v.m.dataCount) {
				v.fail("memory.init of data segment %d of %d", i.a, max(v.m.dataCount, 0))
			} else if !v.m.segments[i.a].passive { // it is dropped before the module runs, which wazero forgets
				v.fail("memory.init of data segment %d, which is active: only passive ones can be copied from", i.a)
			}
		}
		return
	}
	switch i.op {
	case opUnreachable:
		v.leave()
	case opBlock, opLoop:
		v.popAll(i.block.params)
		v.open(i, i.block)
	case opIf:
		v.expect(typeI32)
		v.popAll(i.block.params)
		v.open(i, i.block)
	case opElse:
		if top.op != opIf {
			v.fail("else without if")
			return
		}
		v.close(top)
		top.op, top.unreachable = opElse, false
		v.pushAll(top.params)
		v.newCharge(i, false)
	case opEnd:
		v.close(top)
		if top.op == opIf && !bytes.Equal(top.params, top.results) {
			v.fail("an if without else must leave what it takes")
		}
		closed, index := *top, len(v.controls)-1
		v.merges += closed.branches * closed.branches
		v.controls = v.controls[:index]
		if index == 0 {
			return
		}
		v.pushAll(closed.results)
		outer := &v.controls[index-1]
		outer.target = min(outer.target, closed.target)
		if closed.target < index {
			v.newCharge(i, false)
		}
	case opBr:
		v.popAll(v.label(i.a))
		v.leave()
		v.newCharge(i, false)
	case opBrIf:
		v.expect(typeI32)
		types := v.label(i.a)
		v.popAll(types)
		v.pushAll(types)
		v.newCharge(i, false)
		v.split(1)
	case opBrTable:
		v.expect(typeI32)
		last := v.label(uint64(v.labels[len(v.labels)-1]))
		for _, l := range v.labels[:len(v.labels)-1] {
			types := v.label(uint64(l))
			if len(types) != len(last) {
				v.fail("the targets of a br_table take different numbers of operands")
				return
			}
			// Each target must accept the operands; what is popped is pushed again as it was.
			height := len(v.operands)
			kept := append([]byte(nil), v.operands[max(v.controls[len(v.controls)-1].height, height-len(types)):]...)
			v.popAll(types)
			v.operands = append(v.operands, kept...)
		}
		v.popAll(last)
		v.leave()
		v.newCharge(i, false)
	case opReturn:
		v.label(uint64(len(v.controls) - 1)) // notes that it leaves
		v.popAll(v.controls[0].results)
		v.leave()
		v.newCharge(i, false)
	case opCall:
		if i.a >= uint64(v.m.functions()) {
			v.fail("no function has the number %d", i.a)
			return
		}
		if int(i.a) >= len(v.m.imports) {
			v.result.calls = true
		}
		t := v.m.typeOf(uint32(i.a))
		v.popAll(t.params)
		v.pushAll(t.results)
	case opCallIndirect:
		if v.m.table == nil {
			v.fail("call_indirect without a table")
		}
		if i.a >= uint64(len(v.m.types)) {
			v.fail("no type has the number %d", i.a)
			return
		}
		v.result.calls = true
		v.expect(typeI32)
		t := &v.m.types[i.a]
		v.popAll(t.params)
		v.pushAll(t.results)
	case opDrop:
		v.pop()
	case opSelect:
		v.expect(typeI32)
		a := v.pop()
		b := v.expect(a)
		if a == unknown {
			a = b
		}
		v.selects(a)
	case opSelectT:
		v.expect(typeI32)
		v.expect(i.typ)
		v.expect(i.typ)
		v.selects(i.typ)
	case opLocalGet, opLocalSet, opLocalTee:
		if i.a >= uint64(len(v.locals)) {
			v.fail("no local has the number %d", i.a)
			return
		}
		t := v.locals[i.a]
		if i.op != opLocalGet {
			v.expect(t)
		}
		if i.op != opLocalSet {
			v.push(t)
			v.values-- // it is there already
		}
	case opGlobalGet, opGlobalSet:
		if i.a >= uint64(len(v.m.globals)) {
			v.fail("no global has the number %d", i.a)
			return
		}
		g := &v.m.globals[i.a]
		if i.op == opGlobalGet {
			v.push(g.typ)
			return
		}
		if !g.mutable {
			v.fail("global %d is constant", i.a)
		}
		v.expect(g.typ)
	}
}

// selects notes that a select leaves a value of type t.
func (v *validator) selects(t byte) {
	v.push(t)
	v.result.selects = append(v.result.selects, t)
	v.result.sized = v.result.sized || t == typeF32 || t == typeF64
}

// close checks that the innermost block ends with its results and nothing else, and takes them.
func (v *validator) close(top *control) {
	v.popAll(top.results)
	if len(v.operands) != top.height {
		v.fail("%d operands are left at the end of a block", len(v.operands)-top.height)
	}
}
