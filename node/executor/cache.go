package executor

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

// maxDecoded bounds a decoded cache. At the bound it starts anew: simpler than a list of uses, and rare.
const maxDecoded = 32_768

// decoded remembers the values that rows of a table decode to. Each entry holds the bytes that it was made
// of and serves only for equal ones, so it is right for every snapshot and needs no invalidation.
type decoded[T any] struct {
	keyOf func(ledger.Address) []byte
	mu    sync.Mutex // guards rows
	rows  map[ledger.Address]row[T]
}

type row[T any] struct {
	raw   []byte
	value *T
}

func newDecoded[T any](keyOf func(ledger.Address) []byte) *decoded[T] {
	return &decoded[T]{keyOf: keyOf, rows: map[ledger.Address]row[T]{}}
}

// read returns the row of an address, or nil when there is none. The value is shared and must not be changed.
func (d *decoded[T]) read(r precompiles.Reader, address ledger.Address) (*T, error) {
	key := d.keyOf(address)
	raw, found, err := r.Get(key)
	if err != nil || !found {
		return nil, err
	}
	d.mu.Lock()
	known, ok := d.rows[address]
	d.mu.Unlock()
	if ok && bytes.Equal(known.raw, raw) {
		return known.value, nil
	}
	value := new(T)
	if err := ledger.Unmarshal(raw, value); err != nil {
		return nil, fmt.Errorf("state under %x: %w", key, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.rows) >= maxDecoded {
		clear(d.rows)
	}
	d.rows[address] = row[T]{raw: bytes.Clone(raw), value: value}
	return value, nil
}
