package consensus

import (
	"bytes"
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// durable is the form of a record that holds all that an engine must find again.
type durable struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	Epoch   uint64
	State   []byte
}

// Durable keeps the journal of an engine whose record is always whole: the last one replaces those before. Version is
// that of the state's encoding.
type Durable struct {
	Version uint16
	last    Record
}

// Persist returns the effect that makes a state of an epoch durable, or nil if it is the one that was persisted last.
// The state is one that ledger.Marshal encodes.
func (d *Durable) Persist(epoch uint64, state any) Effect {
	encode := func(v any) []byte {
		data, err := ledger.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("consensus: encode a %T: %v", v, err)) // an engine's state cannot fail to encode
		}
		return data
	}
	record := encode(&durable{Version: d.Version, Epoch: epoch, State: encode(state)})
	if bytes.Equal(record, d.last) {
		return nil
	}
	d.last = record
	return Persist{Records: []Record{record}, Replace: true}
}

// Restore reads the state of an epoch from a journal, and reports whether there is one: what was persisted in an earlier
// epoch binds nobody any more.
func (d *Durable) Restore(journal []Record, epoch uint64, state any) (found bool, err error) {
	if len(journal) == 0 {
		return false, nil
	}
	var r durable
	last := journal[len(journal)-1]
	if err := ledger.Unmarshal(last, &r); err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	switch {
	case r.Version != d.Version:
		return false, fmt.Errorf("read the journal: version %d, want %d", r.Version, d.Version)
	case r.Epoch > epoch:
		return false, fmt.Errorf("read the journal: it is of epoch %d, and the stored head begins epoch %d: blocks are missing", r.Epoch, epoch)
	case r.Epoch < epoch:
		return false, nil
	}
	if err := ledger.Unmarshal(r.State, state); err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	d.last = last
	return true, nil
}
