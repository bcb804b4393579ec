// Package sdk is what a contract in Go imports: the caller and the time, typed state, exact 128-bit
// amounts, events, errors, calls to other contracts, and hashes and signatures.
//
// A contract is a package with a struct whose methods carry a directive comment:
//
//	type Token struct{}
//
//	var balances = sdk.NewBalances[sdk.Addr]("bal")
//
//	//chain:tx conflicts=bal/{$caller},bal/{to}
//	func (Token) Transfer(c sdk.Ctx, to sdk.Addr, amount sdk.U128) error
//
//	//chain:view
//	func (Token) BalanceOf(c sdk.Ctx, who sdk.Addr) sdk.U128 { return balances.Get(who) }
//
// "fondaco contract build" turns the package into WebAssembly: it writes the exports, the codecs of the
// package's types and the schema, and reports what it cannot express with file and line. Directives:
//
//	//chain:init            the method that runs once, at deployment
//	//chain:upgrade         the method that runs once when this code replaces earlier code
//	//chain:tx              a method that transactions and contracts call
//	//chain:view            a method that may not write
//	//chain:event           on a struct that embeds Event; indexed=field,field names fields to search by
//	//chain:error 1001      on a struct that embeds Refusal: its abort code, 1000 or above
//
// tx, view, init and upgrade take roles=a,b (the node lets only callers with one of them in) and conflicts=key,key (what the method
// touches, in templates over its arguments and $caller: for who reads the schema; nodes find it out by themselves).
//
// A constant of the package, const Version = "1.0.0", is the contract's version.
//
// Arguments, results, fields and values of state are bool, string, []byte, [N]byte, integers of a stated
// width, Addr, U128, and structs, slices and pointers (absent when nil) of those. A named integer type with
// constants that count from 0 is an enum. There are no floats and no maps, as neither has one byte form.
//
// # Determinism
//
// Every node runs the call and must get the same bytes. The builder's target makes the clock the block's
// time and math/rand unseeded the same everywhere; goroutines and maps work and are deterministic too.
//
// # Arithmetic
//
// Go's own operators wrap around: 0 - 1 of a uint64 is its greatest value. Add, Sub and Mul end the call instead, as U128's
// methods do.
//
// # Failure
//
// A method that returns an error, or calls Abort, undoes everything it did. A panic does as well, with the
// code CodePanic and the panic's text.
package sdk

// Version is the version of this SDK, which the module's build section names.
const Version = "1"

// Abort codes of the SDK. A contract's own begin at 1000.
const (
	CodeArguments  = 1 // the arguments are not what the method takes
	CodePanic      = 2 // the contract panicked; the data is the text
	CodeOverflow   = 3 // an integer left its range; the data is the operation
	CodeNotFound   = 4 // something that must exist does not
	CodeDenied     = 5 // the caller may not do that
	CodeState      = 6 // a value of state is not what the contract's types say
	CodeCallFailed = 7 // a call to another contract failed; the data is its status and data
)

// Addr names an account or a contract. The zero Addr is nobody.
type Addr [20]byte

// IsZero reports whether a is nobody.
func (a Addr) IsZero() bool { return a == Addr{} }

// String returns 0x and 40 hexadecimal digits.
func (a Addr) String() string {
	const digits = "0123456789abcdef"
	out := make([]byte, 2, 42)
	out[0], out[1] = '0', 'x'
	for _, b := range a {
		out = append(out, digits[b>>4], digits[b&15])
	}
	return string(out)
}

// Hash is a digest.
type Hash [32]byte

// Event is embedded by the structs that Ctx.Emit takes.
type Event struct{}

func (Event) event() {}

// Refusal is embedded by the structs that a method returns as its errors.
type Refusal struct{}

// Error implements error. What a client reads is made of the struct's name and fields by the schema.
func (Refusal) Error() string { return "refused" }

// Failure is an error without fields, for the SDK's codes and for errors that need no schema.
type Failure struct {
	Code uint32
	Text string
}

// Error returns the text.
func (f Failure) Error() string { return f.Text }

// Denied is the error of a caller who may not do what it asked for.
func Denied(why string) error { return Failure{CodeDenied, why} }

// NotFound is the error of something that must exist and does not.
func NotFound(what string) error { return Failure{CodeNotFound, what} }

// Ctx is the call that a method serves. It is valid until the method returns.
type Ctx struct{ call *call }

// call is what the host says about a call: a CBOR map, read when first asked for.
type call struct{ data []byte }

// scratch is memory for one call of a host function at a time. In a fresh image of a Go module the first
// allocation of each size is dear (some 2 µs), and these would be among them. Nothing that is decoded shares memory with
// it.
var scratch struct {
	call    call
	input   Decoder
	value   Decoder
	args    [1024]byte
	context [512]byte
	read    [1024]byte
	key     [256]byte
	write   [1024]byte
}

// Enter returns the context of the call that the host just began. The generated exports call it.
func Enter() Ctx {
	scratch.call = call{}
	return Ctx{&scratch.call}
}

// Warm prepares the memory that every call begins with; the generated code calls it when the module starts. It
// allocates a little of each common size, so that there is room at hand and the memory need not grow: an instance
// whose memory grew cannot be used again. And it looks up the codecs of events, values of state and keys.
func Warm(events, values, keys []any) {
	found := true
	for _, v := range events {
		_, ok := v.(generatedEvent)
		found = found && ok
	}
	for _, v := range values {
		_, encodes := v.(Encodable)
		_, decodes := v.(decodable)
		found = found && encodes && decodes
	}
	for _, v := range keys {
		_, encodes := v.(keyEncodable)
		_, decodes := v.(keyDecodable)
		found = found && encodes && decodes
	}
	if !found {
		panic("a type without a codec")
	}
	warm = [...]any{
		new([8]byte), new([16]byte), new([24]byte), new([32]byte), new([48]byte), new([64]byte), new([80]byte), new([96]byte),
		new([112]byte), new([128]byte), new([192]byte), new([256]byte),
		new([1]*byte), new([2]*byte), new([3]*byte), new([4]*byte), new([6]*byte), new([8]*byte), new([10]*byte), new([12]*byte), new([16]*byte),
	}
	warm = [len(warm)]any{}
	done := make(chan byte)
	go func() { done <- deep([1 << 10]byte{}, 5) }() // grows a stack as calls will
	<-done
}

var warm [21]any // keeps the compiler from leaving Warm's allocations out

//go:noinline
func deep(a [1 << 10]byte, n byte) byte {
	if a[n] = n; n == 0 {
		return a[1]
	}
	return deep(a, n-1)
}

// field returns a decoder at the value of a name in the call's context.
func (c Ctx) field(name string) *Decoder {
	if c.call.data == nil {
		data := scratch.context[:]
		if n := int(hostCtx(data)); n > len(data) {
			data = result()
		} else {
			data = data[:n]
		}
		c.call.data = data
	}
	d := &scratch.value
	*d = Decoder{data: c.call.data}
	for range d.head(majorMap) {
		if string(d.take(d.head(majorText))) == name {
			return d
		}
		d.Skip()
	}
	Abort(CodeState, "the call's context lacks "+name)
	return d
}

// Caller is the account or contract that called.
func (c Ctx) Caller() Addr { return c.field("caller").Addr() }

// Origin is the account that signed the transaction.
func (c Ctx) Origin() Addr { return c.field("origin").Addr() }

// Self is this contract.
func (c Ctx) Self() Addr { return c.field("self").Addr() }

// Height is the height of the block that is made, or, in a view without a transaction, the last one's.
func (c Ctx) Height() uint64 { return c.field("height").Uint(64) }

// TimeMilli is the block's time in Unix milliseconds.
func (c Ctx) TimeMilli() uint64 { return c.field("time_ms").Uint(64) }

// Group names the ledger.
func (c Ctx) Group() string { return c.field("group").Text() }

// TxID is the transaction's id.
func (c Ctx) TxID() (id Hash) {
	c.field("tx_id").Fixed(id[:])
	return id
}

// TxIndex is the transaction's place in its block.
func (c Ctx) TxIndex() uint64 { return c.field("tx_index").Uint(64) }

// Method is the name of the method that was called.
func (c Ctx) Method() string { return c.field("method").Text() }

// ReadOnly reports whether writes are denied.
func (c Ctx) ReadOnly() bool { return c.field("read_only").Bool() }

// Emit adds an event to the receipt, under the name of its type.
func (c Ctx) Emit(e interface{ event() }) {
	topic, data := encodeEvent(e)
	hostEmit(topic, data)
}

// generatedEvent is what the builder adds to the structs that embed Event.
type generatedEvent interface {
	ChainTopic() string
	AppendCBOR(b []byte) []byte
}

// Institution names the caller's institution; empty when it has none, as contracts do.
func (c Ctx) Institution() string {
	data, ok := attribute(attributeInstitution)
	if !ok {
		return ""
	}
	d := Decoder{data: data}
	name := d.Text()
	if !d.Done() {
		return ""
	}
	return name
}

// HasRole reports whether the caller has the role.
func (c Ctx) HasRole(role string) bool {
	data, ok := attribute(attributeRoles)
	if !ok {
		return false
	}
	d := Decoder{data: data}
	found := false
	for range d.Array() {
		found = d.Text() == role || found
	}
	return found && d.Done()
}

const (
	attributeInstitution = 1
	attributeRoles       = 2
)

func attribute(kind uint32) ([]byte, bool) {
	buffer := make([]byte, 256)
	n := hostCallerAttr(kind, buffer)
	switch {
	case n < 0:
		return nil, false
	case int(n) > len(buffer):
		return result(), true
	}
	return buffer[:n], true
}

// result reads the host's result register.
func result() []byte {
	data := make([]byte, hostResultLen())
	if len(data) > 0 {
		hostResultRead(data)
	}
	return data
}

// Abort ends the call with a code and a text, and undoes everything it did. It does not return. What of the text is not UTF-8 becomes
// U+FFFD, as a receipt has nothing else.
func Abort(code uint32, text string) {
	if !validText(text) {
		text = string([]rune(text))
	}
	hostAbort(code, AppendText(nil, text))
}

// AbortData is Abort with data that is encoded already.
func AbortData(code uint32, data []byte) { hostAbort(code, data) }

// Require aborts with CodeDenied unless ok.
func Require(ok bool, why string) {
	if !ok {
		Abort(CodeDenied, why)
	}
}

// Fail ends the call with err: with the code and text of a Failure, and otherwise CodePanic and the text of
// the error. The generated exports call it for errors that have no code of their own.
func Fail(err error) {
	if f, ok := err.(Failure); ok { //nolint:errorlint // the module stays smaller without package errors
		Abort(f.Code, f.Text)
	}
	Abort(CodePanic, err.Error())
}

// Recovered ends the call when the contract panicked. The generated exports defer it.
func Recovered() {
	switch v := recover().(type) {
	case nil:
	case error:
		Abort(CodePanic, v.Error())
	case string:
		Abort(CodePanic, v)
	default:
		rethrow(v)
		Abort(CodePanic, "panic")
	}
}

// Input reads the call's arguments and checks that there are n.
func Input(n int) *Decoder {
	data := scratch.args[:]
	if size := int(hostInputLen()); size > len(data) {
		data = make([]byte, size)
	} else {
		data = data[:size]
	}
	hostInputRead(data)
	d := &scratch.input
	*d = Decoder{data: data}
	if d.Array() != n {
		d.Fail()
	}
	return d
}

// CheckInput ends the call unless the arguments were well formed and read to the end.
func CheckInput(d *Decoder) {
	if !d.Done() {
		Abort(CodeArguments, "the arguments do not fit the method")
	}
}

// Output sets the call's result.
func Output(data []byte) { hostOutput(data) }

// Log levels.
const (
	LevelDebug = iota
	LevelInfo
	LevelWarning
	LevelError
)

// Log writes a line to the node's local trace, which is no part of the ledger.
func Log(level uint32, text string) { hostLog(level, text) }

// GasLeft is the gas that the call may still use.
func GasLeft() uint64 { return hostGasLeft() }
