//go:build !(wasip1 && wasm)

package sdk

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
)

// Fake is a host in memory, for unit tests of a contract's code under the ordinary toolchain, with debugger
// and coverage. What the node denies, such as a key that is too long, ends the call with CodeDenied. It has no gas, and no other
// contracts but Calls; contracttest runs the real module. The zero value is an empty state at height 0.
type Fake struct {
	State  map[string][]byte
	Events []any    // what was emitted, in order
	Logs   []string // what was logged

	Caller, Origin, Self Addr
	Institution          string
	Roles                []string
	Height, TimeMilli    uint64
	Group                string
	Method               string
	TxID                 Hash
	ReadOnly             bool

	// Calls answers calls to other contracts; nil answers StatusNotFound.
	Calls func(to []byte, method string, args []byte) Result
	Asked CallOptions // of the call that Calls answers

	// Hashes answers SM3 (1) and Keccak256 (3), which need what the standard library has not. SHA256 is as it is.
	Hashes func(algorithm uint32, data []byte) Hash
	// Verifies answers Verify; nil: no signature is valid.
	Verifies func(algorithm uint32, public, signature, digest []byte) bool

	result []byte
	scans  [][][2][]byte // nil when closed
	began  int           // events before this call
}

// What the node denies beyond.
const (
	maxKey       = 256
	maxValue     = 128 << 10
	maxScan      = 1_024
	maxOpenScans = 8
	maxEvents    = 64
)

// Abortion is how Fake.Run reports that the code ended the call.
type Abortion struct {
	Code uint32
	Data []byte
}

// Error returns the code and, if the data is a text, the text.
func (a *Abortion) Error() string {
	d := Decoder{data: a.Data}
	if text := d.Text(); d.Done() {
		return fmt.Sprintf("abort %d: %s", a.Code, text)
	}
	return fmt.Sprintf("abort %d with data %x", a.Code, a.Data)
}

var (
	running sync.Mutex // held while a Fake is the host
	host    *Fake
)

// Run runs f as a call. When f returns an error or ends the call, state and events are as before; the error
// is f's, or an *Abortion. Calls of Run wait for one another.
func (h *Fake) Run(f func(Ctx) error) (err error) {
	running.Lock()
	defer running.Unlock()
	state, events := maps.Clone(h.State), len(h.Events)
	if h.State == nil {
		h.State = map[string][]byte{}
	}
	h.began, h.scans = events, nil
	host = h
	defer func() {
		host = nil
		if v := recover(); v != nil {
			abortion, ok := v.(*Abortion)
			if !ok {
				panic(v)
			}
			err = abortion
		}
		if err != nil {
			h.State, h.Events = state, h.Events[:events]
		}
	}()
	return f(Enter())
}

func current() *Fake {
	if host == nil {
		panic("sdk: contract code outside of a call: run it within Fake.Run")
	}
	return host
}

// rethrow passes an abort on through the contract's own recover.
func rethrow(v any) {
	if a, ok := v.(*Abortion); ok {
		panic(a)
	}
}

// fill answers a host function that returns bytes.
func (h *Fake) fill(dst, value []byte) int32 {
	h.result = value
	if len(value) <= len(dst) {
		copy(dst, value)
	}
	return int32(len(value))
}

func deny(format string, values ...any) {
	panic(&Abortion{Code: CodeDenied, Data: AppendText(nil, fmt.Sprintf(format, values...))})
}

func (h *Fake) write() {
	if h.ReadOnly {
		deny("a write in a view")
	}
}

func checkKey(key []byte) {
	if len(key) == 0 || len(key) > maxKey {
		deny("a key of %d bytes, want 1 to %d", len(key), maxKey)
	}
}

func hostCtx(dst []byte) int32 {
	h := current()
	b := appendHead(nil, majorMap, 11)
	b = AppendAddr(AppendText(b, "self"), h.Self)
	b = AppendText(AppendText(b, "group"), h.Group)
	b = AppendBytes(AppendText(b, "tx_id"), h.TxID[:])
	b = AppendAddr(AppendText(b, "caller"), h.Caller)
	b = AppendUint(AppendText(b, "height"), h.Height)
	b = AppendText(AppendText(b, "method"), h.Method)
	b = AppendAddr(AppendText(b, "origin"), h.Origin)
	b = AppendUint(AppendText(b, "time_ms"), h.TimeMilli)
	b = AppendUint(AppendText(b, "gas_left"), hostGasLeft())
	b = AppendUint(AppendText(b, "tx_index"), 0)
	b = AppendBool(AppendText(b, "read_only"), h.ReadOnly)
	return h.fill(dst, b)
}

func hostCallerAttr(kind uint32, dst []byte) int32 {
	h := current()
	switch {
	case kind == attributeInstitution && h.Institution != "":
		return h.fill(dst, AppendText(nil, h.Institution))
	case kind == attributeRoles:
		b := AppendArray(nil, len(h.Roles))
		for _, role := range h.Roles {
			b = AppendText(b, role)
		}
		return h.fill(dst, b)
	}
	return -1
}

func hostInputLen() uint32 { return 0 }

func hostInputRead([]byte) {}

func hostOutput([]byte) {}

func hostAbort(code uint32, data []byte) { panic(&Abortion{Code: code, Data: data}) }

func hostResultLen() uint32 { return uint32(len(current().result)) }

func hostResultRead(dst []byte) { copy(dst, current().result) }

func hostGet(key, dst []byte) int32 {
	h := current()
	checkKey(key)
	value, ok := h.State[string(key)]
	if !ok {
		return -1
	}
	return h.fill(dst, value)
}

func hostSet(key, value []byte) {
	h := current()
	h.write()
	checkKey(key)
	if len(value) > maxValue {
		deny("a value of %d bytes, at most %d are allowed", len(value), maxValue)
	}
	h.State[string(key)] = slices.Clone(value)
}

func hostDel(key []byte) {
	h := current()
	h.write()
	checkKey(key)
	delete(h.State, string(key))
}

func hostHas(key []byte) bool {
	checkKey(key)
	_, ok := current().State[string(key)]
	return ok
}

func hostAdd(key []byte, delta, least, most int64) int32 {
	h := current()
	h.write()
	checkKey(key)
	now := int64(0)
	if value, ok := h.State[string(key)]; ok {
		if d := (Decoder{data: value}); d.U128().wide() && d.Done() {
			return -1
		}
		d := Decoder{data: value}
		if now = d.Int(64); !d.Done() {
			deny("add to what is no counter")
		}
	}
	sum := now + delta
	if (sum > now) != (delta > 0) && delta != 0 || sum < least || sum > most {
		return -1
	}
	h.State[string(key)] = AppendInt(nil, sum)
	return 0
}

func hostScan(start, end []byte, flags, limit uint32) uint32 {
	h := current()
	open := 0
	for _, s := range h.scans {
		if s != nil {
			open++
		}
	}
	switch {
	case max(len(start), len(end)) > maxKey:
		deny("scan: a bound of %d bytes, at most %d are allowed", max(len(start), len(end)), maxKey)
	case limit == 0 || limit > maxScan:
		deny("scan: limit %d, want 1 to %d", limit, maxScan)
	case open == maxOpenScans:
		deny("scan: %d are open already", maxOpenScans)
	}
	found := [][2][]byte{}
	for _, key := range slices.Sorted(maps.Keys(h.State)) {
		if key >= string(start) && (len(end) == 0 || key < string(end)) {
			found = append(found, [2][]byte{[]byte(key), h.State[key]})
		}
	}
	if flags&scanReverse != 0 {
		slices.Reverse(found)
	}
	h.scans = append(h.scans, found[:min(len(found), int(limit))])
	return uint32(len(h.scans) - 1)
}

func hostScanNext(it uint32, dst []byte) int32 {
	h := current()
	if len(h.scans[it]) == 0 {
		return -1
	}
	entry := h.scans[it][0]
	h.scans[it] = h.scans[it][1:]
	return h.fill(dst, AppendBytes(AppendBytes(AppendArray(nil, 2), entry[0]), entry[1]))
}

func hostScanClose(it uint32) { current().scans[it] = nil }

func hostEmit(string, []byte) {}

// encodeEvent keeps the event itself: tests compare it better than its encoding.
func encodeEvent(e any) (topic string, data []byte) {
	h := current()
	h.write()
	if len(h.Events)-h.began == maxEvents {
		deny("more than %d events", maxEvents)
	}
	h.Events = append(h.Events, e)
	return "", nil
}

func hostCall(to []byte, method string, args []byte, gas uint64, flags uint32) int32 {
	h := current()
	h.Asked = CallOptions{Gas: gas, ReadOnly: flags&flagReadOnly != 0, AllowReentry: flags&flagAllowReentry != 0}
	r := Result{Status: StatusNotFound}
	if h.Calls != nil {
		r = h.Calls(to, method, args)
	}
	h.result = r.Data
	return int32(r.Status)
}

func hostHash(algorithm uint32, data, dst []byte) {
	h := current()
	var digest Hash
	switch {
	case algorithm == algorithmSHA256:
		digest = sha256.Sum256(data)
	case h.Hashes != nil:
		digest = h.Hashes(algorithm, data)
	default:
		panic("sdk: of the hashes, a Fake has SHA256 only: set Hashes, or use contracttest")
	}
	copy(dst, digest[:])
}

func hostVerify(algorithm uint32, public, signature, digest []byte) uint32 {
	if h := current(); h.Verifies != nil && h.Verifies(algorithm, public, signature, digest) {
		return 1
	}
	return 0
}

func hostRand(dst []byte) {
	for i := range dst {
		dst[i] = byte(i)
	}
}

func hostLog(_ uint32, text string) {
	h := current()
	h.Logs = append(h.Logs, text)
}

func hostGasLeft() uint64 { return 1 << 40 }

// The builder adds codecs to a contract's types only in the module. Here they are read by reflection, to the
// same bytes.

func appendOther(b []byte, v any) []byte {
	return appendReflect(b, reflect.Indirect(reflect.ValueOf(v)))
}

func appendReflect(b []byte, v reflect.Value) []byte {
	switch known := v.Interface().(type) {
	case Addr:
		return AppendAddr(b, known)
	case U128:
		return AppendU128(b, known)
	}
	switch v.Kind() {
	case reflect.Bool:
		return AppendBool(b, v.Bool())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return AppendUint(b, v.Uint())
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return AppendInt(b, v.Int())
	case reflect.String:
		return AppendText(b, v.String())
	case reflect.Pointer:
		if v.IsNil() {
			return AppendNull(b)
		}
		return appendReflect(b, v.Elem())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			raw := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(raw), v)
			return AppendBytes(b, raw)
		}
		b = AppendArray(b, v.Len())
		for i := range v.Len() {
			b = appendReflect(b, v.Index(i))
		}
		return b
	case reflect.Struct:
		b = AppendArray(b, v.NumField())
		for _, f := range v.Fields() {
			b = appendReflect(b, f)
		}
		return b
	default:
		panic(fmt.Sprintf("sdk: %s cannot be a value of a contract", v.Type()))
	}
}

func decodeOther(d *Decoder, v any) { decodeReflect(d, reflect.ValueOf(v).Elem()) }

func decodeReflect(d *Decoder, v reflect.Value) {
	switch known := v.Addr().Interface().(type) {
	case *Addr:
		*known = d.Addr()
		return
	case *U128:
		*known = d.U128()
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(d.Bool())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(d.Uint(uint(v.Type().Bits())))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(d.Int(uint(v.Type().Bits())))
	case reflect.String:
		v.SetString(d.Text())
	case reflect.Pointer:
		if !d.Null() {
			v.Set(reflect.New(v.Type().Elem()))
			decodeReflect(d, v.Elem())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(d.Bytes())
			return
		}
		n := d.Array()
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			decodeReflect(d, v.Index(i))
		}
	case reflect.Array:
		reflect.Copy(v, reflect.ValueOf(d.fixed(v.Len())))
	case reflect.Struct:
		d.Struct(v.NumField())
		for _, f := range v.Fields() {
			decodeReflect(d, f)
		}
	default:
		panic(fmt.Sprintf("sdk: %s cannot be a value of a contract", v.Type()))
	}
}

func appendKeyOther(b []byte, k any) []byte { return appendKeyReflect(b, reflect.ValueOf(k).Elem()) }

func appendKeyReflect(b []byte, v reflect.Value) []byte {
	if known, ok := reflect.TypeAssert[U128](v); ok {
		return append64(append64(b, known.Hi), known.Lo)
	}
	switch v.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return AppendKeyUint(b, v.Uint(), v.Type().Bits()/8)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return AppendKeyInt(b, v.Int(), v.Type().Bits()/8)
	case reflect.String:
		return append(b, v.String()...)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			b = append(b, byte(v.Index(i).Uint()))
		}
		return b
	case reflect.Struct:
		for _, f := range v.Fields() {
			b = appendKeyReflect(b, f)
		}
		return b
	default:
		panic(fmt.Sprintf("sdk: %s cannot be a key", v.Type()))
	}
}

func decodeKeyOther(b []byte, k any) ([]byte, bool) {
	return decodeKeyReflect(b, reflect.ValueOf(k).Elem())
}

func decodeKeyReflect(b []byte, v reflect.Value) ([]byte, bool) {
	if known, ok := reflect.TypeAssert[*U128](v.Addr()); ok {
		raw := make([]byte, 16)
		rest, ok := KeyFixed(b, raw)
		known.Hi, _, _ = KeyUint(raw, 8)
		known.Lo, _, _ = KeyUint(raw[8:], 8)
		return rest, ok
	}
	switch v.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, rest, ok := KeyUint(b, v.Type().Bits()/8)
		v.SetUint(n)
		return rest, ok
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, rest, ok := KeyInt(b, v.Type().Bits()/8)
		v.SetInt(n)
		return rest, ok
	case reflect.String:
		v.SetString(string(b))
		return nil, true
	case reflect.Slice:
		v.SetBytes(bytes.Clone(b))
		return nil, true
	case reflect.Array:
		raw := make([]byte, v.Len())
		rest, ok := KeyFixed(b, raw)
		reflect.Copy(v, reflect.ValueOf(raw))
		return rest, ok
	case reflect.Struct:
		ok := true
		for i := 0; i < v.NumField() && ok; i++ {
			b, ok = decodeKeyReflect(b, v.Field(i))
		}
		return b, ok
	default:
		panic(fmt.Sprintf("sdk: %s cannot be a key", v.Type()))
	}
}
