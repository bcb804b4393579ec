package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrJournal says that the journal is damaged in the middle, where a crash cannot have damaged it. A node
// must not vote without it: it could contradict what it signed before.
var ErrJournal = errors.New("group: the consensus journal is damaged")

const (
	journalName = "journal"
	// journalRotate is the size at which a journal is rewritten with only what still matters.
	journalRotate = 8 << 20
	// maxFrame bounds what a frame header may claim: more than a block's bodies and all engine records.
	maxFrame    = 64 << 20
	frameHeader = 16 // sequence u64, length u32, CRC-32C u32 over sequence, length and body
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entryKind says what a journal entry holds.
type entryKind uint8

const (
	entryRecord  entryKind = 1 // an engine's record
	entryReplace entryKind = 2 // the engine's records before this one are void
	entryGuard   entryKind = 3 // the guard's state
	entryPayload entryKind = 4 // transactions of a proposed block
)

// entry is one thing in a journal frame.
type entry struct {
	_    struct{} `cbor:",toarray"`
	Kind entryKind
	Data []byte
}

// payload is a proposed block's transactions, in order.
type payload struct {
	_      struct{} `cbor:",toarray"`
	Height ledger.Height
	TxRoot keys.Digest
	Txs    [][]byte
}

// journal holds what the node must not forget in a crash: the engine's records, the double-sign guard's state
// and the bodies of blocks it voted for. They share one file and one sync.
//
// The file is a sequence of frames; a frame is written only after the one before it is on disk, so a crash
// can tear only the last. A bad last frame is cut off: nothing that depended on it left the node. A bad frame
// before a good one is damage, and opening fails with ErrJournal.
type journal struct {
	fs   state.FS
	dir  string
	file state.File
	seq  uint64
	size int64

	pending []entry // since the last sync

	// What a rewritten journal holds.
	records  []consensus.Record
	guard    guard
	payloads []payload
}

// openJournal reads the journal in dir, which may be missing.
func openJournal(fs state.FS, dir string) (*journal, error) {
	j := &journal{fs: fs, dir: dir}
	path := filepath.Join(dir, journalName)
	file, err := fs.Open(path, true)
	if err != nil {
		return nil, fmt.Errorf("open the consensus journal %s: %w", path, err)
	}
	if err := fs.SyncDir(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("make the name of the consensus journal %s durable: %w", path, err), file.Close())
	}
	j.file = file
	size, err := file.Size()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("size of the consensus journal %s: %w", path, err), file.Close())
	}
	if size > 4*maxFrame {
		return nil, errors.Join(fmt.Errorf("%w: %s has %d bytes", ErrJournal, path, size), file.Close())
	}
	data := make([]byte, size)
	if _, err := file.ReadAt(data, 0); err != nil && !(errors.Is(err, io.EOF) && size == 0) {
		return nil, errors.Join(fmt.Errorf("read the consensus journal %s: %w", path, err), file.Close())
	}
	if err := j.replay(data); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	if j.size < size {
		if err := file.Truncate(j.size); err != nil {
			return nil, errors.Join(fmt.Errorf("cut the torn end of %s: %w", path, err), file.Close())
		}
	}
	return j, nil
}

// replay reads frames up to the torn end, if there is one, and sets j.size to where the next goes.
func (j *journal) replay(data []byte) error {
	for at := 0; at < len(data); {
		body, next, ok := readFrame(data[at:], j.seq)
		if !ok {
			// Torn, or damaged: then a later frame is whole.
			for later := at + 1; later+frameHeader <= len(data); later++ {
				seq := binary.BigEndian.Uint64(data[later:])
				if seq > j.seq && seq < j.seq+1<<20 {
					if _, _, whole := readFrame(data[later:], seq); whole {
						return fmt.Errorf("%w at byte %d: a later entry, at byte %d, is whole. "+
							"Restore the file, or remove the node's data and let it join again with a new key", ErrJournal, at, later)
					}
				}
			}
			return nil
		}
		var entries []entry
		if err := ledger.Unmarshal(body, &entries); err != nil {
			return fmt.Errorf("%w at byte %d: %w", ErrJournal, at, err)
		}
		for _, e := range entries {
			if err := j.apply(e); err != nil {
				return fmt.Errorf("%w at byte %d: %w", ErrJournal, at, err)
			}
		}
		at += next
		j.seq++
		j.size = int64(at)
	}
	return nil
}

func readFrame(data []byte, seq uint64) (body []byte, size int, ok bool) {
	if len(data) < frameHeader || binary.BigEndian.Uint64(data) != seq {
		return nil, 0, false
	}
	n := int(binary.BigEndian.Uint32(data[8:]))
	if n > maxFrame || len(data) < frameHeader+n {
		return nil, 0, false
	}
	body = data[frameHeader : frameHeader+n]
	sum := crc32.Update(crc32.Checksum(data[:12], castagnoli), castagnoli, body)
	return body, frameHeader + n, sum == binary.BigEndian.Uint32(data[12:])
}

func (j *journal) apply(e entry) error {
	switch e.Kind {
	case entryRecord:
		j.records = append(j.records, consensus.Record(e.Data))
	case entryReplace:
		j.records = nil
	case entryGuard:
		return ledger.Unmarshal(e.Data, &j.guard)
	case entryPayload:
		var p payload
		if err := ledger.Unmarshal(e.Data, &p); err != nil {
			return err
		}
		j.payloads = append(j.payloads, p)
	default:
		return fmt.Errorf("entry of kind %d: was the file written by a newer version?", e.Kind)
	}
	return nil
}

// persist queues the engine's records.
func (j *journal) persist(p consensus.Persist) {
	if p.Replace {
		j.records = nil
		j.pending = append(j.pending, entry{Kind: entryReplace})
	}
	for _, r := range p.Records {
		j.records = append(j.records, r)
		j.pending = append(j.pending, entry{Kind: entryRecord, Data: r})
	}
}

// setGuard queues the guard's state.
func (j *journal) setGuard(g guard) {
	j.guard = g
	j.pending = append(j.pending, entry{Kind: entryGuard, Data: mustMarshal(&g)})
}

// addPayload queues the transactions of a block at height.
func (j *journal) addPayload(p payload) {
	for _, old := range j.payloads {
		if old.Height == p.Height && old.TxRoot == p.TxRoot {
			return
		}
	}
	j.payloads = append(j.payloads, p)
	j.pending = append(j.pending, entry{Kind: entryPayload, Data: mustMarshal(&p)})
}

// stored forgets the bodies of blocks up to height, which the store has now.
func (j *journal) stored(height ledger.Height) {
	kept := j.payloads[:0]
	for _, p := range j.payloads {
		if p.Height > height {
			kept = append(kept, p)
		}
	}
	clear(j.payloads[len(kept):])
	j.payloads = kept
}

// sync makes all that was queued durable.
func (j *journal) sync() error {
	if len(j.pending) == 0 {
		return nil
	}
	if j.size > journalRotate {
		return j.rotate()
	}
	n, err := j.write(j.file, j.size, j.seq, j.pending)
	if err != nil {
		return fmt.Errorf("write the consensus journal: %w", err)
	}
	j.size += n
	j.seq++
	clear(j.pending)
	j.pending = j.pending[:0]
	return nil
}

func (j *journal) write(file state.File, at int64, seq uint64, entries []entry) (int64, error) {
	body := mustMarshal(entries)
	frame := make([]byte, frameHeader+len(body))
	binary.BigEndian.PutUint64(frame, seq)
	binary.BigEndian.PutUint32(frame[8:], uint32(len(body)))
	copy(frame[frameHeader:], body)
	sum := crc32.Update(crc32.Checksum(frame[:12], castagnoli), castagnoli, body)
	binary.BigEndian.PutUint32(frame[12:], sum)
	if _, err := file.WriteAt(frame, at); err != nil {
		return 0, err
	}
	return int64(len(frame)), file.Sync()
}

// rotate replaces the journal by one that holds only what still matters.
func (j *journal) rotate() error {
	entries := []entry{{Kind: entryGuard, Data: mustMarshal(&j.guard)}}
	for _, r := range j.records {
		entries = append(entries, entry{Kind: entryRecord, Data: r})
	}
	for _, p := range j.payloads {
		entries = append(entries, entry{Kind: entryPayload, Data: mustMarshal(&p)})
	}
	fresh := filepath.Join(j.dir, journalName+".new")
	path := filepath.Join(j.dir, journalName)
	file, err := j.fs.Open(fresh, true)
	if err != nil {
		return fmt.Errorf("rewrite the consensus journal: %w", err)
	}
	err = file.Truncate(0)
	var size int64
	if err == nil {
		size, err = j.write(file, 0, 0, entries)
	}
	if err == nil {
		err = j.fs.Rename(fresh, path)
	}
	if err == nil {
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rewrite the consensus journal: %w", err), file.Close())
	}
	old := j.file
	j.file, j.size, j.seq = file, size, 1
	j.pending = nil
	if err := old.Close(); err != nil {
		return fmt.Errorf("close the old consensus journal: %w", err)
	}
	return nil
}

// close syncs and closes the file.
func (j *journal) close() error { return errors.Join(j.sync(), j.file.Close()) }

func mustMarshal(v any) []byte {
	data, err := ledger.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("group: encode %T: %v", v, err))
	}
	return data
}
