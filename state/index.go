package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"sync"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// index finds blocks by height, transactions by id, and proofs that a block is in the chain's history. The
// newest part is in memory; the rest is in tables that can be made again from the segments:
//
//	blocks: height → block hash ‖ offset of the frame in its segment
//	txs:    transaction id → height, position
//	tiles:  level, n → root of the n-th complete subtree of 2^level block hashes; level is a multiple of tileLevels
type index struct {
	suite keys.Suite
	kv    kv

	mu     sync.RWMutex  // guards what follows
	stored uint64        // blocks in the tables
	kept   ledger.Height // see Store.Kept: the offsets in the tables are those after pruning to it
	recent []indexed     // the blocks after those
	txs    map[ledger.TxID]location
}

// tileLevels is how many levels of the history tree lie between two that are kept: a proof then reads at most
// 2^tileLevels digests per kept level.
const tileLevels = 6

type indexed struct {
	hash   keys.Digest
	offset int64
	txs    []ledger.TxID
}

type location struct {
	height ledger.Height
	index  uint32
}

var (
	keyStored = []byte("stored")
	keyKept   = []byte("kept")
)

func openIndex(suite keys.Suite, k kv) (*index, error) {
	x := &index{suite: suite, kv: k, txs: map[ledger.TxID]location{}}
	return x, k.view(func(r reader) error {
		if v := r.get(tableMeta, keyStored); len(v) == 8 {
			x.stored = binary.BigEndian.Uint64(v)
		}
		if v := r.get(tableMeta, keyKept); len(v) == 8 {
			x.kept = ledger.Height(binary.BigEndian.Uint64(v))
		}
		return nil
	})
}

// blocks returns how many blocks the index knows.
func (x *index) blocks() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.stored + uint64(len(x.recent))
}

func (x *index) add(hash keys.Digest, offset int64, txs []ledger.TxID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := ledger.Height(x.stored + uint64(len(x.recent)))
	x.recent = append(x.recent, indexed{hash: hash, offset: offset, txs: txs})
	for i, id := range txs {
		x.txs[id] = location{h, uint32(i)}
	}
}

// flush moves the oldest blocks from memory to the tables until those hold blocks.
func (x *index) flush(blocks uint64) error {
	x.mu.RLock()
	from := x.stored
	if blocks <= from {
		x.mu.RUnlock()
		return nil
	}
	moving := x.recent[: blocks-from : blocks-from]
	x.mu.RUnlock()
	memory := inMemory{from, moving}
	err := x.kv.update(func(w writer) error {
		type txRow struct {
			id  ledger.TxID
			row []byte
		}
		var txs []txRow
		for i, b := range moving {
			h := from + uint64(i)
			row := append(make([]byte, 0, keys.DigestSize+8), b.hash[:]...)
			if err := w.put(tableBlocks, binary.BigEndian.AppendUint64(nil, h), binary.BigEndian.AppendUint64(row, uint64(b.offset))); err != nil {
				return err
			}
			for n, id := range b.txs {
				txs = append(txs, txRow{id, binary.AppendUvarint(binary.AppendUvarint(make([]byte, 0, 8), h), uint64(n))})
			}
			for level := tileLevels; (h+1)&(1<<level-1) == 0 && level < 64; level += tileLevels {
				root, err := x.root(w, memory, h+1-1<<level, h+1)
				if err != nil {
					return err
				}
				if err := w.put(tableTiles, tileKey(level, h>>level), root[:]); err != nil {
					return err
				}
			}
		}
		// In rising order, as in table.write: else each moves all that are there above it.
		slices.SortFunc(txs, func(a, b txRow) int { return bytes.Compare(a.id[:], b.id[:]) })
		for _, tx := range txs {
			// A row that is put where others belong hides those from search.
			if _, astray, err := x.search(w, tx.id); astray > 0 || err != nil {
				return cmp.Or(err, x.damaged("a search for transaction %s comes to others", tx.id))
			}
			if err := w.put(tableTxs, tx.id[:], tx.row); err != nil {
				return err
			}
		}
		return w.put(tableMeta, keyStored, binary.BigEndian.AppendUint64(nil, blocks))
	})
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stored = blocks
	x.recent = append([]indexed(nil), x.recent[len(moving):]...)
	for _, b := range moving {
		for _, id := range b.txs {
			delete(x.txs, id)
		}
	}
	return nil
}

func tileKey(level int, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(level)}, n)
}

// block returns the hash of a block and the offset of its frame.
func (x *index) block(h ledger.Height) (b indexed, err error) {
	x.mu.RLock()
	stored := x.stored
	if n := uint64(h) - stored; uint64(h) >= stored && n < uint64(len(x.recent)) {
		b = x.recent[n]
		x.mu.RUnlock()
		return b, nil
	}
	x.mu.RUnlock()
	if uint64(h) >= stored {
		return b, fmt.Errorf("%w: block %d", ErrNotFound, h)
	}
	return b, x.kv.view(func(r reader) error {
		b, err = x.row(r, uint64(h))
		return err
	})
}

// move notes where the frames of the blocks below are since the segments were pruned up to a height. all is every block
// of the segments that were written anew; batch of them go into one transaction, and a crash between two leaves what is to
// be done again. Nobody may read meanwhile.
func (x *index) move(kept ledger.Height, batch int, all iter.Seq2[framed, error]) error {
	next, stop := iter.Pull2(all)
	defer stop()
	for {
		var moved []framed
		more := true
		for len(moved) < batch {
			at, err, ok := next()
			if err != nil {
				return err
			}
			if more = ok && uint64(at.height) < x.stored; !more {
				break
			}
			moved = append(moved, at)
		}
		err := x.kv.update(func(w writer) error {
			for _, at := range moved {
				b, err := x.row(w, uint64(at.height))
				if err != nil {
					return err
				}
				row := append(make([]byte, 0, keys.DigestSize+8), b.hash[:]...)
				if err := w.put(tableBlocks, binary.BigEndian.AppendUint64(nil, uint64(at.height)), binary.BigEndian.AppendUint64(row, uint64(at.offset))); err != nil {
					return err
				}
			}
			if more {
				return nil
			}
			return w.put(tableMeta, keyKept, binary.BigEndian.AppendUint64(nil, uint64(kept)))
		})
		if err != nil {
			return err
		}
		if !more {
			x.kept = kept
			return nil
		}
	}
}

func (x *index) row(r reader, h uint64) (b indexed, err error) {
	row := r.get(tableBlocks, binary.BigEndian.AppendUint64(nil, h))
	if len(row) != keys.DigestSize+8 {
		return b, x.damaged("block %d is missing", h)
	}
	b.hash, b.offset = keys.Digest(row), int64(binary.BigEndian.Uint64(row[keys.DigestSize:]))
	return b, nil
}

func (x *index) damaged(format string, args ...any) error {
	file := "the index"
	if b, ok := x.kv.(*boltKV); ok {
		file = b.file
	}
	return &damaged{file: file, cause: fmt.Sprintf(format, args...)}
}

func (x *index) findTx(id ledger.TxID) (at location, found bool, err error) {
	x.mu.RLock()
	at, found = x.txs[id]
	x.mu.RUnlock()
	if found {
		return at, true, nil
	}
	// A flush may have moved the transaction since: it is in the tables before it leaves the map.
	err = x.kv.view(func(r reader) error {
		row, _, err := x.search(r, id)
		if row == nil || err != nil {
			return err
		}
		h, n := binary.Uvarint(row)
		if n <= 0 {
			return x.damaged("the row of transaction %s is malformed", id)
		}
		i, m := binary.Uvarint(row[n:])
		if m <= 0 || n+m != len(row) {
			return x.damaged("the row of transaction %s is malformed", id)
		}
		at, found = location{ledger.Height(h), uint32(i)}, true
		return nil
	})
	return at, found, err
}

// maxAstray is how many rows a search passes at most that should not be where it came.
const maxAstray = 1 << 16

// search returns the row of a transaction, and nil if there is none: not only where a search for it comes, which a bit flipped in a branch
// page leads to another leaf page (see searcher), but between the rows before and after it. A transaction that is not found is one that
// may be put into a block. astray is how many rows it passed that should not be where it came.
func (x *index) search(r reader, id ledger.TxID) (row []byte, astray int, err error) {
	if row := r.get(tableTxs, id[:]); row != nil {
		return row, 0, nil
	}
	for _, reverse := range []bool{false, true} {
		for key, row := range r.scan(tableTxs, id[:], reverse) {
			order := bytes.Compare(key, id[:])
			if order == 0 {
				return row, astray, nil
			}
			if order > 0 != reverse {
				break
			}
			if astray++; astray > maxAstray {
				return nil, astray, x.damaged("a search for transaction %s comes to others", id)
			}
		}
	}
	return nil, astray, nil
}

// inMemory is the blocks that were in memory at some time, the first at height from. Blocks are in the tables before they leave
// the memory, so who asks for it before his view of the tables begins finds every block in one or the other.
type inMemory struct {
	from   uint64
	blocks []indexed
}

func (x *index) inMemory() inMemory {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return inMemory{x.stored, x.recent}
}

// root returns the root of the history tree over the hashes of the blocks from lo up to and without hi.
func (x *index) root(r reader, memory inMemory, lo, hi uint64) (keys.Digest, error) {
	n := hi - lo
	if n == 1 {
		b, err := x.hash(r, memory, lo)
		return ledger.LeafHash(x.suite, b[:]), err
	}
	if level := bits.TrailingZeros64(n); n&(n-1) == 0 && level%tileLevels == 0 && lo&(n-1) == 0 {
		if row := r.get(tableTiles, tileKey(level, lo>>level)); len(row) == keys.DigestSize {
			return keys.Digest(row), nil
		}
	}
	split := lo + 1<<(bits.Len64(n-1)-1)
	left, err := x.root(r, memory, lo, split)
	if err != nil {
		return keys.Digest{}, err
	}
	right, err := x.root(r, memory, split, hi)
	return ledger.NodeHash(x.suite, left, right), err
}

// hash returns a block hash, from memory or the tables.
func (x *index) hash(r reader, memory inMemory, h uint64) (keys.Digest, error) {
	if n := h - memory.from; h >= memory.from && n < uint64(len(memory.blocks)) {
		return memory.blocks[n].hash, nil
	}
	b, err := x.row(r, h)
	return b.hash, err
}

// frontier returns the right edge of the history tree over the first n blocks.
func (x *index) frontier(n uint64) (f ledger.Frontier, err error) {
	memory := x.inMemory()
	err = x.kv.view(func(r reader) error {
		f = ledger.Frontier{Size: n}
		for lo := uint64(0); lo < n; {
			width := uint64(1) << (bits.Len64(n-lo) - 1)
			peak, err := x.root(r, memory, lo, lo+width)
			if err != nil {
				return err
			}
			f.Peaks = append(f.Peaks, peak)
			lo += width
		}
		return nil
	})
	return f, err
}

// prove shows that block `of` is among the first size blocks.
func (x *index) prove(of, size uint64) (p ledger.Proof, err error) {
	memory := x.inMemory()
	err = x.kv.view(func(r reader) error {
		p = ledger.Proof{Index: of, Size: size}
		for lo, hi := uint64(0), size; hi-lo > 1; {
			split := lo + 1<<(bits.Len64(hi-lo-1)-1)
			from, to := split, hi
			if of < split {
				hi = split
			} else {
				from, to, lo = lo, split, split
			}
			sibling, err := x.root(r, memory, from, to)
			if err != nil {
				return err
			}
			p.Path = append([]keys.Digest{sibling}, p.Path...)
		}
		return nil
	})
	return p, err
}
