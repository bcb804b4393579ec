package wasmvm

import (
	"bytes"
	"maps"
	"slices"

	"github.com/fondaco/fondaco/state/ledger"
)

// mapHost is a Host over a map.
type mapHost struct {
	context Context
	state   map[string][]byte
	events  []string
	lines   []string
	calls   func(to ledger.Target, method string, args []byte, limit ledger.Gas, flags CallFlags) (Outcome, error)
	fail    error // of Get
	drawn   byte
}

func newHost() *mapHost {
	return &mapHost{state: map[string][]byte{}, context: Context{
		Height: 7, UnixMilli: 1_700_000_000_000, Group: "main", Index: 3, Tx: ledger.TxID{1}, Self: ledger.Address{2},
		Caller: ledger.Address{3}, Origin: ledger.Address{4}, Method: "run",
	}}
}

func (h *mapHost) Context() Context { return h.context }

func (h *mapHost) Get(key []byte) ([]byte, bool, error) {
	v, ok := h.state[string(key)]
	return v, ok, h.fail
}

func (h *mapHost) Put(key, value []byte) error {
	h.state[string(key)] = value
	return nil
}

func (h *mapHost) Delete(key []byte) error {
	delete(h.state, string(key))
	return nil
}

func (h *mapHost) Add(key []byte, delta, low, high int64) (bool, error) {
	var n int64
	if v, ok := h.state[string(key)]; ok {
		if err := ledger.Unmarshal(v, &n); err != nil {
			return false, &Denial{Code: DeniedCounter, Reason: err.Error()}
		}
	}
	if n+delta < low || n+delta > high {
		return false, nil
	}
	v, err := ledger.Marshal(n + delta)
	h.state[string(key)] = v
	return true, err
}

func (h *mapHost) Scan(start, end []byte, reverse bool, limit int) (Scanner, error) {
	s := &mapScanner{}
	for _, k := range slices.Sorted(maps.Keys(h.state)) {
		if k >= string(start) && (len(end) == 0 || k < string(end)) {
			s.pairs = append(s.pairs, [2][]byte{[]byte(k), bytes.Clone(h.state[k])})
		}
	}
	if reverse {
		slices.Reverse(s.pairs)
	}
	s.pairs = s.pairs[:min(limit, len(s.pairs))]
	return s, nil
}

func (h *mapHost) Keep(func(Pair) error) error { return nil } // a mapScanner has all pairs

func (h *mapHost) Emit(topic string, data []byte) error {
	h.events = append(h.events, topic)
	return nil
}

func (h *mapHost) Call(to ledger.Target, method string, args []byte, limit ledger.Gas, flags CallFlags) (Outcome, error) {
	return h.calls(to, method, args, limit, flags)
}

func (h *mapHost) CallerAttribute(kind Attribute) ([]byte, bool, error) {
	return []byte{0x63, 'a', 'b', 'c'}, kind == AttributeInstitution, nil
}

func (h *mapHost) Rand(dst []byte) error {
	for i := range dst {
		h.drawn++
		dst[i] = h.drawn
	}
	return nil
}

func (h *mapHost) Log(_ LogLevel, text string) { h.lines = append(h.lines, text) }

type mapScanner struct{ pairs [][2][]byte }

func (s *mapScanner) Next() (pair Pair, ok bool, err error) {
	if len(s.pairs) == 0 {
		return Pair{}, false, nil
	}
	p := s.pairs[0]
	s.pairs = s.pairs[1:]
	return Pair{Key: p[0], Value: p[1]}, true, nil
}

func (s *mapScanner) Close() {}
