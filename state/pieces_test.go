package state_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/memfs"
)

// behindFS notes how many bytes of a file are not synced, at most.
type behindFS struct {
	*memfs.FS
	most map[string]int
}

func (b behindFS) Open(name string, create bool) (state.File, error) {
	f, err := b.FS.Open(name, create)
	if err != nil {
		return nil, err
	}
	return &behindFile{File: f, name: filepath.ToSlash(name), most: b.most}, nil
}

type behindFile struct {
	state.File
	name   string
	behind int
	most   map[string]int
}

func (f *behindFile) WriteAt(p []byte, at int64) (int, error) {
	f.behind += len(p)
	f.most[f.name] = max(f.most[f.name], f.behind)
	return f.File.WriteAt(p, at)
}

func (f *behindFile) Sync() error {
	f.behind = 0
	return f.File.Sync()
}

// TestPieces prunes, imports, replaces and archives a state of 20 MB: no file is ever more than a piece ahead of the disk, which a commit
// of another group would wait for.
func TestPieces(t *testing.T) {
	disk := behindFS{memfs.New(), map[string]int{}}
	o := state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 2, FlushBlocks: 2}
	s := open(t, "group", o)
	p := &past{chain: newChain(19)}
	p.commit(t, s)
	for i := range 20 {
		var pairs []string
		for j := range 20 {
			pairs = append(pairs, fmt.Sprintf("%02d/%02d", i, j), strings.Repeat("x", 50_000))
		}
		p.change(t, s, pairs...)
	}
	all := copyOf(t, s, 10)
	if err := all.into(state.Incoming("behind"), &o); err != nil {
		t.Fatal(err)
	}
	if err := state.Replace("behind", &o); err != nil {
		t.Fatal(err)
	}
	open(t, "behind", o).Close()
	if err := s.Prune(18); err != nil {
		t.Fatal(err)
	}
	s.Close()
	o.Archive = true
	s = open(t, "group", o)
	for more := true; more; {
		var err error
		if more, err = s.Archive(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	p.check(t, s, 20, 20, 3)
	const piece, chunk = 8 << 20, 2 << 20
	for _, name := range []string{"group/base.new", "behind/incoming/base", "behind/base", "group/archive"} {
		if most := disk.most[name]; most < piece || most > piece+chunk {
			t.Errorf("%s was up to %d bytes ahead of the disk, want some %d", name, most, piece)
		}
	}
}
