// Package crashimage records what a process does to the files below a folder, and makes of the record what a disk could
// hold if the power had failed at any moment of it. It is for tests that run the real program on the real file system,
// other people's storage engines included. The method is that of ALICE (Pillai et al., OSDI 2014).
//
// Record runs a program under ptrace(2) and writes down, in one order, every change that the program makes and every sync
// that returned, and what the program told meanwhile: that a block is committed, that a vote left. A Disk goes through
// a record event by event. Its Image is a disk after a power failure there: package memfs decides what survives. A
// test opens the image with the real code and compares with what the program had told by then.
//
// Left out, Disk's drop, are events that the program could have forgotten: a test that does not notice a missing sync tests
// nothing.
package crashimage

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/memfs"
)

// Operations of an Event beyond those of package memfs.
const (
	OpMkdir memfs.Op = "mkdir" // of a folder
	OpTell  memfs.Op = "tell"  // the program wrote to its standard output
)

// Event is one thing that the program did. Names are relative to the folder, slash-separated.
type Event struct {
	Op     memfs.Op
	Name   string // of the file; for OpSync and OpSyncDir of what was synced; empty for OpTell
	To     string // with OpRename: the new name
	Offset int64  // with OpWrite; with OpTruncate the new size
	Data   []byte // what was written or told
}

func (e Event) String() string {
	switch e.Op {
	case memfs.OpWrite:
		return fmt.Sprintf("write %s, %d bytes at %d", e.Name, len(e.Data), e.Offset)
	case memfs.OpTruncate:
		return fmt.Sprintf("truncate %s to %d bytes", e.Name, e.Offset)
	case memfs.OpRename:
		return fmt.Sprintf("rename %s to %s", e.Name, e.To)
	case OpTell:
		return fmt.Sprintf("tell %d bytes", len(e.Data))
	default:
		return fmt.Sprintf("%s %s", e.Op, e.Name)
	}
}

// Record is what a program did.
type Record struct {
	Events []Event // in order
	before *memfs.FS
}

// Disk is a disk while a record is played on it. It is not safe for concurrent use.
type Disk struct {
	fs    *memfs.FS
	left  []Event
	drop  func(Event) bool
	fresh map[string]bool // folders whose name is not durable
}

// Disk returns the disk as it was before the program ran, all of it durable. Events for which drop holds do not take place;
// nil: all do.
func (r *Record) Disk(drop func(Event) bool) *Disk {
	if drop == nil {
		drop = func(Event) bool { return false }
	}
	return &Disk{fs: r.before.Clone(), left: r.Events, drop: drop, fresh: map[string]bool{}}
}

// Next plays an event and returns it. There are no more when ok is false.
func (d *Disk) Next() (e Event, ok bool, err error) {
	if len(d.left) == 0 {
		return e, false, nil
	}
	e, d.left = d.left[0], d.left[1:]
	if !d.drop(e) {
		err = d.play(e)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", e, err)
	}
	return e, true, err
}

func (d *Disk) play(e Event) error {
	switch e.Op {
	case OpTell:
		return nil
	case OpMkdir:
		d.fresh[e.Name] = true
		return nil
	case memfs.OpRemove:
		return d.fs.Remove(e.Name)
	case memfs.OpRename:
		return d.fs.Rename(e.Name, e.To)
	case memfs.OpSyncDir:
		for folder := range d.fresh {
			if filepath.Dir(folder) == filepath.Clean(e.Name) {
				delete(d.fresh, folder)
			}
		}
		return d.fs.SyncDir(e.Name)
	default:
		return d.playFile(e)
	}
}

func (d *Disk) playFile(e Event) error {
	f, err := d.fs.Open(e.Name, e.Op == memfs.OpCreate)
	if err != nil {
		return err
	}
	switch e.Op {
	case memfs.OpCreate:
	case memfs.OpWrite:
		_, err = f.WriteAt(e.Data, e.Offset)
	case memfs.OpTruncate:
		err = f.Truncate(e.Offset)
	case memfs.OpSync:
		err = f.Sync()
	default:
		err = errors.New("there is no such operation")
	}
	return errors.Join(err, f.Close())
}

// Image returns what the disk could hold if the power failed now, as memfs.FS.Image does. A folder whose name is not
// durable may be gone with all that is in it.
func (d *Disk) Image(rng *rand.Rand) (*memfs.FS, error) {
	image := d.fs.Image(rng)
	for _, folder := range slices.Sorted(maps.Keys(d.fresh)) {
		if rng != nil && rng.IntN(2) == 0 {
			continue
		}
		for _, name := range image.Names() {
			if strings.HasPrefix(name, folder+"/") {
				if err := image.Remove(name); err != nil {
					return nil, err
				}
			}
		}
	}
	return image, nil
}

func read(files state.FS, name string) (data []byte, err error) {
	f, err := files.Open(name, false)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && size > 0 {
		data = make([]byte, size)
		_, err = f.ReadAt(data, 0)
	}
	return data, errors.Join(err, f.Close())
}

// verify plays the record and compares with what the program left in its folder: an event that was missed would make
// images of a run that never was.
func (r *Record) verify(dir string) error {
	d := r.Disk(nil)
	for {
		_, more, err := d.Next()
		if err != nil {
			return fmt.Errorf("play what was recorded: %w", err)
		}
		if !more {
			break
		}
	}
	left, err := memfs.Load(dir)
	if err != nil {
		return err
	}
	if got, want := d.fs.Names(), left.Names(); !slices.Equal(got, want) {
		return fmt.Errorf("the files are %q, recorded were %q", want, got)
	}
	for _, name := range left.Names() {
		got, failed := read(d.fs, name)
		want, err := read(left, name)
		if err = errors.Join(failed, err); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s is not what was recorded: %d bytes, %d were recorded", name, len(want), len(got))
		}
	}
	return nil
}
