package wasmvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// reference is a small interpreter of modules as authors wrote them, which shares no code with the decoder, the validator,
// the rewriter or wazero: one instruction after another, each paying its own price when it is executed. It is what
// merged charges, rewritten instructions and engines are compared with. It takes modules to be valid.
type reference struct {
	types   []refType
	funcs   []refFunc // imports first
	exports map[string]refExport
	table   []int // function or -1
	memory  []byte
	maximum uint64 // pages
	pages   uint64
	globals []uint64
	data    [][]byte
	start   error // of the instantiation

	costs *costs
	words []int64 // that frames of the module's own functions weigh; -1 for those that call nobody

	gas   uint64
	depth int64
	steps uint64 // left
}

type refType struct {
	params, results int
	signature       string
}

type refExport struct {
	kind  byte
	index int
}

type refFunc struct {
	typ    int
	host   func(args []uint64) []uint64 // of an import
	locals int                          // without parameters
	code   []refOp
}

// refOp is an instruction. Blocks know where they end, ifs also where their else is.
type refOp struct {
	op       int
	a        uint64
	end, els int
	labels   []uint32
	block    refType
}

var (
	errRefTrap  = errors.New("trap")
	errRefDepth = errors.New("out of depth")
	errRefSteps = errors.New("the program does not end")
)

// refReader reads LEB128 and panics at the end of the module.
type refReader struct {
	b []byte
	i int
}

func (r *refReader) byte() byte { r.i++; return r.b[r.i-1] }

func (r *refReader) u() uint64 {
	v, n := binary.Uvarint(r.b[r.i:])
	r.i += n
	return v
}

func (r *refReader) s() int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		c := r.byte()
		if shift < 64 {
			v |= int64(c&0x7f) << shift
		}
		if c < 0x80 {
			if shift+7 < 64 && c&0x40 != 0 {
				v -= 1 << (shift + 7)
			}
			return v
		}
	}
}

func (r *refReader) take(n uint64) []byte { r.i += int(n); return r.b[r.i-int(n) : r.i] }
func (r *refReader) name() string         { return string(r.take(r.u())) }

func (r *refReader) constant() uint64 {
	var v uint64
	switch op := r.byte(); op {
	case 0x41:
		v = uint64(uint32(r.s()))
	case 0x42:
		v = uint64(r.s())
	case 0x43:
		v = uint64(binary.LittleEndian.Uint32(r.take(4)))
	case 0x44:
		v = binary.LittleEndian.Uint64(r.take(8))
	}
	r.byte() // end
	return v
}

// newReference instantiates a module. Imports are asked for by module and name.
func newReference(code []byte, c *costs, words []int64, pages uint64, imports func(module, name string) func([]uint64) []uint64) *reference {
	m := &reference{exports: map[string]refExport{}, costs: c, words: words}
	r := &refReader{b: code, i: 8}
	var own []int
	type activeData struct {
		at    uint64
		bytes []byte
	}
	var active []activeData
	type activeElements struct {
		at    uint64
		funcs []int
	}
	var elements []activeElements
	for r.i < len(code) {
		id := r.byte()
		s := &refReader{b: r.take(r.u())}
		switch id {
		case 1:
			for range s.u() {
				s.byte()
				params := s.take(s.u())
				results := s.take(s.u())
				m.types = append(m.types, refType{len(params), len(results), fmt.Sprintf("%x:%x", params, results)})
			}
		case 2:
			for range s.u() {
				module, name := s.name(), s.name()
				s.byte()
				m.funcs = append(m.funcs, refFunc{typ: int(s.u()), host: imports(module, name)})
			}
		case 3:
			for range s.u() {
				own = append(own, int(s.u()))
			}
		case 4:
			if s.u() == 1 {
				s.byte()
				s.byte()
				m.table = make([]int, s.u())
				for i := range m.table {
					m.table[i] = -1
				}
			}
		case 5:
			if s.u() == 1 {
				flag := s.byte()
				m.pages, m.maximum = s.u(), pages
				if flag == 1 {
					m.maximum = min(s.u(), pages)
				}
			}
		case 6:
			for range s.u() {
				s.byte()
				s.byte()
				m.globals = append(m.globals, s.constant())
			}
		case 7:
			for range s.u() {
				name := s.name()
				m.exports[name] = refExport{s.byte(), int(s.u())}
			}
		case 9:
			for range s.u() {
				flag := s.u()
				e := activeElements{}
				if flag&1 == 0 {
					if flag&2 != 0 {
						s.u()
					}
					e.at = s.constant()
				}
				if flag&3 != 0 {
					s.byte()
				}
				for range s.u() {
					f := -1
					if flag&4 == 0 {
						f = int(s.u())
					} else if s.byte() == 0xd2 {
						f = int(s.u())
						s.byte()
					} else {
						s.byte()
						s.byte()
					}
					e.funcs = append(e.funcs, f)
				}
				if flag&1 == 0 {
					elements = append(elements, e)
				}
			}
		case 10:
			for i := range s.u() {
				b := &refReader{b: s.take(s.u())}
				f := refFunc{typ: own[i]}
				for range b.u() {
					f.locals += int(b.u())
					b.byte()
				}
				f.code = m.body(b)
				m.funcs = append(m.funcs, f)
			}
		case 11:
			for range s.u() {
				flag := s.u()
				if flag == 2 {
					s.u()
				}
				var at uint64
				if flag != 1 {
					at = s.constant()
				}
				bytes := s.take(s.u())
				if flag != 1 {
					active = append(active, activeData{at, bytes})
					m.data = append(m.data, nil) // dropped
				} else {
					m.data = append(m.data, bytes)
				}
			}
		}
	}
	m.memory = make([]byte, m.pages<<16)
	for _, e := range elements {
		if e.at+uint64(len(e.funcs)) > uint64(len(m.table)) {
			m.start = errRefTrap
			return m
		}
		copy(m.table[e.at:], e.funcs)
	}
	for _, d := range active {
		if d.at+uint64(len(d.bytes)) > uint64(len(m.memory)) {
			m.start = errRefTrap
			return m
		}
		copy(m.memory[d.at:], d.bytes)
	}
	return m
}

// body decodes a function's instructions.
func (m *reference) body(r *refReader) []refOp {
	var ops []refOp
	var open []int
	for r.i < len(r.b) {
		o := refOp{op: int(r.byte())}
		at := len(ops)
		switch op := o.op; {
		case op >= 0x02 && op <= 0x04:
			switch t := r.s(); {
			case t == -64:
			case t < 0:
				o.block = refType{results: 1}
			default:
				o.block = m.types[t]
			}
			open = append(open, at)
		case op == 0x05:
			ops[open[len(open)-1]].els = at
		case op == 0x0b:
			if len(open) > 0 {
				start := open[len(open)-1]
				ops[start].end = at
				if e := ops[start].els; e > 0 {
					ops[e].end = at
				}
				open = open[:len(open)-1]
			}
		case op == 0x0c || op == 0x0d || op == 0x10 || (op >= 0x20 && op <= 0x24):
			o.a = r.u()
		case op == 0x0e:
			for range r.u() + 1 {
				o.labels = append(o.labels, uint32(r.u()))
			}
		case op == 0x11:
			o.a = r.u()
			r.u()
		case op == 0x1c:
			r.take(r.u())
		case op >= 0x28 && op <= 0x3e:
			r.u()
			o.a = r.u()
		case op == 0x3f || op == 0x40:
			r.byte()
		case op == 0x41:
			o.a = uint64(uint32(r.s()))
		case op == 0x42:
			o.a = uint64(r.s())
		case op == 0x43:
			o.a = uint64(binary.LittleEndian.Uint32(r.take(4)))
		case op == 0x44:
			o.a = binary.LittleEndian.Uint64(r.take(8))
		case op == 0xfc:
			o.op = 0x100 + int(r.u())
			switch o.op {
			case 0x108:
				o.a = r.u()
				r.byte()
			case 0x10a:
				r.take(2)
			case 0x10b:
				r.byte()
			}
		}
		ops = append(ops, o)
	}
	return ops
}

// reset prepares for a call.
func (m *reference) reset() { m.gas, m.depth, m.steps = 0, MaxDepth, 50_000_000 }

// run calls an export and returns its results, or how it trapped. The gas used is in m.gas.
func (m *reference) run(name string, args []uint64) (results []uint64, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			if p != errRefTrap && p != errRefDepth && p != errRefSteps { //nolint:errorlint // panics of this interpreter
				panic(p)
			}
			err = p
		default:
			panic(p)
		}
	}()
	return m.invoke(m.exports[name].index, args), nil
}

func trap(bad bool) {
	if bad {
		panic(errRefTrap)
	}
}

type refLabel struct {
	next   int // instruction to go on with
	height int
	arity  int
}

func (m *reference) invoke(index int, args []uint64) []uint64 {
	f := &m.funcs[index]
	if f.host != nil {
		return f.host(args)
	}
	t := m.types[f.typ]
	locals := make([]uint64, t.params+f.locals)
	copy(locals, args)
	m.gas += uint64(len(locals)) / m.costs.perLocals
	if imports := len(m.funcs) - len(m.words); m.words[index-imports] >= 0 {
		words := m.words[index-imports]
		frame := max(words, minFrame)
		m.depth -= frame
		if m.depth < MaxDepth-freeDepth {
			if m.depth < 0 {
				panic(errRefDepth)
			}
			m.gas += uint64(words) * deepWord
		}
		defer func() { m.depth += frame }()
	}
	var stack []uint64
	push := func(v uint64) { stack = append(stack, v) }
	pop := func() uint64 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		return v
	}
	labels := []refLabel{{next: len(f.code), arity: t.results}}
	for pc := 0; pc < len(f.code); {
		o := &f.code[pc]
		m.gas += uint64(m.costs.ops[o.op])
		if m.steps--; m.steps == 0 {
			panic(errRefSteps)
		}
		pc++
		branch := func(depth uint64) {
			l := labels[len(labels)-1-int(depth)]
			copy(stack[l.height:], stack[len(stack)-l.arity:])
			stack = stack[:l.height+l.arity]
			labels = labels[:len(labels)-1-int(depth)]
			pc = l.next
		}
		switch o.op {
		case 0x00:
			trap(true)
		case 0x01:
		case 0x02:
			labels = append(labels, refLabel{o.end + 1, len(stack) - o.block.params, o.block.results})
		case 0x03: // a branch goes to the loop itself, without entering it again
			labels = append(labels, refLabel{-pc, len(stack) - o.block.params, o.block.params})
		case 0x04:
			label := refLabel{o.end + 1, 0, o.block.results}
			if pop() == 0 {
				if o.els == 0 {
					pc = o.end + 1
					continue
				}
				pc = o.els + 1
			}
			label.height = len(stack) - o.block.params
			labels = append(labels, label)
		case 0x05: // the end of what is taken if true
			pc = o.end + 1
			labels = labels[:len(labels)-1]
		case 0x0b:
			labels = labels[:len(labels)-1]
		case 0x0c:
			branch(o.a)
		case 0x0d:
			if pop() != 0 {
				branch(o.a)
			}
		case 0x0e:
			branch(uint64(o.labels[min(pop(), uint64(len(o.labels)-1))]))
		case 0x0f:
			branch(uint64(len(labels) - 1))
		case 0x10, 0x11:
			callee := int(o.a)
			if o.op == 0x11 {
				i := pop()
				trap(i >= uint64(len(m.table)) || m.table[i] < 0)
				callee = m.table[i]
				trap(m.types[o.a].signature != m.types[m.funcs[callee].typ].signature)
			}
			n := m.types[m.funcs[callee].typ].params
			results := m.invoke(callee, stack[len(stack)-n:])
			stack = append(stack[:len(stack)-n], results...)
		case 0x1a:
			pop()
		case 0x1b, 0x1c:
			c, b, a := pop(), pop(), pop()
			if c == 0 {
				a = b
			}
			push(a)
		case 0x20:
			push(locals[o.a])
		case 0x21:
			locals[o.a] = pop()
		case 0x22:
			locals[o.a] = stack[len(stack)-1]
		case 0x23:
			push(m.globals[o.a])
		case 0x24:
			m.globals[o.a] = pop()
		case 0x3f:
			push(m.pages)
		case 0x40:
			n := pop()
			m.gas += n * m.costs.growPage
			if m.pages+n > m.maximum {
				push(math.MaxUint32)
				break
			}
			push(m.pages)
			m.pages += n
			m.memory = append(m.memory, make([]byte, n<<16)...)
		case 0x41, 0x42, 0x43, 0x44:
			push(o.a)
		case 0x108, 0x10a, 0x10b:
			n, b, a := pop(), pop(), pop()
			if o.op == 0x10b {
				m.gas += n * m.costs.fill16 / 16
			} else {
				m.gas += n * m.costs.copy16 / 16
			}
			size := uint64(len(m.memory))
			trap(a+n > size)
			switch o.op {
			case 0x108:
				trap(b+n > uint64(len(m.data[o.a])))
				copy(m.memory[a:], m.data[o.a][b:b+n])
			case 0x10a:
				trap(b+n > size)
				copy(m.memory[a:a+n], m.memory[b:b+n])
			default:
				for i := range n {
					m.memory[a+i] = byte(b)
				}
			}
		default:
			switch {
			case o.op >= 0x28 && o.op <= 0x35:
				push(m.load(o.op, pop()+o.a))
			case o.op >= 0x36 && o.op <= 0x3e:
				v := pop()
				m.store(o.op, pop()+o.a, v)
			default:
				b := uint64(0)
				if refBinary(o.op) {
					b = pop()
				}
				push(refNumeric(o.op, pop(), b))
			}
		}
		if pc < 0 { // a loop goes on; its label stays
			pc = -pc
			l := &f.code[pc-1]
			labels = append(labels, refLabel{-pc, len(stack) - l.block.params, l.block.params})
		}
	}
	return stack[len(stack)-t.results:]
}

func (m *reference) load(op int, at uint64) uint64 {
	width := map[int]uint64{0x28: 4, 0x29: 8, 0x2a: 4, 0x2b: 8, 0x2c: 1, 0x2d: 1, 0x2e: 2, 0x2f: 2, 0x30: 1, 0x31: 1, 0x32: 2, 0x33: 2, 0x34: 4, 0x35: 4}[op]
	trap(at+width > uint64(len(m.memory)))
	var buf [8]byte
	copy(buf[:], m.memory[at:at+width])
	v := binary.LittleEndian.Uint64(buf[:])
	switch op {
	case 0x2c:
		return uint64(uint32(int32(int8(v))))
	case 0x2e:
		return uint64(uint32(int32(int16(v))))
	case 0x30:
		return uint64(int64(int8(v)))
	case 0x32:
		return uint64(int64(int16(v)))
	case 0x34:
		return uint64(int64(int32(v)))
	}
	return v
}

func (m *reference) store(op int, at, v uint64) {
	width := map[int]uint64{0x36: 4, 0x37: 8, 0x38: 4, 0x39: 8, 0x3a: 1, 0x3b: 2, 0x3c: 1, 0x3d: 2, 0x3e: 4}[op]
	trap(at+width > uint64(len(m.memory)))
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], v)
	copy(m.memory[at:], buf[:width])
}

func refBinary(op int) bool {
	return op >= 0x46 && op <= 0x4f || op >= 0x51 && op <= 0x66 || op >= 0x6a && op <= 0x78 || op >= 0x7c && op <= 0x8a || op >= 0x92 && op <= 0x98 || op >= 0xa0 && op <= 0xa6
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// refNumeric computes an instruction on one or two operands.
func refNumeric(op int, a, b uint64) uint64 {
	x, y := uint32(a), uint32(b)
	f, g := math.Float32frombits(x), math.Float32frombits(y)
	d, e := math.Float64frombits(a), math.Float64frombits(b)
	switch {
	case op == 0x45:
		return truth(x == 0)
	case op == 0x50:
		return truth(a == 0)
	case op >= 0x46 && op <= 0x4f:
		return refCompare(op-0x46, int64(int32(x)), int64(int32(y)), uint64(x), uint64(y))
	case op >= 0x51 && op <= 0x5a:
		return refCompare(op-0x51, int64(a), int64(b), a, b)
	case op >= 0x5b && op <= 0x60:
		return refCompareFloat(op-0x5b, float64(f), float64(g))
	case op >= 0x61 && op <= 0x66:
		return refCompareFloat(op-0x61, d, e)
	case op >= 0x6a && op <= 0x78:
		return uint64(refInt32(op-0x6a, x, y))
	case op >= 0x7c && op <= 0x8a:
		return refInt64(op-0x7c, a, b)
	case op >= 0x8d && op <= 0x91:
		return refF32(float32(refRound(op-0x8d, float64(f))))
	case op >= 0x9b && op <= 0x9f:
		return refF64(refRound(op-0x9b, d))
	case op >= 0xa8 && op <= 0xab || op >= 0xae && op <= 0xb1: // trunc: from f32, f32, f64, f64, signed first
		value := d
		if op&^1 == 0xa8 || op&^1 == 0xae {
			value = float64(f)
		}
		return refTrunc(value, op >= 0xae, op&1 == 1, false)
	case op >= 0x100 && op <= 0x107:
		value := d
		if op&2 == 0 {
			value = float64(f)
		}
		return refTrunc(value, op >= 0x104, op&1 == 1, true)
	}
	switch op {
	case 0x67:
		return uint64(bits.LeadingZeros32(x))
	case 0x68:
		return uint64(bits.TrailingZeros32(x))
	case 0x69:
		return uint64(bits.OnesCount32(x))
	case 0x79:
		return uint64(bits.LeadingZeros64(a))
	case 0x7a:
		return uint64(bits.TrailingZeros64(a))
	case 0x7b:
		return uint64(bits.OnesCount64(a))
	case 0x8b:
		return uint64(x &^ (1 << 31))
	case 0x8c:
		return uint64(x ^ 1<<31)
	case 0x92:
		return refF32(f + g)
	case 0x93:
		return refF32(f - g)
	case 0x94:
		return refF32(f * g)
	case 0x95:
		return refF32(f / g)
	case 0x96:
		return refF32(float32(refMin(float64(f), float64(g))))
	case 0x97:
		return refF32(float32(-refMin(-float64(f), -float64(g))))
	case 0x98:
		return uint64(x&^(1<<31) | y&(1<<31))
	case 0x99:
		return a &^ (1 << 63)
	case 0x9a:
		return a ^ 1<<63
	case 0xa0:
		return refF64(d + e)
	case 0xa1:
		return refF64(d - e)
	case 0xa2:
		return refF64(d * e)
	case 0xa3:
		return refF64(d / e)
	case 0xa4:
		return refF64(refMin(d, e))
	case 0xa5:
		return refF64(-refMin(-d, -e))
	case 0xa6:
		return a&^(1<<63) | b&(1<<63)
	case 0xa7:
		return uint64(x)
	case 0xac:
		return uint64(int64(int32(x)))
	case 0xad:
		return uint64(x)
	case 0xb2:
		return refF32(float32(int32(x)))
	case 0xb3:
		return refF32(float32(x))
	case 0xb4:
		return refF32(float32(int64(a)))
	case 0xb5:
		return refF32(float32(a))
	case 0xb6:
		return refF32(float32(d))
	case 0xb7:
		return refF64(float64(int32(x)))
	case 0xb8:
		return refF64(float64(x))
	case 0xb9:
		return refF64(float64(int64(a)))
	case 0xba:
		return refF64(float64(a))
	case 0xbb:
		return refF64(float64(f))
	case 0xbc, 0xbe:
		return uint64(x)
	case 0xbd, 0xbf:
		return a
	case 0xc0:
		return uint64(uint32(int32(int8(a))))
	case 0xc1:
		return uint64(uint32(int32(int16(a))))
	case 0xc2:
		return uint64(int64(int8(a)))
	case 0xc3:
		return uint64(int64(int16(a)))
	case 0xc4:
		return uint64(int64(int32(a)))
	}
	panic(fmt.Sprintf("the reference does not know instruction 0x%x", op))
}

func refF32(f float32) uint64 {
	if f != f {
		return 0x7fc00000
	}
	return uint64(math.Float32bits(f))
}

func refF64(d float64) uint64 {
	if d != d {
		return 0x7ff8000000000000
	}
	return math.Float64bits(d)
}

// refMin is math.Min, but for a NaN and an infinity, which are a NaN.
func refMin(a, b float64) float64 {
	if a != a || b != b {
		return math.NaN()
	}
	return math.Min(a, b)
}

func refCompare(op int, sa, sb int64, a, b uint64) uint64 {
	return truth([]bool{a == b, a != b, sa < sb, a < b, sa > sb, a > b, sa <= sb, a <= b, sa >= sb, a >= b}[op])
}

func refCompareFloat(op int, a, b float64) uint64 {
	return truth([]bool{a == b, a != b, a < b, a > b, a <= b, a >= b}[op])
}

func refRound(op int, d float64) float64 {
	return []func(float64) float64{math.Ceil, math.Floor, math.Trunc, math.RoundToEven, math.Sqrt}[op](d)
}

func refInt32(op int, x, y uint32) uint32 {
	switch op {
	case 0:
		return x + y
	case 1:
		return x - y
	case 2:
		return x * y
	case 3:
		trap(y == 0 || (x == 1<<31 && y == math.MaxUint32))
		return uint32(int32(x) / int32(y))
	case 4:
		trap(y == 0)
		return x / y
	case 5:
		trap(y == 0)
		if y == math.MaxUint32 {
			return 0
		}
		return uint32(int32(x) % int32(y))
	case 6:
		trap(y == 0)
		return x % y
	case 7:
		return x & y
	case 8:
		return x | y
	case 9:
		return x ^ y
	case 10:
		return x << (y & 31)
	case 11:
		return uint32(int32(x) >> (y & 31))
	case 12:
		return x >> (y & 31)
	case 13:
		return bits.RotateLeft32(x, int(y&31))
	default:
		return bits.RotateLeft32(x, -int(y&31))
	}
}

func refInt64(op int, a, b uint64) uint64 {
	switch op {
	case 0:
		return a + b
	case 1:
		return a - b
	case 2:
		return a * b
	case 3:
		trap(b == 0 || (a == 1<<63 && b == math.MaxUint64))
		return uint64(int64(a) / int64(b))
	case 4:
		trap(b == 0)
		return a / b
	case 5:
		trap(b == 0)
		if b == math.MaxUint64 {
			return 0
		}
		return uint64(int64(a) % int64(b))
	case 6:
		trap(b == 0)
		return a % b
	case 7:
		return a & b
	case 8:
		return a | b
	case 9:
		return a ^ b
	case 10:
		return a << (b & 63)
	case 11:
		return uint64(int64(a) >> (b & 63))
	case 12:
		return a >> (b & 63)
	case 13:
		return bits.RotateLeft64(a, int(b&63))
	default:
		return bits.RotateLeft64(a, -int(b&63))
	}
}

// refTrunc converts to an integer: out of range it traps, or saturates.
func refTrunc(d float64, long, unsigned, saturate bool) uint64 {
	low, high := -math.Exp2(31), math.Exp2(31) // the range is low ≤ t < high
	if long {
		low, high = -math.Exp2(63), math.Exp2(63)
	}
	if unsigned {
		low, high = 0, 2*high
	}
	if d != d {
		trap(!saturate)
		return 0
	}
	t := math.Trunc(d)
	if t < low || t >= high {
		trap(!saturate)
		switch {
		case t < 0 && unsigned:
			return 0
		case t < 0 && long:
			return 1 << 63
		case t < 0:
			return 1 << 31
		case unsigned && long:
			return math.MaxUint64
		case unsigned:
			return math.MaxUint32
		case long:
			return math.MaxInt64
		default:
			return math.MaxInt32
		}
	}
	var v uint64
	switch {
	case unsigned:
		v = uint64(t)
	default:
		v = uint64(int64(t))
	}
	if !long {
		v = uint64(uint32(v))
	}
	return v
}
