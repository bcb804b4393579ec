package signer

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Errors of journals.
var (
	// ErrJournal says that a journal is damaged, or is another key's.
	ErrJournal = errors.New("signer: the journal is not what it should be")
	// ErrNoJournal says that there is none.
	ErrNoJournal = errors.New("signer: there is no journal")
)

const (
	keyName = "key" // the file in a journal that says whose it is, and of which groups it has files
	maxKey  = 32 << 10
	// maxGroups bounds the groups that a journal has files for: a node is in few.
	maxGroups = 64
	// maxRecovered bounds the recovered blocks that are remembered, the latest: as many as one recovery can have.
	maxRecovered = 2*ledger.MaxWindow + 1

	slotSize   = 16 << 10
	slotHeader = 8 + 8 + 4 + 4 // magic, sequence u64, length u32, CRC-32C u32 over sequence, length and body
	slotMagic  = "fondsgn\x01" // its last byte is the version of the form
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// memory is what was signed for a group of a chain.
type memory struct {
	_     struct{} `cbor:",toarray"`
	Chain keys.Digest
	Group ledger.GroupID
	Guard doublesign.Guard
	// Leave is the first epoch in which votes are signed again after a recovery was, in which the key gave up all else. 0: none was.
	Leave     uint64
	Recovered []ledger.Statement
}

// allow records a statement and returns whether that changed the memory. anew lets a recovery replace an earlier one.
func (m *memory) allow(st ledger.Statement, anew bool) (changed bool, err error) {
	if st.Kind == ledger.Recover {
		return m.recover(st, anew)
	}
	if st.Epoch < m.Leave {
		return false, doublesign.Refuse(st, "a recovery was signed: this key does not vote before epoch %d", m.Leave)
	}
	return m.Guard.Allow(st)
}

func (m *memory) recover(st ledger.Statement, anew bool) (changed bool, err error) {
	const otherwise = "; if it is certain that nobody ever applies the other one, start the signer once with --recover-anew"
	if st.Epoch+1 < m.Guard.Epoch && !anew {
		return false, doublesign.Refuse(st, "this key votes in epoch %d, and a recovery would end one long over%s", m.Guard.Epoch, otherwise)
	}
	if st.Order.IsZero() || st.Block.IsZero() {
		return false, doublesign.Refuse(st, "it names no block")
	}
	kept := make([]ledger.Statement, 0, len(m.Recovered)+1)
	for _, old := range m.Recovered {
		switch {
		case old == st:
			return false, nil
		case old.Height != st.Height:
			kept = append(kept, old)
		case !anew:
			return false, doublesign.Refuse(st, "another recovery, with block %s at this height, was signed before%s", old.Block.Short(), otherwise)
		}
	}
	if len(kept) >= maxRecovered {
		kept = kept[1:]
	}
	m.Recovered = append(kept, st)
	m.Leave = max(m.Leave, st.Epoch+1)
	return true, nil
}

// Journal keeps what a key signed in consensus, in a folder with a file for each group of a chain. A file is two slots that are
// written in turn, so a crash while one is written leaves the other, which has all that signatures left for. After an error a
// journal takes nothing more: what a disk holds after a failed sync is unknown. It is safe for concurrent use.
//
// BUG: of a signer that was not stopped but killed, damage to the slot that was written last, after it was synced, looks like a torn
// write: the last statement is forgotten. And no journal can tell that it is itself an older copy: never put one back from a backup
// while there is a chance that the key signed since.
type Journal struct {
	fs  state.FS
	dir string

	mu     sync.Mutex // guards what follows
	owner  string     // the key, as its file says it
	listed []string   // the names of the files of groups, as that file says them
	groups map[string]*groupJournal
	failed error
	lock   io.Closer
}

type groupJournal struct {
	file   state.File
	seq    uint64 // of the last slot written
	memory memory
}

// OpenJournal opens the journal of a key in dir. With begin it makes one where there is none; otherwise that is ErrNoJournal,
// because a key that signed before must not begin with an empty one. Close must be called.
func OpenJournal(files state.FS, dir string, key keys.PublicKey, begin bool) (*Journal, error) {
	j := &Journal{fs: files, dir: dir, groups: map[string]*groupJournal{}, owner: key.Algorithm().String() + ":0x" + hex.EncodeToString(key.Bytes())}
	err := j.load()
	switch {
	case errors.Is(err, fs.ErrNotExist) && begin:
		err = files.MkdirAll(dir)
		if err == nil {
			err = j.list()
		}
		if err != nil {
			return nil, fmt.Errorf("make the journal %s: %w", dir, err)
		}
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w in %s: if this key never signed a vote, make one with --new-journal; if it did, put its journal back, for without it the key could sign twice", ErrNoJournal, dir)
	case err != nil:
		return nil, fmt.Errorf("open the journal %s: %w", dir, err)
	}
	if j.lock, err = files.Lock(filepath.Join(dir, "lock")); errors.Is(err, state.ErrLocked) {
		return nil, fmt.Errorf("another signer has the journal %s: stop it first: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	if err = files.SyncDir(dir); err == nil { // who made the file may have been killed before
		err = j.load() // again: who had the lock may have begun a group
	}
	if err == nil {
		err = j.complete()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the journal %s: %w", dir, err), j.lock.Close())
	}
	return j, nil
}

// load reads the file that list writes.
func (j *Journal) load() error {
	text, err := readFile(j.fs, filepath.Join(j.dir, keyName), maxKey)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if lines[0] != j.owner {
		return fmt.Errorf("%w: it is that of key %q and not of %s", ErrJournal, lines[0], j.owner)
	}
	j.listed = lines[1:]
	return nil
}

// list writes the file that says whose journal this is and of which groups it has files.
func (j *Journal) list() error {
	return writeFile(j.fs, j.dir, keyName, []byte(strings.Join(append([]string{j.owner}, j.listed...), "\n")+"\n"))
}

// complete checks that no file of a group is missing.
func (j *Journal) complete() error {
	names, err := j.fs.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, name := range j.listed {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%w: the file %s is missing, which has what was signed in a group: put it back, for without it the key could sign twice. "+
				"If it is lost, the node may only join again with a new key", ErrJournal, name)
		}
	}
	return nil
}

// Allow compares a statement with what was signed before, and has it on disk when it returns. It fails with a doublesign.Err if the
// statement must never be signed, and with another error if that cannot be known.
func (j *Journal) Allow(chain keys.Digest, group ledger.GroupID, st ledger.Statement, anew bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return j.failed
	}
	g, err := j.group(chain, group)
	if err != nil {
		return err
	}
	next := g.memory
	changed, err := next.allow(st, anew)
	if err != nil || !changed {
		return err
	}
	if err := g.write(&next); err != nil {
		j.failed = fmt.Errorf("write the journal of group %s in %s: %w; start the signer again when the disk is well", group, j.dir, err)
		return j.failed
	}
	return nil
}

// group returns the part of a group, and makes it where there is none.
func (j *Journal) group(chain keys.Digest, group ledger.GroupID) (*groupJournal, error) {
	name := hex.EncodeToString(chain[:]) + "-" + string(group)
	if g := j.groups[name]; g != nil {
		return g, nil
	}
	path := filepath.Join(j.dir, name)
	listed := slices.Contains(j.listed, name)
	if !listed && len(j.listed) >= maxGroups {
		return nil, fmt.Errorf("the journal %s has %d groups, and may have no more: a node is in few; begin another one for another key", j.dir, maxGroups)
	}
	file, err := j.fs.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) && !listed {
		first, err := slot(1, &memory{Chain: chain, Group: group})
		if err == nil {
			err = writeFile(j.fs, j.dir, name, first)
		}
		if err != nil {
			return nil, fmt.Errorf("begin the journal of group %s: %w", group, err)
		}
		if file, err = j.fs.Open(path, false); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if !listed { // before anything is signed: afterwards a file that is missing is missed
		j.listed = append(j.listed, name)
		if err := j.list(); err != nil {
			j.failed = fmt.Errorf("write the list of groups in %s: %w; start the signer again when the disk is well", j.dir, err)
			return nil, errors.Join(j.failed, file.Close())
		}
	}
	g := &groupJournal{file: file}
	if err = g.read(chain, group); err == nil {
		if err = g.settle(j.fs, j.dir); err != nil {
			j.failed = fmt.Errorf("write the journal of group %s in %s: %w; start the signer again when the disk is well", group, j.dir, err)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	j.groups[name] = g
	return g, nil
}

// Close writes what was written last into the other slots too, and closes the files.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	for _, g := range j.groups {
		if j.failed == nil {
			err = errors.Join(err, g.write(&g.memory))
		}
		err = errors.Join(err, g.file.Close())
	}
	j.failed = errors.Join(j.failed, fmt.Errorf("the journal %s is closed", j.dir))
	return errors.Join(err, j.lock.Close())
}

// read finds the newer slot that is whole.
func (g *groupJournal) read(chain keys.Digest, group ledger.GroupID) error {
	data := make([]byte, 2*slotSize)
	n, err := g.file.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for at := 0; at < n; at += slotSize {
		seq, body, ok := readSlot(data[at:min(at+slotSize, n)])
		if !ok || seq <= g.seq {
			continue
		}
		var m memory
		if err := ledger.Unmarshal(body, &m); err != nil {
			return fmt.Errorf("%w: %w; was it written by a newer version?", ErrJournal, err)
		}
		g.seq, g.memory = seq, m
	}
	switch {
	case g.seq == 0:
		return fmt.Errorf("%w: neither half of it is whole. The node may only join again with a new key", ErrJournal)
	case g.memory.Chain != chain || g.memory.Group != group:
		return fmt.Errorf("%w: it is that of group %s of chain %s", ErrJournal, g.memory.Group, g.memory.Chain)
	}
	return nil
}

// settle makes durable what was read, and the file's name: a signer that was killed may have left both to the system's memory alone. The
// slot that was read comes first and in its own place, for the other one may be all that is on disk. Then both are as new as can be.
func (g *groupJournal) settle(files state.FS, dir string) error {
	if err := files.SyncDir(dir); err != nil {
		return err
	}
	if err := g.put(g.seq, &g.memory); err != nil {
		return err
	}
	return g.write(&g.memory)
}

// write writes what is signed next into the slot that was not written last.
func (g *groupJournal) write(m *memory) error {
	if err := g.put(g.seq+1, m); err != nil {
		return err
	}
	g.seq++
	g.memory = *m
	return nil
}

func (g *groupJournal) put(seq uint64, m *memory) error {
	data, err := slot(seq, m)
	if err != nil {
		return err
	}
	if _, err := g.file.WriteAt(data, int64((seq-1)%2)*slotSize); err != nil {
		return err
	}
	return g.file.Sync()
}

// slot returns the bytes of a slot. Sequence 1 goes into the first, and so on in turn.
func slot(seq uint64, m *memory) ([]byte, error) {
	body, err := ledger.Marshal(m)
	if err != nil {
		return nil, err
	}
	if slotHeader+len(body) > slotSize {
		return nil, fmt.Errorf("what was signed takes %d bytes, at most %d", len(body), slotSize-slotHeader)
	}
	data := binary.BigEndian.AppendUint64([]byte(slotMagic), seq)
	data = binary.BigEndian.AppendUint32(data, uint32(len(body)))
	data = binary.BigEndian.AppendUint32(data, slotSum(data[8:20], body))
	return append(data, body...), nil
}

func readSlot(data []byte) (seq uint64, body []byte, ok bool) {
	if len(data) < slotHeader || string(data[:8]) != slotMagic {
		return 0, nil, false
	}
	n := int(binary.BigEndian.Uint32(data[16:]))
	if n > len(data)-slotHeader {
		return 0, nil, false
	}
	body = data[slotHeader : slotHeader+n]
	return binary.BigEndian.Uint64(data[8:]), body, slotSum(data[8:20], body) == binary.BigEndian.Uint32(data[20:])
}

func slotSum(head, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, body)
}

func readFile(files state.FS, path string, most int64) ([]byte, error) {
	file, err := files.Open(path, false)
	if err != nil {
		return nil, err
	}
	size, err := file.Size()
	if err == nil && size > most {
		err = fmt.Errorf("%s has %d bytes, at most %d", path, size, most)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	data := make([]byte, size)
	n, err := file.ReadAt(data, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], errors.Join(err, file.Close())
}

// writeFile writes a file that is whole or not there.
func writeFile(files state.FS, dir, name string, data []byte) error {
	fresh := filepath.Join(dir, name+".new")
	if err := files.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := files.Open(fresh, true)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(data, 0)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := files.Rename(fresh, filepath.Join(dir, name)); err != nil {
		return err
	}
	return files.SyncDir(dir)
}
