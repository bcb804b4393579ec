// Package memfs is a file system in memory that forgets, on demand, what was not synced: for simulation and
// for crash tests. It implements state.FS.
//
// It is as unkind as POSIX allows: the bytes of a file survive a crash only when the file was synced after
// they were written, and a name survives only when its folder was synced after the name was made. Of the
// rest, Crash keeps nothing, or a random part: single writes may be there or not in any order, and each may
// be torn at sector boundaries.
package memfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/fondaco/fondaco/state"
)

// sector is the unit that a disk writes as a whole.
const sector = 512

// Errors of the injected kind.
var (
	// ErrCrashed is returned by everything between the crash point that CrashAfter set and Crash, and by files
	// that were open at a crash for ever.
	ErrCrashed = errors.New("memfs: the machine crashed")
	// ErrFull is returned by writes that would exceed SetLimit.
	ErrFull = fmt.Errorf("memfs: %w", syscall.ENOSPC)
	// ErrIgnore, returned by a hook, makes the operation do nothing and report success: a disk that lies.
	ErrIgnore = errors.New("memfs: ignore the operation")
	// ErrLost, returned by a hook for a sync, makes the sync fail, and what was not synced of the file is lost, as on Linux: readers
	// see it until the machine crashes, and no later sync makes it durable. What is written again is another write.
	ErrLost = errors.New("memfs: what was not synced is lost")
)

// Op is a kind of operation that changes what is on the disk.
type Op string

// The operations that a hook sees.
const (
	OpCreate   Op = "create"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpSyncDir  Op = "syncdir"
)

// Hook is asked before every operation that changes something; n counts the operations from 1. An error
// other than nil is returned to the caller and the operation does not take place; see ErrIgnore.
type Hook func(op Op, name string, n int) error

// ReadHook is asked before every read of n bytes of a file. An error other than nil is returned to the caller, who gets no bytes:
// syscall.EIO is what a disk says of a sector that it cannot read.
type ReadHook func(name string, offset int64, n int) error

// FS is a file system. The zero value is not usable; see New. It is safe for concurrent use.
type FS struct {
	mu      sync.Mutex // guards everything, files included
	current map[string]*inode
	durable map[string]*inode
	between map[string][]*inode // what a name stood for since its folder was synced, oldest first; nil: nothing
	locks   map[string]bool
	life    int // counts crashes: files and locks of an earlier life are dead
	ops     int
	crashAt int // operation at which the machine stops; 0: never
	down    bool
	hook    Hook
	reads   ReadHook
	limit   int64 // bytes; 0: none
	used    int64
}

var _ state.FS = (*FS)(nil)

type inode struct {
	data    []byte // what readers see
	pending []edit // what is not synced of that, oldest first: without it data is what a crash keeps; and what was since the first that is lost
}

// edit is a write of bytes at an offset, or when bytes is nil a change of size; and what undoes it.
type edit struct {
	offset int64
	bytes  []byte
	size   int    // of the file before
	was    []byte // what it replaced, or cut off, from offset on
	synced bool   // it is durable, and beside one that is lost
	lost   bool   // a sync of it failed
}

// settled returns what of a file is durable, in data, which it changes, and what is neither that nor lost.
func settled(data []byte, edits []edit) ([]byte, []edit) {
	for _, e := range slices.Backward(edits) {
		data = e.undo(data)
	}
	var pending []edit
	for _, e := range edits {
		switch {
		case e.synced:
			data = e.apply(data)
		case !e.lost:
			pending = append(pending, e)
		}
	}
	return data, pending
}

func (e edit) apply(data []byte) []byte {
	end := int(e.offset) + len(e.bytes)
	if e.bytes == nil && end < len(data) {
		return data[:end]
	}
	data = extend(data, end)
	copy(data[e.offset:], e.bytes)
	return data
}

func (e edit) undo(data []byte) []byte {
	data = extend(data, e.size)[:e.size]
	if len(e.was) > 0 {
		copy(data[e.offset:], e.was)
	}
	return data
}

// extend returns data with zeros up to a size, or as it is when it is that long.
func extend(data []byte, size int) []byte {
	if size > cap(data) {
		data = slices.Grow(data, max(size, 2*cap(data))-len(data))
	}
	if n := len(data); size > n {
		data = data[:size]
		clear(data[n:])
	}
	return data
}

// New returns an empty file system.
func New() *FS {
	return &FS{current: map[string]*inode{}, durable: map[string]*inode{}, between: map[string][]*inode{}, locks: map[string]bool{}}
}

// SetHook installs a hook, or removes it with nil. The hook must not call the file system.
func (m *FS) SetHook(h Hook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = h
}

// SetReadHook installs a hook for reads, or removes it with nil. The hook must not call the file system.
func (m *FS) SetReadHook(h ReadHook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads = h
}

// SetLimit bounds the bytes in all files; 0 lifts the bound.
func (m *FS) SetLimit(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = bytes
}

// Used returns the bytes in all files.
func (m *FS) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// Ops returns how many operations that change something took place or were tried.
func (m *FS) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// CrashAfter stops the machine at the n-th changing operation from now: a write may still have begun, and
// everything from then on fails with ErrCrashed until Crash is called.
func (m *FS) CrashAfter(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashAt = m.ops + n
}

// Crash discards what was not synced and restarts the machine. With a nil rng all of it is lost; else each
// unsynced operation survives or not, or in part, as rng decides. Open files and locks are dead afterwards. It
// returns how many unsynced operations were lost whole, and how many in part.
func (m *FS) Crash(rng *rand.Rand) (lost, torn int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := m.names()
	survivors := make(map[string]*inode, len(names))
	done := map[*inode]bool{}
	for _, name := range names {
		node, keep := m.durable[name]
		if now, there := m.current[name]; now != node && rng != nil && rng.IntN(2) == 0 {
			node, keep = now, there
		}
		if !keep {
			continue
		}
		if !done[node] {
			done[node] = true
			l, t := node.crash(rng)
			lost, torn = lost+l, torn+t
		}
		survivors[name] = node
	}
	m.durable = survivors
	m.current = make(map[string]*inode, len(survivors))
	m.used = 0
	counted := map[*inode]bool{}
	for name, node := range survivors {
		m.current[name] = node
		if !counted[node] { // a crash within a renaming can leave a file two names
			counted[node] = true
			m.used += int64(len(node.data))
		}
	}
	clear(m.between)
	clear(m.locks)
	m.life++
	m.down, m.crashAt = false, 0
	return lost, torn
}

// unsynced returns how many operations a crash would, or might, undo.
func (n *inode) unsynced() (count int) {
	for _, e := range n.pending {
		if !e.synced {
			count++
		}
	}
	return count
}

func (n *inode) crash(rng *rand.Rand) (lost, torn int) {
	var pending []edit
	n.data, pending = settled(n.data, n.pending)
	if rng == nil {
		lost = len(pending)
	} else {
		for _, e := range pending {
			switch rng.IntN(3) {
			case 0:
				lost++
			case 1:
				n.data = e.apply(n.data)
			case 2:
				torn++
				n.data = tear(n.data, e, sector, rng)
			}
		}
	}
	n.pending = nil
	return lost, torn
}

// tear applies some of the units of a write. The file's size may be that of the whole write already, with
// zeros where nothing was written.
func tear(data []byte, e edit, unit int, rng *rand.Rand) []byte {
	if e.bytes == nil {
		return data
	}
	if rng.IntN(2) == 0 { // the size came first
		if end := int(e.offset) + len(e.bytes); end > len(data) {
			data = extend(data, end)
		}
	}
	for at := 0; at < len(e.bytes); {
		end := min(len(e.bytes), at+unit-int(e.offset+int64(at))%unit)
		if rng.IntN(2) == 0 {
			data = edit{offset: e.offset + int64(at), bytes: e.bytes[at:end]}.apply(data)
		}
		at = end
	}
	return data
}

// page is the unit in which an operating system writes back what it holds of a file.
const page = 4096

// Image returns an independent disk that is as a crash at this moment could leave this one, which goes on. With a nil
// rng nothing of what is not synced survives. Else rng decides how the rest survives: all of it, of each file the
// operations up to one that is torn, or any of them in any part, by sectors or by pages; and each name stands for what it
// stood for at some time since its folder was synced.
func (m *FS) Image(rng *rand.Rand) *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := func(data []byte, pending []edit) []byte { return data }
	since := func(changes int) int { return 0 } // how many changes of what a name stands for survive
	if rng != nil {
		since = func(changes int) int { return rng.IntN(changes + 1) }
		switch rng.IntN(4) {
		case 0:
			since = func(changes int) int { return changes }
			keep = func(data []byte, pending []edit) []byte {
				for _, e := range pending {
					data = e.apply(data)
				}
				return data
			}
		case 1:
			keep = func(data []byte, pending []edit) []byte {
				whole := rng.IntN(len(pending) + 1)
				for i, e := range pending[:min(whole+1, len(pending))] {
					if i < whole {
						data = e.apply(data)
					} else {
						data = tear(data, e, sector, rng)
					}
				}
				return data
			}
		case 2:
			keep = func(data []byte, pending []edit) []byte { return anyOf(data, pending, sector, rng) }
		case 3:
			keep = func(data []byte, pending []edit) []byte { return anyOf(data, pending, page, rng) }
		}
	}
	image := New()
	made := map[*inode]*inode{}
	for _, name := range m.names() {
		node := m.durable[name]
		if changes := m.between[name]; len(changes) > 0 {
			if n := since(len(changes)); n > 0 {
				node = changes[n-1]
			}
		}
		if node == nil {
			continue
		}
		left := made[node]
		if left == nil {
			left = &inode{data: keep(settled(slices.Clone(node.data), node.pending))}
			made[node] = left
			image.used += int64(len(left.data))
		}
		image.current[name], image.durable[name] = left, left
	}
	return image
}

// anyOf applies each of some writes whole, in part or not at all.
func anyOf(data []byte, pending []edit, unit int, rng *rand.Rand) []byte {
	for _, e := range pending {
		switch rng.IntN(3) {
		case 1:
			data = e.apply(data)
		case 2:
			data = tear(data, e, unit, rng)
		}
	}
	return data
}

// names returns all names that are on the disk, or were since their folders were synced, in order.
func (m *FS) names() []string {
	all := make(map[string]bool, len(m.current)+len(m.durable))
	for name := range m.current {
		all[name] = true
	}
	for name := range m.durable {
		all[name] = true
	}
	for name := range m.between {
		all[name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// Names returns the names of all files, with their folders, in order.
func (m *FS) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.current))
}

// Load returns a disk with the files below a folder of the operating system's, all of it durable.
func Load(dir string) (*FS, error) {
	m := New()
	infos := map[string]os.FileInfo{}
	return m, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = clean(name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		var node *inode
		for other, there := range infos {
			if os.SameFile(there, info) {
				node = m.current[other]
			}
		}
		if node == nil {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			node = &inode{data: data}
			m.used += int64(len(data))
		}
		infos[name], m.current[name], m.durable[name] = info, node, node
		return nil
	})
}

// Save makes the files, as they are now, below a folder of the operating system's, where none of them is. Two names of one
// file, which a crash within a renaming can leave, are so there too.
func (m *FS) Save(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	saved := map[*inode]string{}
	for _, name := range slices.Sorted(maps.Keys(m.current)) {
		path, node := filepath.Join(dir, filepath.FromSlash(name)), m.current[name]
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		var err error
		if first, there := saved[node]; there {
			err = os.Link(first, path)
		} else {
			err = os.WriteFile(path, node.data, 0o600)
			saved[node] = path
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Clone returns an independent copy of what is on the disk now, synced or not, as if all had been synced.
func (m *FS) Clone() *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := New()
	copies := map[*inode]*inode{}
	for name, node := range m.current {
		copied := copies[node]
		if copied == nil {
			copied = &inode{data: slices.Clone(node.data)}
			copies[node] = copied
			c.used += int64(len(node.data))
		}
		c.current[name], c.durable[name] = copied, copied
	}
	return c
}

// point makes a name stand for a file; nil: for nothing any more.
func (m *FS) point(name string, node *inode) {
	if node == nil {
		delete(m.current, name)
	} else {
		m.current[name] = node
	}
	m.between[name] = append(m.between[name], node)
}

// before counts an operation and asks whether it takes place. It is called with the lock held.
func (m *FS) before(op Op, name string) error {
	if m.down {
		return ErrCrashed
	}
	m.ops++
	if m.crashAt > 0 && m.ops >= m.crashAt {
		m.down = true
		return ErrCrashed
	}
	if m.hook != nil {
		return m.hook(op, name, m.ops)
	}
	return nil
}

func clean(name string) string { return filepath.ToSlash(filepath.Clean(name)) }

// Open implements state.FS.
func (m *FS) Open(name string, create bool) (state.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = clean(name)
	if m.down {
		return nil, ErrCrashed
	}
	node, ok := m.current[name]
	if !ok {
		if !create {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if err := m.before(OpCreate, name); err != nil {
			return nil, err
		}
		node = &inode{}
		m.point(name, node)
	}
	return &file{fs: m, name: name, node: node, life: m.life}, nil
}

// Remove implements state.FS.
func (m *FS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = clean(name)
	node, ok := m.current[name]
	if !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if err := m.before(OpRemove, name); err != nil {
		return ignored(err)
	}
	m.point(name, nil)
	m.release(node)
	return nil
}

// Rename implements state.FS.
func (m *FS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = clean(from), clean(to)
	node, ok := m.current[from]
	if !ok {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if err := m.before(OpRename, from); err != nil {
		return ignored(err)
	}
	old := m.current[to]
	m.point(from, nil)
	m.point(to, node)
	if old != nil && old != node {
		m.release(old)
	}
	return nil
}

// release takes the bytes of a file off what is used, unless it has another name.
func (m *FS) release(node *inode) {
	for _, other := range m.current {
		if other == node {
			return
		}
	}
	m.used -= int64(len(node.data))
}

// ReadDir implements state.FS.
func (m *FS) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, ErrCrashed
	}
	var names []string
	for name := range m.current {
		if d, base := filepath.Split(name); clean(d) == clean(dir) {
			names = append(names, base)
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll implements state.FS. Folders need not be made here.
func (m *FS) MkdirAll(string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return ErrCrashed
	}
	return nil
}

// SyncDir implements state.FS.
func (m *FS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = clean(dir)
	if err := m.before(OpSyncDir, dir); err != nil {
		return ignored(err)
	}
	inside := func(name string) bool {
		d, _ := filepath.Split(name)
		return clean(d) == dir
	}
	for name := range m.between {
		if inside(name) {
			delete(m.between, name)
		}
	}
	for name := range m.durable {
		if _, ok := m.current[name]; !ok && inside(name) {
			delete(m.durable, name)
		}
	}
	for name, node := range m.current {
		if inside(name) {
			m.durable[name] = node
		}
	}
	return nil
}

// Lock implements state.FS.
func (m *FS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = clean(name)
	if m.down {
		return nil, ErrCrashed
	}
	if m.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, state.ErrLocked)
	}
	m.locks[name] = true
	return &lock{fs: m, name: name, life: m.life}, nil
}

// String lists the files with their sizes and what of them is not synced, for failing tests.
func (m *FS) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for name, node := range m.current {
		lines = append(lines, fmt.Sprintf("%s: %d bytes, %d unsynced operations, name durable: %t",
			name, len(node.data), node.unsynced(), m.durable[name] == node))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func ignored(err error) error {
	if errors.Is(err, ErrIgnore) {
		return nil
	}
	return err
}

type lock struct {
	fs   *FS
	name string
	life int
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.life == l.fs.life {
		delete(l.fs.locks, l.name)
	}
	return nil
}

type file struct {
	fs   *FS
	name string
	node *inode
	life int
}

func (f *file) alive() error {
	if f.life != f.fs.life || f.fs.down {
		return ErrCrashed
	}
	return nil
}

func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.alive(); err != nil {
		return 0, err
	}
	if offset < 0 || offset >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	if f.fs.reads != nil {
		if err := f.fs.reads(f.name, offset, len(p)); err != nil {
			return 0, &fs.PathError{Op: "read", Path: f.name, Err: err}
		}
	}
	n := copy(p, f.node.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.alive(); err != nil {
		return 0, err
	}
	err := f.fs.before(OpWrite, f.name)
	switch {
	case errors.Is(err, ErrIgnore):
		return len(p), nil
	case err != nil && !errors.Is(err, ErrCrashed):
		return 0, err
	}
	if grow := max(offset+int64(len(p)), int64(len(f.node.data))) - int64(len(f.node.data)); f.fs.limit > 0 && f.fs.used+grow > f.fs.limit {
		fits := max(0, min(int64(len(p)), f.fs.limit-f.fs.used+int64(len(f.node.data))-offset))
		f.change(edit{offset: offset, bytes: append([]byte{}, p[:fits]...)})
		return int(fits), &fs.PathError{Op: "write", Path: f.name, Err: ErrFull}
	}
	f.change(edit{offset: offset, bytes: append([]byte{}, p...)}) // at the crash point too: it may have begun
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *file) change(e edit) {
	data := f.node.data
	e.size = len(data)
	if e.offset < int64(len(data)) {
		until := len(data)
		if e.bytes != nil {
			until = min(until, int(e.offset)+len(e.bytes))
		}
		e.was = slices.Clone(data[e.offset:until])
	}
	f.node.data = e.apply(data)
	f.node.pending = append(f.node.pending, e)
	f.fs.used += int64(len(f.node.data) - e.size)
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.alive(); err != nil {
		return 0, err
	}
	return int64(len(f.node.data)), nil
}

func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.alive(); err != nil {
		return err
	}
	if err := f.fs.before(OpTruncate, f.name); err != nil {
		return ignored(err)
	}
	f.change(edit{offset: size})
	return nil
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.alive(); err != nil {
		return err
	}
	err := f.fs.before(OpSync, f.name)
	lost := errors.Is(err, ErrLost)
	if err != nil && !lost {
		return ignored(err)
	}
	for i := range f.node.pending {
		if e := &f.node.pending[i]; !e.synced && !e.lost {
			e.synced, e.lost = !lost, lost
		}
	}
	if !slices.ContainsFunc(f.node.pending, func(e edit) bool { return e.lost }) {
		clear(f.node.pending) // what they replaced is wanted no more
		f.node.pending = f.node.pending[:0]
	}
	return err
}

func (f *file) Close() error { return nil }
