package wasmvm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
)

// EngineVersion returns the version of the module that both engines are from, or "dev" in a program that was built without it.
func EngineVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/tetratelabs/wazero" {
				return d.Version
			}
		}
	}
	return "dev" // as wazero calls it in the names of its folders
}

// The cache on disk has a folder of machine code, which wazero fills, and for each VM's rules a folder of notes, one of each module
// that is there. Their names hold the version of wazero and the processor: folders of others are never read.
const (
	machineFolder = "wazero-"
	notesFolder   = "images-"
)

// notesPrefix begins the names of the folders of notes that this program may read.
func notesPrefix() string { return notesFolder + EngineVersion() + "-" + runtime.GOARCH + "-" }

// machinePath is the folder of machine code that wazero uses.
func (v *VM) machinePath() string {
	return filepath.Join(v.config.CacheDir, machineFolder+EngineVersion()+"-"+runtime.GOARCH+"-"+runtime.GOOS)
}

func (v *VM) openCache() (err error) {
	v.known = filepath.Join(v.config.CacheDir, fmt.Sprintf("%s%d-%d-%d", notesPrefix(), v.config.Rewrite, v.config.Costs, v.config.MemoryPages))
	for _, dir := range []string{v.config.CacheDir, v.known} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("wasmvm: make the cache of compiled modules: %w", err)
		}
		if err := os.Chmod(dir, 0o700); err != nil { // it may have existed
			return fmt.Errorf("wasmvm: protect the cache of compiled modules: %w", err)
		}
	}
	if v.cache, err = wazero.NewCompilationCacheWithDir(v.config.CacheDir); err != nil {
		return fmt.Errorf("wasmvm: open the cache of compiled modules: %w", err)
	}
	if v.owner != nil {
		return nil
	}
	if err := v.sweep(); err != nil {
		return err
	}
	return v.prune()
}

// sweep deletes what other versions left in the cache, and files that were not completed when a program ended.
func (v *VM) sweep() error {
	machine := v.machinePath()
	if _, err := os.Stat(machine); err != nil {
		return nil // wazero does not know its version: nothing tells what belongs to others
	}
	folders, err := os.ReadDir(v.config.CacheDir)
	if err != nil {
		return fmt.Errorf("wasmvm: clean the cache of compiled modules: %w", err)
	}
	for _, folder := range folders {
		name := folder.Name()
		path := filepath.Join(v.config.CacheDir, name)
		ours := path == machine || strings.HasPrefix(name, notesPrefix())
		if !folder.IsDir() || !strings.HasPrefix(name, machineFolder) && !strings.HasPrefix(name, notesFolder) {
			continue
		}
		if !ours {
			err = errors.Join(err, os.RemoveAll(path))
			continue
		}
		files, listing := os.ReadDir(path)
		err = errors.Join(err, listing)
		for _, file := range files {
			if len(file.Name()) != hex.EncodedLen(32) { // the name of a complete one is a digest
				err = errors.Join(err, os.Remove(filepath.Join(path, file.Name())))
			}
		}
	}
	if err != nil {
		return fmt.Errorf("wasmvm: clean the cache of compiled modules: %w", err)
	}
	return nil
}

// prune deletes machine code that was not used for longest if there is too much, until some room is left. All notes go before: which
// is whose is not known, and a module without a note comes back to them when it is compiled, which the machine code that stays makes short.
func (v *VM) prune() error {
	machine := v.machinePath()
	entries, err := os.ReadDir(machine)
	if err != nil {
		return nil // see sweep
	}
	type file struct {
		name string
		size int64
		used time.Time
	}
	files, total := make([]file, 0, len(entries)), int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		files = append(files, file{e.Name(), info.Size(), lastUse(info)})
		total += info.Size()
	}
	if total <= v.config.CacheBytes {
		return nil
	}
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	folders, err := os.ReadDir(v.config.CacheDir)
	for _, folder := range folders {
		if !strings.HasPrefix(folder.Name(), notesPrefix()) {
			continue
		}
		path := filepath.Join(v.config.CacheDir, folder.Name())
		notes, listing := os.ReadDir(path)
		err = errors.Join(err, listing)
		for _, note := range notes {
			err = errors.Join(err, missing(os.Remove(filepath.Join(path, note.Name()))))
		}
	}
	for _, f := range files {
		if total <= v.config.CacheBytes/4*3 {
			break
		}
		err = errors.Join(err, missing(os.Remove(filepath.Join(machine, f.name))))
		total -= f.size
	}
	if err != nil {
		return fmt.Errorf("wasmvm: make room in the cache of compiled modules: %w", err)
	}
	return nil
}

// missing returns err, unless it says that a file is not there.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// remember notes that the machine code of a module is in the cache, and what its image is.
func (v *VM) remember(c *candidate, i *image) error {
	if v.known == "" {
		return nil
	}
	path, sum := filepath.Join(v.known, hex.EncodeToString(c.hash[:])), i.sum()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, sum[:]) {
		return nil
	}
	temporary := path + rand.Text()
	if err := os.WriteFile(temporary, sum[:], 0o600); err != nil {
		return fmt.Errorf("wasmvm: note that a module is in the cache: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("wasmvm: note that a module is in the cache: %w", errors.Join(err, os.Remove(temporary)))
	}
	return v.prune()
}

var errNotCached = errors.New("not in the cache of compiled modules")

// fromCache takes a module's machine code from the cache, if that can be done at once and it makes the image that it made before.
func (v *VM) fromCache(ctx context.Context, c *candidate) (*program, error) {
	want, err := os.ReadFile(filepath.Join(v.known, hex.EncodeToString(c.hash[:])))
	if err != nil {
		return nil, err
	}
	if !v.compiler.busy.TryLock() {
		return nil, errNotCached
	}
	compiled, err := v.compiler.compile(v.config.Profile.watch(ctx, c.hash), c.code)
	v.compiler.busy.Unlock()
	if err != nil {
		return nil, err
	}
	p := &program{vm: v, backend: v.compiler, compiled: compiled, mutable: c.mutable}
	in, gas, err := p.initialize(ctx, c, MaxInitGas)
	if err != nil {
		p.close()
		return nil, err
	}
	i := v.newImage(in, gas)
	if sum := i.sum(); !bytes.Equal(want, sum[:]) {
		in.close()
		p.close()
		if i.file != nil {
			_ = i.file.close() // nobody reads it any more
		}
		return nil, errNotCached
	}
	p.adopt(i, in)
	return p, nil
}
