//go:build linux && (amd64 || arm64)

package crashimage_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fondaco/fondaco/state/crashimage"
	"github.com/fondaco/fondaco/state/memfs"
)

// program, when set, makes this test binary a program that is recorded, in the folder that is its argument.
const program = "FONDACO_TEST_PROGRAM"

func TestMain(m *testing.M) {
	run, ok := programs[os.Getenv(program)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var programs = map[string]func(dir string) error{"story": story, "threads": threads, "map": writeByMap, "fail": func(string) error { return errors.New("it is Monday") }}

func run(t *testing.T, name, dir string) (*crashimage.Record, error) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatalf("no path to this test binary: %v", err)
	}
	r, err := crashimage.Run(dir, binary, []string{binary, dir}, append(os.Environ(), program+"="+name))
	if errors.Is(err, errors.ErrUnsupported) && os.Getenv("FONDACO_REQUIRE_TOOLS") != "1" {
		t.Skip(err)
	}
	return r, err
}

// story does each thing once, by absolute and relative names.
func story(dir string) error {
	sync := func(name string) error {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	}
	if err := errors.Join(os.Chdir(dir), os.Mkdir("d", 0o700), sync(".")); err != nil {
		return err
	}
	f, err := os.OpenFile("d/a", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, failed := f.WriteAt([]byte("one"), 0)
	err = errors.Join(failed, f.Sync(), sync("d"))
	fmt.Print("one")
	_, failed = f.WriteAt([]byte("two"), 3)
	err = errors.Join(err, failed, f.Truncate(5), f.Close(), os.WriteFile(filepath.Join(dir, "d/b.new"), []byte("b"), 0o600), sync("d/b.new"))
	if _, err := os.Open("d/none"); err == nil {
		return errors.New("there is a d/none")
	}
	fmt.Print("two")
	err = errors.Join(err, os.Rename("d/b.new", "d/b"), os.WriteFile("d/a", []byte("x"), 0o600))
	if f, failed = appending("d/a"); failed == nil {
		_, failed = f.WriteString("yz")
		failed = errors.Join(failed, f.Close())
	}
	return errors.Join(err, failed, os.Remove(filepath.Join(dir, "before")))
}

func appending(name string) (*os.File, error) { return os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0) }

func TestRun(t *testing.T) {
	r, err := run(t, "story", withBefore(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range r.Events {
		got = append(got, e.String())
	}
	want := []string{
		"mkdir d", "syncdir .", "create d/a", "write d/a, 3 bytes at 0", "sync d/a", "syncdir d", "tell 3 bytes", "write d/a, 3 bytes at 3",
		"truncate d/a to 5 bytes", "create d/b.new", "write d/b.new, 1 bytes at 0", "sync d/b.new", "tell 3 bytes", "rename d/b.new to d/b",
		"truncate d/a to 0 bytes", "write d/a, 1 bytes at 0", "write d/a, 2 bytes at 1", "remove before",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("recorded:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	rng := rand.New(rand.NewPCG(1, 1))
	seen := map[string]bool{} // what d/a held when "two" was told, and whether the folder was there before it was synced
	told := ""
	for d := r.Disk(nil); ; {
		e, more, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if e.Op == crashimage.OpTell {
			told = string(e.Data)
		}
		for range 50 {
			image, err := d.Image(rng)
			if err != nil {
				t.Fatal(err)
			}
			var data []byte
			f, err := image.Open("d/a", false)
			if err == nil {
				data = make([]byte, 10)
				n, _ := f.ReadAt(data, 0)
				data = data[:n]
			}
			seen[fmt.Sprintf("told %q: %q, %t", told, data, err == nil)] = true
			if told == "one" && !strings.HasPrefix(string(data), "one") {
				t.Fatalf("after %s, d/a holds %q", e, data)
			}
		}
	}
	for _, want := range []string{
		`told "": "", false`, `told "": "", true`, `told "": "one", true`, `told "one": "one", true`, `told "one": "onetwo", true`, `told "two": "onetw", true`,
		`told "two": "", true`, `told "two": "x", true`, `told "two": "xyz", true`,
	} {
		if !seen[want] {
			t.Errorf("no image was: %s; there were %v", want, seen)
		}
	}
}

// threads writes files in parallel and tells of each write when it is synced.
func threads(dir string) error {
	var all sync.WaitGroup
	failures := make([]error, 8)
	for i := range failures {
		all.Go(func() {
			name := filepath.Join(dir, fmt.Sprint(i))
			f, err := os.Create(name)
			if err == nil {
				d, failed := os.Open(dir)
				err = errors.Join(failed, d.Sync(), d.Close())
			}
			for n := range 20 {
				_, failed := f.WriteAt([]byte{byte(n)}, int64(n))
				err = errors.Join(err, failed, f.Sync())
				fmt.Print(string([]byte{byte(i), byte(n)}))
			}
			failures[i] = errors.Join(err, f.Close())
		})
	}
	all.Wait()
	return errors.Join(failures...)
}

func TestRunThreads(t *testing.T) {
	r, err := run(t, "threads", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	told := map[byte]int{}
	for d := r.Disk(nil); ; {
		e, more, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if e.Op != crashimage.OpTell {
			continue
		}
		told[e.Data[0]]++
		image, err := d.Image(nil)
		if err != nil {
			t.Fatal(err)
		}
		f, err := image.Open(fmt.Sprint(e.Data[0]), false)
		if err != nil {
			t.Fatal(err)
		}
		var last [1]byte
		if _, err := f.ReadAt(last[:], int64(e.Data[1])); err != nil || last[0] != e.Data[1] {
			t.Fatalf("thread %d told of write %d, and the disk holds %d there: %v", e.Data[0], e.Data[1], last[0], err)
		}
	}
	if len(told) != 8 || told[7] != 20 {
		t.Errorf("the threads told %v", told)
	}
}

// writeByMap changes a file without a system call that is recorded.
func writeByMap(dir string) error {
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		return err
	}
	if err := f.Truncate(4096); err != nil {
		return err
	}
	memory, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	memory[7] = 1
	return syscall.Munmap(memory)
}

func TestRunNoticesWhatItMisses(t *testing.T) {
	if _, err := run(t, "map", t.TempDir()); err == nil || !strings.Contains(err.Error(), "file is not what was recorded") {
		t.Errorf("a write through a memory map: %v", err)
	}
	if _, err := run(t, "fail", t.TempDir()); err == nil || !strings.Contains(err.Error(), "it is Monday") {
		t.Errorf("a program that fails: %v", err)
	}
	if _, err := crashimage.Run(t.TempDir(), "/none", nil, nil); err == nil {
		t.Error("a program that is missing can be run")
	}
}

// TestRecordLeavesOut plays a record without its syncs.
func TestRecordLeavesOut(t *testing.T) {
	r, err := run(t, "story", withBefore(t))
	if err != nil {
		t.Fatal(err)
	}
	d := r.Disk(func(e crashimage.Event) bool { return e.Op == memfs.OpSync && e.Name == "d/a" })
	for {
		e, _, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Op == crashimage.OpTell && bytes.Equal(e.Data, []byte("one")) {
			break
		}
	}
	image, err := d.Image(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if err := image.Save(out); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(out, "d/a")); len(data) > 0 || err != nil {
		t.Errorf("d/a holds %q, which was never synced, %v", data, err)
	}
	if data, err := os.ReadFile(filepath.Join(out, "before")); string(data) != "0" || err != nil {
		t.Errorf("what was there before holds %q, %v", data, err)
	}
}

func withBefore(t *testing.T) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "before"), []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
