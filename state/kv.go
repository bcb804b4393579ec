package state

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// kv is a transactional store of sorted tables: bbolt, or memory under simulation. What it holds can always
// be made again from the segments.
type kv interface {
	// view runs f on a consistent state. Bytes that f gets are valid until it returns.
	view(f func(reader) error) error
	// update runs f and makes what it wrote durable, all or nothing. There is one update at a time.
	update(f func(writer) error) error
	close() error
}

type reader interface {
	// get returns nil when there is no such key. Values are never empty.
	get(t tableID, key []byte) []byte
	// scan yields the rows from the first key at or above from; reverse: from the last key below from,
	// falling. A nil from is the respective end.
	scan(t tableID, from []byte, reverse bool) iter.Seq2[[]byte, []byte]
}

type writer interface {
	reader
	put(t tableID, key, value []byte) error
	del(t tableID, key []byte) error
}

// tableID names a table of either file.
type tableID uint8

const (
	tableMeta   tableID = iota
	tableLeaves         // S: path → leaf digest, key, value
	tableValues         // V: path → value that is too long for S
	tableKeys           // K: key → one byte
	tableBlocks         // height → block hash, offset in the segment
	tableTxs            // transaction id → height, position
	tableTiles          // level, index → root of a complete subtree of the history tree
	tablePinned         // path → row of S as it was when a state was pinned, see pin
	tableCount
)

var tableNames = [tableCount]string{"meta", "S", "V", "K", "blocks", "txs", "tiles", "pinned"}

// damaged says that a bbolt file cannot be read. The file can be made again from the segments.
type damaged struct {
	file  string
	cause any
}

func (e *damaged) Error() string { return fmt.Sprintf("%s is damaged: %v", e.file, e.cause) }

// boltKV keeps the tables in a bbolt file. A bad page of it shows as a memory fault or a panic inside bbolt;
// both are turned into a damaged error.
type boltKV struct {
	file string
	db   *bolt.DB
}

// initialMap is the address space that is mapped at first. Growing a map waits for all readers, so it is
// sized beyond what a state is expected to need.
const initialMap = 16 << 30

// growth is by how much a file grows at a time.
const growth = 1 << 20

// pageSize is that of bbolt's pages, whatever the system's are.
const pageSize = 4096

// maxFile keeps a runaway file from filling the disk.
const maxFile = 1 << 40

// openBolt opens a file of tables, or makes one.
func openBolt(file string) (k *boltKV, err error) {
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		if err := makeBolt(file); err != nil {
			return nil, fmt.Errorf("make %s: %w", file, err)
		}
	}
	k = &boltKV{file: file}
	err = k.guard(func() error {
		db, err := bolt.Open(file, 0o600, &bolt.Options{
			Timeout: time.Second, PageSize: pageSize, FreelistType: bolt.FreelistMapType,
			InitialMmapSize: initialMap, MaxSize: maxFile, NoStatistics: true,
		})
		if err != nil {
			return err
		}
		db.AllocSize = growth
		k.db = db
		return nil
	})
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) || errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("open %s: %w", file, err)
		}
		if d, ok := errors.AsType[*damaged](err); ok {
			return nil, d
		}
		return nil, &damaged{file: file, cause: err}
	}
	return k, nil
}

// makeBolt makes a file without tables, under another name first: what a crash leaves of that is made again, and never taken for a
// file that was damaged.
func makeBolt(file string) error {
	making := file + newEnd
	if err := os.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(making, 0o600, &bolt.Options{Timeout: time.Second, PageSize: pageSize, FreelistType: bolt.FreelistMapType}) // synced
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Rename(making, file); err != nil {
		return err
	}
	return OS().SyncDir(filepath.Dir(file))
}

// guard runs f with faults in the file's map turned into errors.
func (k *boltKV) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			if own, ok := p.(callback); ok {
				panic(own.value)
			}
			err = &damaged{file: k.file, cause: p}
		}
	}()
	return f()
}

// callback carries a panic that is not the file's fault past guard.
type callback struct{ value any }

func (k *boltKV) view(f func(reader) error) error {
	return k.guard(func() error {
		return k.db.View(func(tx *bolt.Tx) error { return f(&boltTx{tx: tx}) })
	})
}

func (k *boltKV) update(f func(writer) error) error {
	return k.guard(func() error {
		return k.db.Update(func(tx *bolt.Tx) error { return f(&boltTx{tx: tx}) })
	})
}

func (k *boltKV) close() error { return k.guard(k.db.Close) }

type boltTx struct {
	tx      *bolt.Tx
	tables  [tableCount]*bolt.Bucket
	cursors [tableCount]*bolt.Cursor // not in use; nil: none
}

// table returns nil for a table that was never written.
func (t *boltTx) table(id tableID) *bolt.Bucket {
	if t.tables[id] == nil {
		t.tables[id] = t.tx.Bucket([]byte(tableNames[id]))
	}
	return t.tables[id]
}

func (t *boltTx) made(id tableID) (*bolt.Bucket, error) {
	if b := t.table(id); b != nil {
		return b, nil
	}
	b, err := t.tx.CreateBucketIfNotExists([]byte(tableNames[id]))
	t.tables[id] = b
	if err == nil && (id == tableBlocks || id == tableTiles) {
		b.FillPercent = 1 // keys rise
	}
	return b, err
}

func (t *boltTx) get(id tableID, key []byte) []byte {
	b := t.table(id)
	if b == nil {
		return nil
	}
	return b.Get(key)
}

func (t *boltTx) put(id tableID, key, value []byte) error {
	b, err := t.made(id)
	if err != nil {
		return err
	}
	if id == tableBlocks || id == tableTiles {
		b.FillPercent = 1
	}
	return b.Put(key, value)
}

func (t *boltTx) del(id tableID, key []byte) error {
	b := t.table(id)
	if b == nil {
		return nil
	}
	return b.Delete(key)
}

func (t *boltTx) scan(id tableID, from []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		b := t.table(id)
		if b == nil {
			return
		}
		c := t.cursors[id]
		if t.cursors[id] = nil; c == nil {
			c = b.Cursor()
		}
		defer func() { t.cursors[id] = c }()
		if !reverse {
			k, v := c.Seek(from)
			for ; k != nil && yield(k, v); k, v = c.Next() {
			}
			return
		}
		var k, v []byte
		if from == nil {
			k, v = c.Last()
		} else if k, _ = c.Seek(from); k == nil {
			k, v = c.Last()
		} else {
			k, v = c.Prev()
		}
		for ; k != nil && yield(k, v); k, v = c.Prev() {
		}
	}
}

// memKV keeps the tables in sorted slices. An update merges its writes in time proportional to the table, so
// it suits small states and batched updates: simulation.
type memKV struct{ state atomic.Pointer[memTables] }

type memTables [tableCount][]row

type row struct {
	key     string
	value   []byte
	deleted bool
}

func newMemKV() *memKV {
	k := &memKV{}
	k.state.Store(&memTables{})
	return k
}

func (k *memKV) view(f func(reader) error) error { return f(&memTx{tables: *k.state.Load()}) }

func (k *memKV) update(f func(writer) error) error {
	tx := &memTx{tables: *k.state.Load()}
	if err := f(tx); err != nil {
		return err
	}
	for id := range tx.writes {
		tx.settle(tableID(id))
	}
	k.state.Store(&tx.tables)
	return nil
}

func (k *memKV) close() error { return nil }

type memTx struct {
	tables memTables
	writes [tableCount]map[string]row
}

func compareRow(r row, key string) int { return strings.Compare(r.key, key) }

func (t *memTx) get(id tableID, key []byte) []byte {
	if w, ok := t.writes[id][string(key)]; ok {
		return w.value
	}
	if i, ok := slices.BinarySearchFunc(t.tables[id], string(key), compareRow); ok {
		return t.tables[id][i].value
	}
	return nil
}

func (t *memTx) put(id tableID, key, value []byte) error {
	return t.write(id, row{key: string(key), value: slices.Clone(value)})
}

func (t *memTx) del(id tableID, key []byte) error {
	return t.write(id, row{key: string(key), deleted: true})
}

func (t *memTx) write(id tableID, r row) error {
	if t.writes[id] == nil {
		t.writes[id] = map[string]row{}
	}
	t.writes[id][r.key] = r
	return nil
}

// settle merges the writes to a table into a new slice.
func (t *memTx) settle(id tableID) {
	if len(t.writes[id]) == 0 {
		return
	}
	writes := make([]row, 0, len(t.writes[id]))
	for _, w := range t.writes[id] {
		writes = append(writes, w)
	}
	slices.SortFunc(writes, func(a, b row) int { return strings.Compare(a.key, b.key) })
	old := t.tables[id]
	merged := make([]row, 0, len(old)+len(writes))
	for _, w := range writes {
		n, found := slices.BinarySearchFunc(old, w.key, compareRow)
		merged = append(merged, old[:n]...)
		if found {
			n++
		}
		old = old[n:]
		if !w.deleted {
			merged = append(merged, w)
		}
	}
	t.tables[id] = append(merged, old...)
	t.writes[id] = nil
}

func (t *memTx) scan(id tableID, from []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	t.settle(id)
	return func(yield func(k, v []byte) bool) {
		rows := t.tables[id]
		if !reverse {
			n, _ := slices.BinarySearchFunc(rows, string(from), compareRow)
			for _, r := range rows[n:] {
				if !yield([]byte(r.key), r.value) {
					return
				}
			}
			return
		}
		if from != nil {
			n, _ := slices.BinarySearchFunc(rows, string(from), compareRow)
			rows = rows[:n]
		}
		for _, r := range slices.Backward(rows) {
			if !yield([]byte(r.key), r.value) {
				return
			}
		}
	}
}
