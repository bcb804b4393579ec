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
type decoded[K comparable, T any] struct {
	keyOf func(K) []byte
	mu    sync.Mutex // guards rows
	rows  map[K]row[T]
}

type row[T any] struct {
	raw   []byte
	value *T
}

func newDecoded[K comparable, T any](keyOf func(K) []byte) *decoded[K, T] {
	return &decoded[K, T]{keyOf: keyOf, rows: map[K]row[T]{}}
}

// read returns the row of an id, or nil when there is none. The value is shared and must not be changed.
func (d *decoded[K, T]) read(r precompiles.Reader, id K) (*T, error) {
	key := d.keyOf(id)
	raw, found, err := r.Get(key)
	if err != nil || !found {
		return nil, err
	}
	d.mu.Lock()
	known, ok := d.rows[id]
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
	d.rows[id] = row[T]{raw: bytes.Clone(raw), value: value}
	return value, nil
}

// keeper is a reader of the state that decodes who may vouch for an institution once, for all its accounts.
type keeper struct {
	precompiles.Reader
	trusts *decoded[string, precompiles.Trust]
}

var _ precompiles.TrustKeeper = keeper{}

// Trust implements precompiles.TrustKeeper.
func (k keeper) Trust(institution string) (*precompiles.Trust, error) {
	return k.trusts.read(k.Reader, institution)
}

func (x *Executor) keep(r precompiles.Reader) precompiles.Reader { return keeper{r, x.trusts} }
