package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// record is what the segments hold of one block. Its parts are encoded so that each can be read, and the block
// sent to others, without decoding the rest:
//
//	length ‖ block (canonical CBOR)
//	count ‖ (length ‖ receipt (canonical CBOR))…
//	count ‖ (shared ‖ length ‖ rest of key ‖ 0, or 1 + length of value ‖ value)…
//
// Numbers are unsigned varints. Of a change's key only what differs from the change before is written; 0 in
// the place of a value's length stands for a deletion.
type record struct {
	block    []byte
	receipts [][]byte
	changes  []ledger.Change
}

var errRecord = errors.New("malformed record")

func (r *record) encode() []byte {
	size := len(r.block) + 64
	for _, e := range r.receipts {
		size += len(e) + 3
	}
	for i := range r.changes {
		size += len(r.changes[i].Key) + len(r.changes[i].Value) + 12
	}
	out := make([]byte, 0, size)
	out = appendBytes(out, r.block)
	out = binary.AppendUvarint(out, uint64(len(r.receipts)))
	for _, e := range r.receipts {
		out = appendBytes(out, e)
	}
	out = binary.AppendUvarint(out, uint64(len(r.changes)))
	var last []byte
	for i := range r.changes {
		c := &r.changes[i]
		shared := 0
		for shared < min(len(last), len(c.Key)) && last[shared] == c.Key[shared] {
			shared++
		}
		out = binary.AppendUvarint(out, uint64(shared))
		out = appendBytes(out, c.Key[shared:])
		last = c.Key
		if c.Deleted {
			out = append(out, 0)
			continue
		}
		out = binary.AppendUvarint(out, uint64(len(c.Value))+1)
		out = append(out, c.Value...)
	}
	return out
}

func appendBytes(out, b []byte) []byte {
	return append(binary.AppendUvarint(out, uint64(len(b))), b...)
}

// decodeRecord reads a record. The result shares memory with data.
func decodeRecord(data []byte) (*record, error) {
	d := decoder{rest: data}
	r := &record{block: d.bytes()}
	for range d.count() {
		r.receipts = append(r.receipts, d.bytes())
	}
	n := d.count()
	r.changes = make([]ledger.Change, 0, n)
	var last []byte
	for range n {
		shared := d.number()
		rest := d.bytes()
		if d.failed || shared > uint64(len(last)) {
			return nil, errRecord
		}
		key := make([]byte, 0, int(shared)+len(rest))
		key = append(append(key, last[:shared]...), rest...)
		if len(r.changes) > 0 && bytes.Compare(last, key) >= 0 {
			return nil, fmt.Errorf("%w: keys of changes do not rise", errRecord)
		}
		c := ledger.Change{Key: key}
		if length := d.number(); length == 0 {
			c.Deleted = true
		} else {
			c.Value = d.take(length - 1)
		}
		last = key
		r.changes = append(r.changes, c)
	}
	if d.failed || len(d.rest) != 0 {
		return nil, errRecord
	}
	return r, nil
}

// header decodes the block's header alone.
func (r *record) decodeBlock() (*ledger.Block, error) {
	b := new(ledger.Block)
	if err := ledger.Unmarshal(r.block, b); err != nil {
		return nil, err
	}
	return b, nil
}

func (r *record) decodeReceipts() ([]ledger.Receipt, error) {
	receipts := make([]ledger.Receipt, len(r.receipts))
	for i, e := range r.receipts {
		if err := ledger.Unmarshal(e, &receipts[i]); err != nil {
			return nil, fmt.Errorf("receipt %d: %w", i, err)
		}
	}
	return receipts, nil
}

// decoder reads what record.encode writes; after the first fault failed is set and all results are empty.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) number() uint64 {
	n, used := binary.Uvarint(d.rest)
	if used <= 0 || d.failed {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[used:]
	return n
}

// count reads how many elements follow, each of which has at least one byte.
func (d *decoder) count() int {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.failed, d.rest = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.failed, d.rest = true, nil
		return nil
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) bytes() []byte { return d.take(d.number()) }
