package group

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrJournal says that the journal is damaged in the middle, where a crash cannot have damaged it. A node
// must not vote without it: it could contradict what it signed before.
var ErrJournal = errors.New("group: the consensus journal is damaged")

const (
	// JournalName is the file of the journal in Config.Dir.
	JournalName = "journal"
	// journalBytes is Config.JournalBytes where that is 0.
	journalBytes = 8 << 20
	// maxFrame bounds a frame: more than the bodies that are kept, and all engine records.
	maxFrame = 128 << 20
	// maxPayloads bounds the bytes of bodies that are kept; beyond it the oldest are forgotten. It is twice what may
	// be in flight, and only a long row of view changes over different blocks can reach it.
	maxPayloads = 2 * ledger.MaxInFlight
	frameHeader = 16 // sequence u64, length u32, CRC-32C u32 over salt, sequence, length and body
	saltSize    = 8
	fileHeader  = len(journalMagic) + saltSize
	// journalMagic begins the file; its last byte is the version of the form.
	journalMagic = "fondjnl\x01"
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

func (p *payload) size() (bytes int) {
	for _, tx := range p.Txs {
		bytes += len(tx)
	}
	return bytes
}

// journal holds what the node must not forget in a crash: the engine's records, the double-sign guard's state
// and the bodies of blocks it voted for. They share one file and one sync.
//
// The file is a header and a sequence of frames; a frame is written only after the one before it is on disk, so
// a crash can tear only the last. A bad last frame is cut off: nothing that depended on it left the node. A bad
// frame before a good one is damage, and opening fails with ErrJournal. The header holds a random salt that all
// checksums begin with, so that bytes in a client's transaction cannot pass for a frame behind a torn one.
//
// A journal begins with the guard's state. One without a frame is as good as none: nothing left the node that it should
// have kept, or it was lost, which [Group] tells apart by whether there are blocks.
//
// After an error the journal takes nothing more: what a disk holds after a failed sync is unknown. The next start writes the last frame
// again, which may be readable and yet on no disk, before anything that depends on it leaves the node.
//
// A journal that is closed ends in a frame with the guard's state, or an empty one, so that damage to what was signed last is
// damage in the middle.
//
// BUG: of a node that was not stopped but killed, damage to the very last frame, after it was synced, looks like a torn write.
// The node then forgets what it signed last. A disk that loses synced bytes can make a node sign twice. So can a node whose
// journal is an older copy, or that loses, with its journal and its blocks, the mark in Config.Home: it may only join again
// with a new key.
type journal struct {
	fs     state.FS
	dir    string
	file   state.File
	salt   [saltSize]byte
	seq    uint64
	size   int64
	most   int64 // size at which it is rewritten
	floor  int64 // size after the last rewriting
	failed error

	pending []entry // since the last sync

	// What a rewritten journal holds.
	records  []consensus.Record
	guard    guard
	payloads []payload
	held     int // bytes of the transactions in payloads
}

// openJournal reads the journal in dir, and makes one if it is missing.
func openJournal(fs state.FS, dir string, most int64) (*journal, error) {
	j := &journal{fs: fs, dir: dir, most: cmp.Or(most, journalBytes)}
	path := filepath.Join(dir, JournalName)
	file, err := fs.Open(path, true)
	if err != nil {
		return nil, fmt.Errorf("open the consensus journal %s: %w", path, err)
	}
	j.file = file
	if err := j.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the consensus journal %s: %w", path, err), file.Close())
	}
	return j, nil
}

func (j *journal) load() error {
	if err := j.fs.SyncDir(j.dir); err != nil {
		return fmt.Errorf("make its name durable: %w", err)
	}
	size, err := j.file.Size()
	if err != nil {
		return err
	}
	if size > 4*maxFrame {
		return fmt.Errorf("%w: it has %d bytes, at most %d", ErrJournal, size, 4*maxFrame)
	}
	data := make([]byte, size)
	if n, err := j.file.ReadAt(data, 0); n < len(data) {
		return fmt.Errorf("read it: %w", err)
	}
	switch {
	case len(data) > fileHeader && !bytes.HasPrefix(data, []byte(journalMagic)):
		return fmt.Errorf("%w: it does not begin as a journal does", ErrJournal)
	case len(data) <= fileHeader: // new, lost, or torn before the first frame was begun
		return j.begin()
	}
	copy(j.salt[:], data[len(journalMagic):])
	last, err := j.replay(data)
	if err != nil {
		return err
	}
	if j.size < size {
		if err := j.file.Truncate(j.size); err != nil {
			return fmt.Errorf("cut its torn end: %w", err)
		}
		if err := j.file.Sync(); err != nil { // else a shorter frame over the torn one could end in the torn one's rest
			return fmt.Errorf("cut its torn end: %w", err)
		}
	}
	if err := state.Rewrite(j.file, last, j.size); err != nil {
		return fmt.Errorf("write its last entry again: %w", err)
	}
	return nil
}

// begin writes the header of an empty journal.
func (j *journal) begin() error {
	if err := j.file.Truncate(0); err != nil {
		return fmt.Errorf("begin it: %w", err)
	}
	header := newHeader()
	copy(j.salt[:], header[len(journalMagic):])
	if _, err := j.file.WriteAt(header, 0); err != nil {
		return fmt.Errorf("begin it: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("begin it: %w", err)
	}
	j.size = int64(fileHeader)
	return nil
}

// newHeader returns a file header with a fresh salt.
func newHeader() []byte {
	header := make([]byte, fileHeader)
	copy(header, journalMagic)
	rand.Read(header[len(journalMagic):]) //nolint:errcheck // never fails, see package crypto/rand
	return header
}

// replay reads frames up to the torn end, if there is one, and sets j.size to where the next goes. It returns where the last one is.
func (j *journal) replay(data []byte) (last int64, err error) {
	j.size = int64(fileHeader)
	last = j.size
	for at := fileHeader; at < len(data); {
		body, next, ok := readFrame(data[at:], j.salt, j.seq)
		if !ok {
			// Torn, or damaged: then a later frame is whole.
			for later := at + 1; later+frameHeader <= len(data); later++ {
				seq := binary.BigEndian.Uint64(data[later:])
				if seq <= j.seq || seq > j.seq+uint64(len(data)) {
					continue
				}
				if _, _, whole := readFrame(data[later:], j.salt, seq); whole {
					return 0, fmt.Errorf("%w at byte %d: a later entry, at byte %d, is whole. "+
						"Restore the file, or remove the node's data and let it join again with a new key", ErrJournal, at, later)
				}
			}
			return last, nil
		}
		var entries []entry
		if err := ledger.Unmarshal(body, &entries); err != nil {
			return 0, fmt.Errorf("%w at byte %d: %w", ErrJournal, at, err)
		}
		for _, e := range entries {
			if err := j.apply(e); err != nil {
				return 0, fmt.Errorf("%w at byte %d: %w", ErrJournal, at, err)
			}
		}
		last = int64(at)
		at += next
		j.seq++
		j.size = int64(at)
	}
	return last, nil
}

func readFrame(data []byte, salt [saltSize]byte, seq uint64) (body []byte, size int, ok bool) {
	if len(data) < frameHeader || binary.BigEndian.Uint64(data) != seq {
		return nil, 0, false
	}
	n := int(binary.BigEndian.Uint32(data[8:]))
	if n > maxFrame || len(data) < frameHeader+n {
		return nil, 0, false
	}
	body = data[frameHeader : frameHeader+n]
	return body, frameHeader + n, frameSum(salt, data[:12], body) == binary.BigEndian.Uint32(data[12:])
}

func frameSum(salt [saltSize]byte, head, body []byte) uint32 {
	return crc32.Update(crc32.Update(crc32.Checksum(salt[:], castagnoli), castagnoli, head), castagnoli, body)
}

// appendFrame appends a frame with entries to to.
func appendFrame(to []byte, salt [saltSize]byte, seq uint64, entries []entry) ([]byte, error) {
	body := mustMarshal(entries)
	if len(body) > maxFrame || len(entries) > ledger.MaxElements {
		return nil, fmt.Errorf("%d bytes in %d entries at once, at most %d in %d", len(body), len(entries), maxFrame, ledger.MaxElements)
	}
	var head [frameHeader]byte
	binary.BigEndian.PutUint64(head[:], seq)
	binary.BigEndian.PutUint32(head[8:], uint32(len(body)))
	binary.BigEndian.PutUint32(head[12:], frameSum(salt, head[:12], body))
	return append(append(to, head[:]...), body...), nil
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
		j.keepPayload(p)
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
	j.keepPayload(p)
	j.pending = append(j.pending, entry{Kind: entryPayload, Data: mustMarshal(&p)})
}

// keepPayload remembers bodies, and forgets the oldest beyond maxPayloads, but never the last.
func (j *journal) keepPayload(p payload) {
	j.payloads = append(j.payloads, p)
	j.held += p.size()
	for j.held > maxPayloads && len(j.payloads) > 1 {
		j.held -= j.payloads[0].size()
		j.payloads[0] = payload{}
		j.payloads = j.payloads[1:]
	}
}

// stored forgets the bodies of blocks up to height, which the store has now. The guard notes the height: on disk it is with
// what the guard is written for next, mostly a vote, at the latest when the journal is closed.
func (j *journal) stored(height ledger.Height) {
	j.guard.Stored = max(j.guard.Stored, height)
	j.payloads = slices.DeleteFunc(j.payloads, func(p payload) bool {
		if p.Height > height {
			return false
		}
		j.held -= p.size()
		return true
	})
}

// sync makes all that was queued durable.
func (j *journal) sync() error {
	if j.failed != nil {
		return j.failed
	}
	if len(j.pending) == 0 {
		return nil
	}
	var err error
	if j.size > max(j.most, 2*j.floor) {
		err = j.rotate()
	} else {
		err = j.append()
	}
	if err != nil {
		j.failed = fmt.Errorf("write the consensus journal: %w", err)
		return j.failed
	}
	clear(j.pending)
	j.pending = j.pending[:0]
	return nil
}

func (j *journal) append() error {
	return j.appendEntries(j.pending)
}

func (j *journal) appendEntries(entries []entry) error {
	frame, err := appendFrame(nil, j.salt, j.seq, entries)
	if err != nil {
		return err
	}
	if _, err := j.file.WriteAt(frame, j.size); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.size += int64(len(frame))
	j.seq++
	return nil
}

// rotate replaces the journal by one that holds only what still matters, what is queued included.
func (j *journal) rotate() (err error) {
	entries := []entry{{Kind: entryGuard, Data: mustMarshal(&j.guard)}}
	for _, r := range j.records {
		entries = append(entries, entry{Kind: entryRecord, Data: r})
	}
	for _, p := range j.payloads {
		entries = append(entries, entry{Kind: entryPayload, Data: mustMarshal(&p)})
	}
	data := newHeader()
	salt := [saltSize]byte(data[len(journalMagic):])
	if data, err = appendFrame(data, salt, 0, entries); err != nil {
		return err
	}
	file, err := replaceFile(j.fs, j.dir, JournalName, data)
	if err != nil {
		return err
	}
	old := j.file
	j.file, j.salt, j.seq = file, salt, 1
	j.size, j.floor = int64(len(data)), int64(len(data))
	return old.Close()
}

// replaceFile writes a file whole, durably and under another name, and then gives it its name in the place of the one that
// had it: a crash leaves the old or the new one. The file is left open.
func replaceFile(files state.FS, dir, name string, data []byte) (state.File, error) {
	fresh := filepath.Join(dir, name+".new")
	// A crash may have left one, and after one between the rename and the sync of the folder both names may stand for
	// the same file: it is not written over.
	if err := files.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := files.Open(fresh, true)
	if err != nil {
		return nil, err
	}
	if _, err = file.WriteAt(data, 0); err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = files.Rename(fresh, filepath.Join(dir, name))
	}
	if err == nil {
		err = files.SyncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// close ends the journal and closes the file. What is queued and not synced is lost: nothing that left the node depends on it.
func (j *journal) close() error {
	var err error
	if j.failed == nil && j.seq > 0 {
		end := []entry{}
		if len(j.pending) == 0 { // else the guard may be ahead of the engine's records
			end = []entry{{Kind: entryGuard, Data: mustMarshal(&j.guard)}}
		}
		err = j.appendEntries(end)
	}
	return errors.Join(err, j.file.Close())
}

func mustMarshal(v any) []byte {
	data, err := ledger.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("group: encode %T: %v", v, err))
	}
	return data
}
