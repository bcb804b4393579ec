package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/fondaco/fondaco/state/keys"
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
	pruned   bool          // there are only block, as certified returns it, and ids
	ids      []ledger.TxID // of the block's transactions, if pruned; none of a block that came pruned
}

var errRecord = errors.New("malformed record")

// maxKey is what bbolt takes as a key, less the first byte of keyRow.
const maxKey = 32767

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

// decodeRecord reads a record of this store. The result shares memory with data.
func decodeRecord(data []byte) (*record, error) {
	d := decoder{rest: data}
	r := &record{block: d.bytes()}
	for range d.count() {
		r.receipts = append(r.receipts, d.bytes())
	}
	for c := range d.changes() {
		c.Key = bytes.Clone(c.Key)
		r.changes = append(r.changes, c)
	}
	return r, d.end()
}

// encodePruned encodes what stays of a record that was pruned:
//
//	length ‖ block (canonical CBOR)
//	count ‖ transaction id…
//
// The ids are for the index, if it has to be made again. Nothing shows that they are those of the block, so nobody takes them from
// another node.
func (r *record) encodePruned() []byte {
	out := appendBytes(make([]byte, 0, len(r.block)+len(r.ids)*keys.DigestSize+8), r.block)
	out = binary.AppendUvarint(out, uint64(len(r.ids)))
	for _, id := range r.ids {
		out = append(out, id[:]...)
	}
	return out
}

// decodePruned reads what encodePruned made. The block shares memory with data.
func decodePruned(data []byte) (*record, error) {
	d := decoder{rest: data}
	r := &record{block: d.bytes(), pruned: true}
	if n := d.count(); n > 0 {
		for id := range slices.Chunk(d.take(uint64(n)*keys.DigestSize), keys.DigestSize) {
			r.ids = append(r.ids, ledger.TxID(id))
		}
	}
	return r, d.end()
}

// prune returns what stays of a record, with the ids of its transactions if they are to.
func (r *record) prune(ids bool) (rest *record, err error) {
	rest = &record{block: r.block, pruned: true}
	if !r.pruned {
		b, err := r.decodeBlock()
		if err != nil {
			return nil, err
		}
		if rest.block, err = ledger.Marshal(certified(b)); err != nil {
			return nil, err
		}
	}
	if ids {
		rest.ids, err = r.txIDs()
	}
	return rest, err
}

// txIDs returns the ids of the block's transactions, as far as they are known.
func (r *record) txIDs() ([]ledger.TxID, error) {
	if r.pruned {
		return r.ids, nil
	}
	receipts, err := r.decodeReceipts()
	if err != nil {
		return nil, err
	}
	ids := make([]ledger.TxID, len(receipts))
	for i := range receipts {
		ids[i] = receipts[i].Tx
	}
	return ids, nil
}

// certified returns what stays of a block that is pruned: its header, certificate and new-view, which prove what was in
// it and who made it final; and the transactions of a block that ended its epoch, of which there is one at most.
func certified(b *ledger.Block) *ledger.Block {
	rest := &ledger.Block{Version: b.Version, Header: b.Header, Certificate: b.Certificate, NewView: b.NewView}
	if b.Header.Order.Barrier {
		rest.Txs = b.Txs
	}
	return rest
}

func (r *record) decodeBlock() (*ledger.Block, error) { return decodeBlock(r.block) }

func decodeBlock(raw []byte) (*ledger.Block, error) {
	b := new(ledger.Block)
	if err := ledger.Unmarshal(raw, b); err != nil {
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

// changes yields the changes of a record, in rising order of keys. A key is valid until the next one; values share memory
// with the record. What is malformed ends the sequence, and end tells.
func (d *decoder) changes() iter.Seq[ledger.Change] {
	return func(yield func(ledger.Change) bool) {
		var last, key []byte
		for i := range d.count() {
			shared, rest := d.number(), d.bytes()
			if d.failed || shared > uint64(len(last)) || shared+uint64(len(rest)) > maxKey {
				d.failed = true
				return
			}
			key = append(append(key[:0], last[:shared]...), rest...)
			c := ledger.Change{Key: key}
			if length := d.number(); length == 0 {
				c.Deleted = true
			} else {
				c.Value = d.take(length - 1)
			}
			if i > 0 && bytes.Compare(last, key) >= 0 {
				d.failed = true
			}
			if d.failed || !yield(c) {
				return
			}
			last, key = key, last
		}
	}
}

// end fails unless all was read, and well-formed.
func (d *decoder) end() error {
	if d.failed || len(d.rest) != 0 {
		return errRecord
	}
	return nil
}
