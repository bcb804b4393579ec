package executor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// host is what a running contract in WebAssembly can reach.
type host struct {
	t    *transaction
	call call
}

var _ wasmvm.Host = (*host)(nil)

func (h *host) Context() wasmvm.Context {
	return wasmvm.Context{
		Height: h.t.order.Height, UnixMilli: h.t.order.UnixMilli, Group: h.t.order.Group, Tx: h.t.id, Index: h.t.index,
		Self: h.call.target.Address, Caller: h.call.caller, Origin: h.t.origin, Method: h.call.method, ReadOnly: h.call.readOnly,
	}
}

// key returns the state key of a key of the contract.
func (h *host) key(k []byte) []byte {
	full := make([]byte, ledger.AddressSize+len(k))
	copy(full, h.call.target.Address[:])
	copy(full[ledger.AddressSize:], k)
	return full
}

// scratch is key in memory that the next one takes: overlays copy the keys that they keep.
func (h *host) scratch(k []byte) []byte {
	h.t.key = append(append(h.t.key[:0], h.call.target.Address[:]...), k...)
	return h.t.key
}

func (h *host) Get(key []byte) ([]byte, bool, error) { return h.t.overlay.Get(h.scratch(key)) }

func (h *host) Keep(pay func(wasmvm.Pair) error) error { return h.t.keepScans(pay) }

func (h *host) Put(key, value []byte) error {
	return h.t.put(h.scratch(key), value)
}

func (h *host) Delete(key []byte) error {
	return h.t.delete(h.scratch(key))
}

func (h *host) Add(key []byte, delta, low, high int64) (bool, error) {
	full := h.scratch(key)
	ok, err := h.t.overlay.Add(full, delta, low, high)
	if errors.Is(err, state.ErrCounter) {
		return false, &wasmvm.Denial{Code: wasmvm.DeniedCounter, Reason: "the value under the key is no counter"}
	}
	if err != nil || !ok {
		return false, err
	}
	return true, h.t.mayWrite(len(full) + state.MaxCounter) // whatever it counts; a denial undoes it
}

func (h *host) Scan(start, end []byte, reverse bool, limit int) (wasmvm.Scanner, error) {
	from, to := h.key(start), h.key(end)
	if len(end) == 0 {
		to = prefixEnd(h.call.target.Address[:])
	}
	s := &scanner{t: h.t, left: limit}
	s.next, s.stop = iter.Pull2(h.t.overlay.Walk(from, to, reverse))
	h.t.scanners = append(h.t.scanners, s)
	return s, nil
}

// scanner reads a range of the contract's keys as it was when the scanner was made: it reads on from the
// overlay as long as nothing is written, and before a write takes the rest into memory.
type scanner struct {
	t    *transaction
	next func() (state.Entry, error, bool)
	stop func()
	left int

	kept bool          // all that is left is in rest
	rest []wasmvm.Pair // comes before what next returns
	size int           // bytes that were taken to rest
}

func (s *scanner) Next() (pair wasmvm.Pair, ok bool, err error) {
	if s.left <= 0 {
		return pair, false, nil
	}
	if ok = len(s.rest) > 0; ok {
		pair, s.rest = s.rest[0], s.rest[1:]
	} else if !s.kept {
		pair, ok, err = s.read()
	}
	if err != nil || !ok {
		s.left = 0
		return wasmvm.Pair{}, false, err
	}
	if !pair.Deleted {
		s.left--
	}
	return pair, true, nil
}

// read reads on in the overlay.
func (s *scanner) read() (pair wasmvm.Pair, ok bool, err error) {
	entry, err, ok := s.next()
	if err != nil || !ok {
		return pair, false, err
	}
	return wasmvm.Pair{Key: entry.Key[ledger.AddressSize:], Value: entry.Value, Deleted: entry.Deleted}, true, nil
}

// keep takes the rest of the range into memory. If that fails halfway, for want of gas, what it has taken is shown first.
func (s *scanner) keep(pay func(wasmvm.Pair) error) error {
	for len(s.rest) < s.left {
		pair, ok, err := s.read()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if !pair.Deleted {
			s.rest = append(s.rest, pair)
			s.size += len(pair.Key) + len(pair.Value)
		}
		if err := pay(pair); err != nil {
			return err
		}
		if s.size > maxKeptScan {
			return &wasmvm.Denial{Code: wasmvm.DeniedScan, Reason: fmt.Sprintf("a write while a scan has over %d bytes to go: close it first", maxKeptScan)}
		}
	}
	s.kept = true
	s.stop()
	return nil
}

func (s *scanner) Close() {
	s.stop()
	s.t.scanners = slices.DeleteFunc(s.t.scanners, func(o *scanner) bool { return o == s })
}

func (h *host) Emit(topic string, data []byte) error {
	return h.t.emit(h.call.target.Address, topic, data)
}

func (h *host) Call(to ledger.Target, method string, args []byte, limit ledger.Gas, flags wasmvm.CallFlags) (wasmvm.Outcome, error) {
	return h.t.call(call{
		target: to, caller: h.call.target.Address, method: method, args: args, limit: limit,
		readOnly: h.call.readOnly || flags&wasmvm.CallReadOnly != 0, reentry: flags&wasmvm.CallReentry != 0,
	})
}

// CallerAttribute knows institution and roles of an account. A contract that calls has none.
func (h *host) CallerAttribute(kind wasmvm.Attribute) ([]byte, bool, error) {
	if kind != wasmvm.AttributeInstitution && kind != wasmvm.AttributeRoles {
		return nil, false, nil
	}
	account, err := h.t.account(h.call.caller)
	if err != nil || account == nil {
		return nil, false, err
	}
	var value any = account.Institution
	if kind == wasmvm.AttributeRoles {
		value = account.Roles
	}
	raw, err := ledger.Marshal(value)
	if err != nil {
		return nil, false, fmt.Errorf("encode an attribute: %w", err)
	}
	return raw, true, nil
}

// Rand expands the parent's order hash, the transaction's id and a counter by hashing, as HKDF-Expand does with
// HMAC. It is the same on every node and known to who proposes the block: good against accidents, not against
// a leader.
func (h *host) Rand(dst []byte) error {
	for len(dst) > 0 {
		var counter [8]byte
		binary.BigEndian.PutUint64(counter[:], h.t.random)
		h.t.random++
		block := keys.Hash(h.t.x.suite, "rand", h.t.order.Parent[:], h.t.id[:], counter[:])
		dst = dst[copy(dst, block[:]):]
	}
	return nil
}

func (h *host) Log(level wasmvm.LogLevel, text string) {
	names := [...]string{"debug", "info", "warn", "error"}
	h.t.trace.add("%s %s: %q", h.call.target.Address, names[min(level, wasmvm.LogError)], text)
}
