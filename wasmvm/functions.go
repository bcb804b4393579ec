package wasmvm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"golang.org/x/crypto/sha3"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Modules that a contract may import from.
const (
	abiModule  = "fondaco_v1"
	wasiModule = "wasi_snapshot_preview1"
)

// Numbers of the algorithms of the host functions hash and verify.
const (
	hashSM3 = 1 + iota
	hashSHA256
	hashKeccak256
)

const (
	verifySM2 = 1 + iota
	verifyEd25519
	verifyP256
)

// suites hash and check signatures for contracts, which may have to do with chains of either: a chain's own suite counts for nothing here.
type suites struct{ std, gm keys.Suite }

// Flags of the host function scan.
const (
	scanReverse  = 1
	scanKeysOnly = 2
)

// function is a host function. It finds its arguments on the stack and puts its result there.
type function struct {
	module, name string
	funcType
	early bool // may be called while _initialize runs
	run   func(c *call, stack []uint64)
}

// functions are all host functions.
var functions = newFunctions()

func newFunctions() []function {
	var all []function
	types := func(s string) []byte {
		b := []byte{}
		for _, c := range s {
			b = append(b, map[rune]byte{'i': typeI32, 'l': typeI64}[c])
		}
		return b
	}
	// early marks with a leading ! what _initialize may call.
	add := func(module, name, signature string, run func(c *call, s []uint64)) {
		name, early := strings.CutPrefix(name, "!")
		in, out, _ := strings.Cut(signature, ":")
		all = append(all, function{module: module, name: name, funcType: funcType{types(in), types(out)}, early: early, run: run})
	}
	abi := func(name, signature string, run func(c *call, s []uint64)) { add(abiModule, name, signature, run) }
	wasi := func(name, signature string, run func(c *call, s []uint64)) { add(wasiModule, name, signature, run) }

	abi("input_len", ":i", func(c *call, s []uint64) { s[0] = uint64(len(c.args)) })
	abi("input_read", "iii:i", func(c *call, s []uint64) { s[0] = c.copyOut(c.args, s[0], s[1], s[2]) })
	abi("output", "ii:", func(c *call, s []uint64) { c.output = c.value(s[0], s[1]) })
	abi("!abort", "iii:", func(c *call, s []uint64) { c.abort(max(uint32(s[0]), 1), c.value(s[1], s[2])) })
	abi("result_len", ":i", func(c *call, s []uint64) { s[0] = uint64(len(c.result)) })
	abi("result_read", "iii:i", func(c *call, s []uint64) { s[0] = c.copyOut(c.result, s[0], s[1], s[2]) })

	abi("ctx", "ii:i", func(c *call, s []uint64) {
		c.charge(c.costs.context)
		s[0] = c.answer(c.context.append(make([]byte, 0, 256), c.gasLeft()), s[0], s[1])
	})
	abi("caller_attr", "iii:i", func(c *call, s []uint64) {
		c.charge(c.costs.attribute)
		value, found, err := c.host.CallerAttribute(Attribute(s[0]))
		c.check(err)
		s[0] = c.answerIf(found, value, s[1], s[2])
	})

	abi("get", "iiii:i", func(c *call, s []uint64) {
		key := c.key(s[0], s[1], c.costs.read, c.costs.readByte)
		value, found, err := c.host.Get(key)
		c.check(err)
		c.charge(c.costs.readByte * uint64(len(value)))
		s[0] = c.answerIf(found, value, s[2], s[3])
	})
	abi("has", "ii:i", func(c *call, s []uint64) {
		key := c.key(s[0], s[1], c.costs.read, c.costs.readByte)
		value, found, err := c.host.Get(key)
		c.check(err)
		c.charge(c.costs.readByte * uint64(len(value)))
		s[0] = 0
		if found {
			s[0] = 1
		}
	})
	abi("set", "iiii:", func(c *call, s []uint64) {
		c.writes("set")
		key := c.key(s[0], s[1], c.costs.write, c.costs.writeByte)
		if s[3] > MaxValue {
			c.deny(DeniedValue, "set: a value of %d bytes, at most %d are allowed", s[3], MaxValue)
		}
		c.charge(c.costs.writeByte * s[3])
		c.keep()
		c.check(c.host.Put(key, c.bytes(s[2], s[3])))
	})
	abi("del", "ii:", func(c *call, s []uint64) {
		c.writes("del")
		key := c.key(s[0], s[1], c.costs.write, c.costs.writeByte)
		c.keep()
		c.check(c.host.Delete(key))
	})
	abi("add", "iilll:i", func(c *call, s []uint64) {
		c.writes("add")
		key := c.key(s[0], s[1], c.costs.read+c.costs.write, c.costs.writeByte)
		c.keep()
		ok, err := c.host.Add(key, int64(s[2]), int64(s[3]), int64(s[4]))
		c.check(err)
		s[0] = 0
		if !ok {
			s[0] = none
		}
	})
	abi("scan", "iiiiii:i", (*call).scan)
	abi("scan_next", "iii:i", (*call).scanNext)
	abi("scan_close", "i:", func(c *call, s []uint64) {
		c.opened(s[0]).Close()
		c.scans[s[0]-1] = openScan{}
	})

	abi("emit", "iiii:", func(c *call, s []uint64) {
		c.writes("emit")
		if s[1] == 0 || s[1] > MaxTopic {
			c.deny(DeniedEvent, "emit: a topic of %d bytes, want 1 to %d", s[1], MaxTopic)
		}
		c.events++
		c.eventBytes += s[1] + s[3]
		if c.events > MaxEvents || c.eventBytes > MaxEventBytes {
			c.deny(DeniedEvent, "emit: event %d, %d bytes of events: at most %d and %d are allowed", c.events, c.eventBytes, MaxEvents, MaxEventBytes)
		}
		c.charge(c.costs.emit + c.costs.emitByte*(s[1]+s[3]))
		topic, data := string(c.read(s[0], s[1])), c.bytes(s[2], s[3])
		if !utf8.ValidString(topic) || !canonical(data) {
			c.deny(DeniedEvent, "emit %q: the topic must be UTF-8 and the data one canonical CBOR value", topic)
		}
		c.check(c.host.Emit(topic, data))
	})
	abi("call", "iiiiiili:i", (*call).contract)

	abi("hash", "iiiii:i", func(c *call, s []uint64) {
		alg, n := s[0], s[2]
		if alg == 0 || alg > hashKeccak256 {
			c.deny(DeniedAlgorithm, "hash: there is no algorithm %d", alg)
		}
		c.charge(c.costs.hash[alg].base + c.costs.hash[alg].perByte*n)
		data := c.view(s[1], n)
		var sum [32]byte
		switch alg {
		case hashSM3:
			sum = c.suites.gm.Sum(data)
		case hashSHA256:
			sum = sha256.Sum256(data)
		case hashKeccak256:
			h := sha3.NewLegacyKeccak256()
			h.Write(data)
			h.Sum(sum[:0])
		}
		s[0] = c.answer(sum[:], s[3], s[4])
	})
	abi("verify", "iiiiiii:i", func(c *call, s []uint64) {
		alg := s[0]
		var suite keys.Suite
		var algorithm keys.Algorithm
		switch alg {
		case verifySM2:
			suite, algorithm = c.suites.gm, keys.SM2
		case verifyEd25519:
			suite, algorithm = c.suites.std, keys.Ed25519
		case verifyP256:
			suite, algorithm = c.suites.std, keys.P256
		default:
			c.deny(DeniedAlgorithm, "verify: there is no algorithm %d", alg)
		}
		c.charge(c.costs.verify[alg])
		key, signature, message := c.bytes(s[1], s[2]), c.bytes(s[3], s[4]), c.view(s[5], s[6])
		public, err := suite.ParsePublic(algorithm, key)
		s[0] = 0
		if err == nil && len(message) == keys.DigestSize && public.Verify(keys.Digest(message), signature) == nil {
			s[0] = 1
		}
	})
	abi("recover", "iiiiiii:i", func(_ *call, s []uint64) { s[0] = none })

	abi("rand", "ii:", func(c *call, s []uint64) { c.random(s[0], s[1]) })
	abi("!log", "iii:", func(c *call, s []uint64) {
		c.charge(c.costs.log + c.costs.hostByte*s[2])
		c.log(LogLevel(min(s[0], uint64(LogError))), string(c.view(s[1], s[2])))
	})
	abi("!gas_left", ":l", func(c *call, s []uint64) { s[0] = c.gasLeft() + c.withheld })

	const badFile, invalid = 8, 28         // errno of WASI preview 1
	nothing := func(c *call, s []uint64) { // of the counts at two addresses
		c.store32(s[0], 0)
		c.store32(s[1], 0)
		s[0] = 0
	}
	zero := func(_ *call, s []uint64) { s[0] = 0 }
	wasi("!args_get", "ii:i", zero)
	wasi("!args_sizes_get", "ii:i", nothing)
	wasi("!environ_get", "ii:i", zero)
	wasi("!environ_sizes_get", "ii:i", nothing)
	wasi("!sched_yield", ":i", zero)
	wasi("!clock_time_get", "ili:i", func(c *call, s []uint64) {
		c.store64(s[2], c.now())
		s[0] = 0
	})
	wasi("!random_get", "ii:i", func(c *call, s []uint64) {
		c.random(s[0], s[1])
		s[0] = 0
	})
	wasi("!fd_write", "iiii:i", func(c *call, s []uint64) {
		if s[0] != 1 && s[0] != 2 {
			s[0] = badFile
			return
		}
		level := LogInfo
		if s[0] == 2 {
			level = LogWarn
		}
		written := uint64(0)
		for k := range s[2] {
			vector := c.view(uint64(uint32(s[1]+8*k)), 8)
			n := uint64(binary.LittleEndian.Uint32(vector[4:]))
			c.charge(c.costs.log + c.costs.hostByte*n)
			c.write(level, c.view(uint64(binary.LittleEndian.Uint32(vector)), n))
			written += n
		}
		c.store32(s[3], uint32(min(written, math.MaxUint32)))
		s[0] = 0
	})
	// Go's package os asks for these when it starts, and fmt, time and most encodings import it: there are no files.
	noFile := func(_ *call, s []uint64) { s[0] = badFile }
	wasi("!fd_close", "i:i", noFile)
	wasi("!fd_fdstat_get", "ii:i", noFile)
	wasi("!fd_fdstat_set_flags", "ii:i", noFile)
	wasi("!fd_prestat_get", "ii:i", noFile)
	wasi("!fd_prestat_dir_name", "iii:i", noFile)
	wasi("!poll_oneoff", "iiii:i", func(c *call, s []uint64) {
		if s[2] == 0 {
			s[0] = invalid
			return
		}
		ready := uint32(0)
		for k := range s[2] {
			c.charge(c.costs.host)
			subscription := c.bytes(uint64(uint32(s[0]+48*k)), 48)
			if subscription[8] != 0 { // a descriptor: nothing ever arrives
				continue
			}
			timeout, absolute := binary.LittleEndian.Uint64(subscription[24:]), subscription[40]&1 == 1
			if timeout > 0 && !(absolute && timeout <= c.now()) {
				c.waits++
			}
			var event [32]byte
			copy(event[:8], subscription)
			copy(c.view(s[1]+32*uint64(ready), 32), event[:])
			ready++
		}
		if ready == 0 || c.waits > maxWaits {
			c.note("the contract waits for something that never happens: time stands still during a call, and there is no input")
			c.abort(abortBlocked, nil)
		}
		c.store32(s[3], ready)
		s[0] = 0
	})
	wasi("!proc_exit", "i:", func(c *call, s []uint64) {
		c.exited = true
		c.abort(max(uint32(s[0]), 1), nil)
	})
	return all
}

// maxWaits is how many sleeps in a call return at once, with no time passed. Go's runtime takes some on its way to a
// panic's message; a contract that sleeps goes to sleep again, as its clock has not moved.
const maxWaits = 64

// abortBlocked is the abort code of a contract that waits for ever: "bad state" of the SDKs' codes.
const abortBlocked = 6

// none is the result -1.
const none = math.MaxUint32

// signature returns the type of a host function.
func signature(module, name string) (*funcType, bool) {
	for i := range functions {
		if functions[i].module == module && functions[i].name == name {
			return &functions[i].funcType, true
		}
	}
	return nil, false
}

func (t *funcType) equal(o *funcType) bool {
	return slices.Equal(t.params, o.params) && slices.Equal(t.results, o.results)
}

// String returns the type in the words of the text format.
func (t *funcType) String() string {
	names := func(types []byte) string {
		var s []string
		for _, v := range types {
			s = append(s, typeName(v))
		}
		return "(" + strings.Join(s, ", ") + ")"
	}
	return names(t.params) + " -> " + names(t.results)
}

// offer gives the host functions to a runtime. They use wazero's stack interface: its reflection takes 30 times as long.
func offer(ctx context.Context, run wazero.Runtime) error {
	for _, module := range []string{abiModule, wasiModule} {
		b := run.NewHostModuleBuilder(module)
		for i := range functions {
			f := &functions[i]
			if f.module != module {
				continue
			}
			b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, _ api.Module, stack []uint64) {
				c := ctx.Value(callKey{}).(*call)
				c.begin(f, stack)
				f.run(c, stack)
			}), f.params, f.results).Export(f.name)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("wasmvm: instantiate the host functions %s: %w", module, err)
		}
	}
	return nil
}

// The errors with which a host function ends a call. Those of a node's faults are of type *fault.
var (
	errPointer = errors.New("a pointer given to a host function is outside of memory")
	errGas     = errors.New("out of gas in a host function")
	errEarly   = errors.New("_initialize must not call")
)

// fault is an error of the node behind a host function.
type fault struct{ err error }

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// abortion ends a call with the contract's code.
type abortion struct {
	code uint32
	data []byte
}

func (a *abortion) Error() string { return fmt.Sprintf("aborted with code %d", a.code) }

// call is one call of a method. Host functions end it by a panic, which wazero turns into the error of the call.
type call struct {
	host    Host // nil while _initialize runs
	context Context
	costs   *costs
	suites  *suites
	node    context.Context
	in      *instance

	args, output, result []byte
	scans                [MaxOpenScans]openScan
	events               int
	eventBytes           uint64
	logBytes             int
	lines                [LogError + 1][]byte // without an end yet, by level
	exited               bool
	waits                int      // in poll_oneoff
	seed                 [32]byte // of random bytes while _initialize runs
	withheld             uint64   // from _initialize, of its gas: gas_left counts it
	drawn                uint64
	trace                string
}

type openScan struct {
	Scanner
	keysOnly bool
}

// begin is run before each host function: it pays the base price and widens no argument beyond 32 bits.
func (c *call) begin(f *function, stack []uint64) {
	for i, t := range f.params {
		if t == typeI32 {
			stack[i] = uint64(uint32(stack[i]))
		}
	}
	c.charge(c.costs.host)
	if c.host == nil && !f.early {
		panic(fmt.Errorf("%w %s: what it leaves in memory depends on the module alone", errEarly, f.name))
	}
	if err := c.node.Err(); err != nil {
		panic(&fault{context.Cause(c.node)})
	}
}

func (c *call) gasLeft() uint64 { return uint64(max(int64(c.in.gas.Get()), 0)) }

// charge takes gas before the work that it pays for. Amounts stay below 2^48: lengths are below 2^32 and prices small.
func (c *call) charge(n uint64) {
	if err := c.take(n); err != nil {
		panic(err)
	}
}

// take is charge that returns errGas.
func (c *call) take(n uint64) error {
	left := int64(c.in.gas.Get()) - int64(n)
	c.in.gas.Set(uint64(left))
	if left < 0 {
		return errGas
	}
	return nil
}

func (c *call) check(err error) {
	if err == nil {
		return
	}
	if d, ok := errors.AsType[*Denial](err); ok {
		panic(d)
	}
	panic(&fault{err})
}

func (c *call) deny(code uint32, format string, args ...any) {
	panic(&Denial{Code: code, Reason: fmt.Sprintf(format, args...)})
}

func (c *call) abort(code uint32, data []byte) { panic(&abortion{code: code, data: data}) }

func (c *call) writes(name string) {
	if c.context.ReadOnly {
		c.deny(DeniedReadOnly, "%s: the call is read-only", name)
	}
}

// view returns a part of memory, which the contract may overwrite.
func (c *call) view(ptr, n uint64) []byte {
	b, ok := c.in.memory.Read(uint32(ptr), uint32(n))
	if !ok || ptr > math.MaxUint32 {
		panic(errPointer)
	}
	return b
}

// read is view that pays as bytes does.
func (c *call) read(ptr, n uint64) []byte {
	c.charge(c.costs.hostByte * n)
	return c.view(ptr, n)
}

// bytes returns a copy of a part of memory and pays for it.
func (c *call) bytes(ptr, n uint64) []byte { return slices.Clone(c.read(ptr, n)) }

// value is bytes for a CBOR value, and pays for looking at each item of it.
func (c *call) value(ptr, n uint64) []byte {
	b := c.bytes(ptr, n)
	c.charge(c.costs.item * ledger.Items(b))
	return b
}

func (c *call) store32(ptr uint64, v uint32) { binary.LittleEndian.PutUint32(c.view(ptr, 4), v) }
func (c *call) store64(ptr, v uint64)        { binary.LittleEndian.PutUint64(c.view(ptr, 8), v) }

// copyOut copies from a value to memory and returns how many bytes.
func (c *call) copyOut(value []byte, dst, off, limit uint64) uint64 {
	value = value[min(off, uint64(len(value))):]
	value = value[:min(limit, uint64(len(value)))]
	c.charge(uint64(len(value)) >> c.costs.backShift)
	copy(c.view(dst, uint64(len(value))), value)
	return uint64(len(value))
}

// answer puts a value into the result register and, if it fits, into memory.
func (c *call) answer(value []byte, dst, limit uint64) uint64 {
	c.result = value
	if uint64(len(value)) <= limit {
		c.copyOut(value, dst, 0, limit)
	}
	return uint64(len(value))
}

func (c *call) answerIf(found bool, value []byte, dst, limit uint64) uint64 {
	if !found {
		c.result = nil
		return none
	}
	return c.answer(value, dst, limit)
}

// key returns a key, as a view, and pays for reading it and for its operation.
func (c *call) key(ptr, n, price, perByte uint64) []byte {
	if n == 0 || n > MaxKey {
		c.deny(DeniedKey, "a key of %d bytes, want 1 to %d", n, MaxKey)
	}
	c.charge(price + perByte*n)
	return c.read(ptr, n)
}

func (c *call) scan(s []uint64) {
	start, startLen, end, endLen, flags, limit := s[0], s[1], s[2], s[3], s[4], s[5]
	if startLen > MaxKey || endLen > MaxKey {
		c.deny(DeniedKey, "scan: a bound of %d bytes, at most %d are allowed", max(startLen, endLen), MaxKey)
	}
	if limit == 0 || limit > MaxScan || flags > scanReverse|scanKeysOnly {
		c.deny(DeniedScan, "scan: limit %d and flags %d, want 1 to %d and at most %d", limit, flags, MaxScan, scanReverse|scanKeysOnly)
	}
	c.charge(c.costs.scan)
	i := slices.IndexFunc(c.scans[:], func(o openScan) bool { return o.Scanner == nil })
	if i < 0 {
		c.deny(DeniedScan, "scan: %d are open already", MaxOpenScans)
	}
	scanner, err := c.host.Scan(c.bytes(start, startLen), c.bytes(end, endLen), flags&scanReverse != 0, int(limit))
	c.check(err)
	c.scans[i] = openScan{scanner, flags&scanKeysOnly != 0}
	s[0] = uint64(i + 1)
}

func (c *call) opened(it uint64) *openScan {
	if it == 0 || it > MaxOpenScans || c.scans[it-1].Scanner == nil {
		c.deny(DeniedScan, "no scan %d is open", it)
	}
	return &c.scans[it-1]
}

func (c *call) scanNext(s []uint64) {
	scan := c.opened(s[0])
	c.charge(c.costs.scanNext)
	pair, ok, err := scan.Next()
	for ; ok && pair.Deleted; pair, ok, err = scan.Next() {
		c.charge(c.costs.scanDead)
	}
	c.check(err)
	if !ok {
		s[0] = c.answerIf(false, nil, 0, 0)
		return
	}
	c.charge(c.costs.readByte * uint64(len(pair.Key)+len(pair.Value)))
	if scan.keysOnly {
		pair.Value = nil
	}
	out := appendHead(make([]byte, 0, len(pair.Key)+len(pair.Value)+8), 4, 2)
	s[0] = c.answer(appendBytes(appendBytes(out, pair.Key), pair.Value), s[1], s[2])
}

// keep lets open scans take into memory what a write would change, at the price of scan_next.
func (c *call) keep() {
	err := c.host.Keep(func(p Pair) error {
		price := c.costs.scanDead
		if !p.Deleted {
			price = c.costs.scanNext + c.costs.readByte*uint64(len(p.Key)+len(p.Value))
		}
		return c.take(price)
	})
	if errors.Is(err, errGas) {
		panic(errGas)
	}
	c.check(err)
}

// contract calls another contract.
func (c *call) contract(s []uint64) {
	to, toLen, method, methodLen, args, argsLen, limit, flags := s[0], s[1], s[2], s[3], s[4], s[5], s[6], CallFlags(s[7])
	if flags&^(CallReadOnly|CallReentry|CallByName) != 0 {
		c.deny(DeniedCall, "call: unknown flags %d", flags)
	}
	if argsLen > MaxInput {
		c.deny(DeniedInput, "call: arguments of %d bytes, at most %d are allowed", argsLen, MaxInput)
	}
	if methodLen == 0 || methodLen > ledger.MaxMethodLength || toLen > 2*ledger.MaxNameLength+1 {
		c.deny(DeniedCall, "call: a method of %d bytes and a target of %d", methodLen, toLen)
	}
	c.charge(c.costs.call)
	var target ledger.Target
	name := c.read(to, toLen)
	if flags&CallByName != 0 {
		if !utf8.Valid(name) || len(name) == 0 {
			c.deny(DeniedCall, "call: the target's name is malformed")
		}
		target.Name, target.Version, _ = strings.Cut(string(name), "@")
	} else {
		if len(name) != ledger.AddressSize {
			c.deny(DeniedCall, "call: an address of %d bytes, want %d", len(name), ledger.AddressSize)
		}
		target.Address = ledger.Address(name)
	}
	methodName, input := string(c.read(method, methodLen)), c.bytes(args, argsLen)
	if !utf8.ValidString(methodName) { // it would be in receipts, which are text that everybody decodes
		c.deny(DeniedCall, "call: the method is no UTF-8")
	}
	if c.context.ReadOnly {
		flags |= CallReadOnly
	}
	left := c.gasLeft()
	if limit == 0 {
		limit = left - left/64
	}
	limit = min(limit, left)
	o, err := c.host.Call(target, methodName, input, ledger.Gas(limit), flags)
	c.check(err)
	c.charge(min(uint64(o.Gas), limit))
	c.result = o.Data
	if o.Trace != "" {
		c.note(o.Trace)
	}
	s[0] = uint64(uint32(callStatus(o)))
}

// callStatus returns how a contract is told the outcome of a call.
func callStatus(o Outcome) int32 {
	switch o.Status {
	case ledger.OK:
		return 0
	case ledger.Aborted:
		return int32(min(max(o.Code, 1), math.MaxInt32))
	case ledger.OutOfGas:
		return -2
	case ledger.NotFound:
		return -4
	case ledger.Denied:
		if o.Code == DeniedReentry {
			return -3
		}
		return -5
	case ledger.OutOfDepth:
		return -6
	case ledger.BadOutput:
		return -7
	case ledger.OutOfMemory:
		return -8
	default:
		return -1
	}
}

// now returns the time of WASI clocks in nanoseconds. While _initialize runs it stands at 1, because Go's
// runtime takes 0 for a broken clock.
func (c *call) now() uint64 {
	if c.host == nil {
		return 1
	}
	return uint64(max(c.context.UnixMilli, 0))*1_000_000 + 1
}

// random fills memory with bytes that are equal on every node, or while _initialize runs depend on the module alone.
func (c *call) random(dst, n uint64) {
	c.charge(c.costs.random + c.costs.randByte*n)
	memory := c.view(dst, n)
	for len(memory) > 0 {
		part := memory[:min(len(memory), 4096)]
		memory = memory[len(part):]
		if c.host != nil {
			b := make([]byte, len(part))
			c.check(c.host.Rand(b))
			copy(part, b)
			continue
		}
		for len(part) > 0 {
			block := sha256.Sum256(binary.BigEndian.AppendUint64(slices.Clone(c.seed[:]), c.drawn))
			c.drawn++
			part = part[copy(part, block[:]):]
		}
	}
}

// log passes text on, or keeps it for the trace while _initialize runs.
func (c *call) log(level LogLevel, text string) {
	text = text[:min(len(text), MaxLogBytes-c.logBytes)]
	c.logBytes += len(text)
	text = strings.ToValidUTF8(text, "\ufffd")
	if level >= LogWarn {
		c.note(text)
	}
	if c.host != nil && text != "" {
		c.host.Log(level, text)
	}
}

// note adds a line to the call's trace.
func (c *call) note(text string) {
	if len(c.trace) < maxTrace {
		c.trace += text[:min(len(text), maxTrace)] + "\n"
	}
}

// write is log for the descriptors of WASI: programs write pieces of lines.
func (c *call) write(level LogLevel, text []byte) {
	line := &c.lines[level]
	if room := MaxLogBytes - c.logBytes - len(*line); len(text) > room {
		text = text[:max(room, 0)]
	}
	*line = append(*line, text...)
	for {
		i := bytes.IndexByte(*line, '\n')
		if i < 0 {
			return
		}
		c.log(level, string((*line)[:i]))
		*line = (*line)[i+1:]
	}
}

// flush logs lines without an end.
func (c *call) flush() {
	for level := range c.lines {
		if len(c.lines[level]) > 0 {
			c.log(LogLevel(level), string(c.lines[level]))
			c.lines[level] = nil
		}
	}
}
