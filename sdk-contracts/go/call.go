package sdk

// Status says how a call to another contract ended: 0 well, above 0 with the callee's abort code, below 0
// for a reason of the host.
type Status int32

// Reasons of the host.
const (
	StatusOK          Status = 0
	StatusTrapped     Status = -1 // the callee's code is faulty
	StatusOutOfGas    Status = -2
	StatusReentry     Status = -3 // the callee is already running; see CallOptions.AllowReentry
	StatusNotFound    Status = -4 // no such contract or method
	StatusDenied      Status = -5 // a rule of the chain refused, such as writing in a view
	StatusOutOfDepth  Status = -6
	StatusBadOutput   Status = -7
	StatusOutOfMemory Status = -8
)

// CallOptions refine a call. The zero value passes on 63/64 of the gas that is left.
type CallOptions struct {
	Gas          uint64 // limit; 0 for what may be passed on
	ReadOnly     bool   // the callee may not write
	AllowReentry bool   // the callee may be a contract that is running already, this one included
}

// Result is how a call ended: its output, or the data of its abort.
type Result struct {
	Status Status
	Data   []byte
}

// Call calls a method of another contract with arguments made by Args. A failure undoes what the callee
// did, and is the caller's to handle; Returned and Result.Must pass it on.
func Call(to Addr, method string, args []byte, options CallOptions) Result {
	return invoke(to[:], method, args, options, 0)
}

// CallName is Call by CNS name, with @version or without.
func CallName(name, method string, args []byte, options CallOptions) Result {
	return invoke([]byte(name), method, args, options, flagByName)
}

const (
	flagReadOnly     = 1
	flagAllowReentry = 2
	flagByName       = 4
)

func invoke(to []byte, method string, args []byte, options CallOptions, flags uint32) Result {
	if options.ReadOnly {
		flags |= flagReadOnly
	}
	if options.AllowReentry {
		flags |= flagAllowReentry
	}
	status := hostCall(to, method, args, options.Gas, flags)
	return Result{Status(status), result()}
}

// access is the system contract that knows who is frozen.
var access = Addr{19: 3}

// Stopped returns which of two accounts a freeze keeps from giving an asset, or from being given it. A contract asks before it moves what
// from has to to: the chain itself stops only transactions that a frozen account sends, and calls of a frozen contract. Where from is who
// calls, nobody (Addr{}) in its place asks about to alone.
func Stopped(from, to Addr) (account Addr, stopped bool) {
	r := Call(access, "stopped", Args(from, to), CallOptions{ReadOnly: true})
	r.Must()
	d := Decoder{data: r.Data}
	if stopped = !d.Null(); stopped {
		account = d.Addr()
	}
	if !d.Done() {
		r.fail()
	}
	return account, stopped
}

// Must ends this call as well, with CodeCallFailed, unless the other one succeeded.
func (r Result) Must() {
	if r.Status != StatusOK {
		r.fail()
	}
}

// Returned returns what the other contract did. If the call failed, this one ends as well, with CodeCallFailed; so it does if the
// output is not of type T, as the other contract is somebody else's. T is what a value of state may be.
func Returned[T any](r Result) (v T) {
	r.Must()
	d := Decoder{data: r.Data}
	if decodeValue(&d, &v); !d.Done() {
		r.fail()
	}
	return v
}

func (r Result) fail() {
	AbortData(CodeCallFailed, AppendBytes(AppendInt(AppendArray(nil, 2), int64(r.Status)), r.Data))
}

// Args encodes arguments: booleans, strings, []byte, integers of a stated width, Addr, Hash, U128 and the
// contract's own types.
func Args(values ...any) []byte {
	b := AppendArray(make([]byte, 0, 64), len(values))
	for _, v := range values {
		switch v := v.(type) {
		case bool:
			b = AppendBool(b, v)
		case uint8:
			b = AppendUint(b, uint64(v))
		case uint16:
			b = AppendUint(b, uint64(v))
		case uint32:
			b = AppendUint(b, uint64(v))
		case uint64:
			b = AppendUint(b, v)
		case int8:
			b = AppendInt(b, int64(v))
		case int16:
			b = AppendInt(b, int64(v))
		case int32:
			b = AppendInt(b, int64(v))
		case int64:
			b = AppendInt(b, v)
		case string:
			b = AppendText(b, v)
		case []byte:
			b = AppendBytes(b, v)
		case Addr:
			b = AppendAddr(b, v)
		case Hash:
			b = AppendBytes(b, v[:])
		case U128:
			b = AppendU128(b, v)
		case Encodable:
			b = v.AppendCBOR(b)
		default:
			b = appendOther(b, v)
		}
	}
	return b
}
