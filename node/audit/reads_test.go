package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// TestReads writes a log over several segments and starts, and then does to its files what somebody would who has something to hide.
func TestReads(t *testing.T) {
	suite := keystest.Suite()
	write := func(dir string, from, to int, size int64) {
		t.Helper()
		var l *Reads
		var err error
		l, err = OpenReads(ReadsConfig{
			LogConfig: LogConfig{Suite: suite, Chain: keys.Digest{1}, Group: "main", Node: [32]byte{2}, FS: state.OS(), Dir: dir, Size: size},
			Anchored: func() (uint64, keys.Digest, error) { // each read at once
				if l == nil {
					return 0, keys.Digest{}, nil
				}
				return l.count, l.last, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := from; i <= to; i++ {
			r := &Read{UnixMilli: int64(i), Name: fmt.Sprint("reader ", i), Roles: []string{"regulator"}, Method: "GET", URI: "/v1/state/0x01/0x02"}
			if err := l.Append(r); err != nil || r.Number != uint64(i) {
				t.Fatalf("Append = %v, number %d, want %d", err, r.Number, i)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(&Read{}); err == nil {
			t.Error("a closed log takes a read")
		}
	}
	walk := func(dirs ...string) (report ReadsReport, seen map[uint64]keys.Digest, err error) {
		seen = map[uint64]keys.Digest{}
		report, err = WalkReads(suite, state.OS(), dirs, func(r *Read, d keys.Digest) error {
			seen[r.Number] = d
			return nil
		})
		return report, seen, err
	}
	dir := t.TempDir()
	if head, err := FirstReadHead(state.OS(), []string{dir}); head != nil || err != nil {
		t.Errorf("FirstReadHead of no log = %+v, %v", head, err)
	}
	write(dir, 1, 10, 5_000) // some 240 bytes each, 1,250 in a segment, 4 segments
	report, early, err := walk(dir)
	if err != nil || report.First != 1 || report.Count != 10 || report.Torn || len(early) != 10 || report.Last != early[10] {
		t.Fatalf("WalkReads = %+v with %d reads, %v", report, len(early), err)
	}
	older := t.TempDir() // copies that somebody made before the node deleted the files
	if err := os.CopyFS(older, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	write(dir, 11, 20, 5_000)
	if err := os.CopyFS(filepath.Join(older, "later"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	write(dir, 21, 40, 5_000)
	report, late, err := walk(dir)
	if err != nil || report.Count != 40 || report.First <= 1 || len(late) != int(41-report.First) {
		t.Fatalf("after rotation: %+v with %d reads, %v", report, len(late), err)
	}
	for what, c := range map[string]struct {
		dirs  []string
		first uint64
	}{"the files that are left": {[]string{dir}, report.First}, "with copies of the others": {[]string{dir, older}, 1}} {
		if head, err := FirstReadHead(state.OS(), c.dirs); err != nil || head.First != c.first || head.Node != report.Node {
			t.Errorf("FirstReadHead of %s = %+v, %v; want read %d", what, head, err, c.first)
		}
	}
	torn := t.TempDir() // a crash left the first file without its head
	if err := os.WriteFile(segmentPath(torn, 0), []byte(logMark), 0o600); err != nil {
		t.Fatal(err)
	}
	if head, err := FirstReadHead(state.OS(), []string{torn}); head != nil || err != nil {
		t.Errorf("FirstReadHead of a file without one = %+v, %v", head, err)
	}
	if report.Gone != report.First-1 || report.Base.IsZero() {
		t.Errorf("before read %d there were %d, with digest %s", report.First, report.Gone, report.Base)
	}
	whole, all40, err := walk(dir, filepath.Join(older, "later"), older)
	if err != nil || whole.First != 1 || whole.Gone != 0 || whole.Count != 40 || whole.Last != report.Last || all40[report.Gone] != report.Base || all40[10] != early[10] {
		t.Errorf("with the older files: %+v, %v", whole, err)
	}
	if _, _, err := walk(dir, older); !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), "does not go on where the one before it ends, with read 10") {
		t.Errorf("with a copy of a file that was written on after: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%d segments, %v; want 4", len(files), err)
	}
	var all int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		all += info.Size()
	}
	if all > 7_000 {
		t.Errorf("%d bytes are kept, and the log may have about 5,000", all)
	}
	if _, err := OpenReads(ReadsConfig{LogConfig: LogConfig{Suite: suite, Chain: keys.Digest{1}, Node: [32]byte{3}, FS: state.OS(), Dir: dir, Size: 5_000}}); !errors.Is(err, ErrLog) {
		t.Errorf("the log of another node: %v, want ErrLog", err)
	}

	raw := map[string][]byte{}
	for _, f := range files {
		if raw[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	second, last := files[1], files[3]
	for what, c := range map[string]struct {
		do   func(put func(path string, data []byte))
		word string
	}{
		"a byte changed": {func(put func(string, []byte)) {
			put(second, bytes.Replace(raw[second], []byte("reader"), []byte("Reader"), 1))
		}, "at byte"},
		"a segment left out": {func(put func(string, []byte)) { put(second, nil) }, "not the one before it"},
		"a segment twice":    {func(put func(string, []byte)) { put(second, raw[files[0]]) }, "does not go on"},
		"a segment cut":      {func(put func(string, []byte)) { put(second, raw[second][:len(raw[second])-10]) }, "a torn read is before"},
		"something else":     {func(put func(string, []byte)) { put(second, []byte("hello, world")) }, "does not begin"},
		"reads put in elsewhere": {func(put func(string, []byte)) {
			put(second, append(bytes.Clone(raw[second]), raw[last][len(raw[last])-200:]...))
		}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			other := t.TempDir()
			put := func(path string, data []byte) {
				path = filepath.Join(other, filepath.Base(path))
				if data == nil {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for f, data := range raw {
				put(f, data)
			}
			c.do(put)
			if _, _, err := walk(other); !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), c.word) {
				t.Errorf("%v, want ErrLog and the words %q", err, c.word)
			}
		})
	}

	// What a crash leaves of a read is of one that was not answered.
	if err := os.WriteFile(last, raw[last][:len(raw[last])-7], 0o600); err != nil {
		t.Fatal(err)
	}
	if report, _, err := walk(dir); err != nil || !report.Torn || report.Count != 39 {
		t.Errorf("a torn end: %+v, %v", report, err)
	}
	write(dir, 40, 41, 5_000)
	if report, _, err := walk(dir); err != nil || report.Torn || report.Count != 41 {
		t.Errorf("after the torn end: %+v, %v", report, err)
	}

	// Who rewrites all of it makes another chain: the digest that was anchored tells.
	forged := t.TempDir()
	write(forged, 1, 9, 5_000)
	if err := func() error {
		l, err := OpenReads(ReadsConfig{LogConfig: LogConfig{Suite: suite, Chain: keys.Digest{1}, Group: "main", Node: [32]byte{2}, FS: state.OS(), Dir: forged, Size: 5_000}})
		if err != nil {
			return err
		}
		return errors.Join(l.Append(&Read{Name: "nobody"}), l.Close())
	}(); err != nil {
		t.Fatal(err)
	}
	if report, other, err := walk(forged); err != nil || report.Count != 10 || other[10] == early[10] || other[9] != early[9] {
		t.Errorf("a log with another read 10: %+v, %v", report, err)
	}
}

// TestReadsFull is the story of somebody who reads until the log has no room, so that the node forgets what he read before anybody has anchored it.
func TestReadsFull(t *testing.T) {
	suite, dir := keystest.Suite(), t.TempDir()
	var anchor struct {
		count  uint64
		digest keys.Digest
	}
	behind := false
	var l *Reads
	open := func() {
		t.Helper()
		var err error
		l, err = OpenReads(ReadsConfig{
			LogConfig: LogConfig{Suite: suite, Chain: keys.Digest{1}, Group: "main", Node: [32]byte{2}, FS: state.OS(), Dir: dir, Size: 4_000},
			Anchored:  func() (uint64, keys.Digest, error) { return anchor.count, anchor.digest, nil },
			Behind:    func() bool { return behind },
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var digests []keys.Digest
	// fill reads until the log has no room.
	fill := func() (n int) {
		t.Helper()
		for ; n < 1_000; n++ {
			r := &Read{Name: "inspector", Means: "query", Roles: []string{"regulator"}, Method: "GET", URI: "/v1/state/0x01/0x02"}
			switch err := l.Append(r); {
			case errors.Is(err, ErrReadsFull):
				return n
			case err != nil || r.Number != uint64(len(digests)+1):
				t.Fatalf("read %d: %v", r.Number, err)
			}
			digests = append(digests, l.last)
		}
		t.Fatal("the log never fills up")
		return n
	}
	again := func() {
		t.Helper()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		open()
	}
	holds := func(first uint64) {
		t.Helper()
		report, err := WalkReads(suite, state.OS(), []string{dir}, nil)
		if err != nil || report.First > first || report.Count != uint64(len(digests)) {
			t.Fatalf("the log has the reads %d to %d, %v; want %d to %d", report.First, report.Count, err, first, len(digests))
		}
	}
	open()
	if full := l.Full(0); full != 0 {
		t.Errorf("an empty log is full to %f", full)
	}
	fill()
	holds(1)
	if full := l.Full(0); full != 1 {
		t.Errorf("a log without room is full to %f", full)
	}
	again()
	if n := fill(); n != 0 {
		t.Errorf("a node that was started again forgot %d reads", n)
	}
	t.Log("an anchor of another log, or of more reads than there are, makes no room")
	anchor.count, anchor.digest = 3, keys.Digest{9}
	if n := fill(); n != 0 {
		t.Errorf("room for %d reads", n)
	}
	anchor.count, anchor.digest = uint64(len(digests))+1, keys.Digest{8}
	if n := fill(); n != 0 {
		t.Errorf("room for %d reads", n)
	}
	t.Log("nor does one of the first read alone, beside which others are in the segment")
	anchor.count, anchor.digest = 1, digests[0]
	if n := fill(); n != 0 {
		t.Errorf("room for %d reads", n)
	}
	t.Log("after anchoring it goes on, and keeps what is not anchored, also over a start in between")
	anchor.count = uint64(len(digests)) / 2
	anchor.digest = digests[anchor.count-1]
	if full := l.Full(anchor.count); full >= 1 {
		t.Errorf("full to %f after half was anchored", full)
	}
	if fill() == 0 {
		t.Error("no room after half was anchored")
	}
	holds(anchor.count + 1)
	again()
	if n := fill(); n != 0 {
		t.Errorf("room for %d reads of a log that is full", n)
	}
	t.Log("so it does on a node that lacks blocks, since an anchor that it knows of stays one")
	anchor.count, anchor.digest = uint64(len(digests)), digests[len(digests)-1]
	behind = true
	again()
	if fill() == 0 {
		t.Error("no room after all was anchored")
	}
	holds(anchor.count + 1)
	anchor.count, anchor.digest = uint64(len(digests)), digests[len(digests)-1]
	t.Log("a log that was moved away is gone on with where the chain knows it, so the next anchor counts")
	if err := errors.Join(l.Close(), os.Rename(dir, dir+".old")); err != nil {
		t.Fatal(err)
	}
	digests = digests[:anchor.count]
	open()
	if err := l.Append(&Read{Name: "inspector"}); !errors.Is(err, ErrReadsEarly) {
		t.Errorf("a node that is behind begins a log: %v", err)
	}
	behind = false
	if n := fill(); n == 0 {
		t.Error("no room in a log begun anew")
	}
	holds(anchor.count + 1)
	first := anchor.count + 1
	anchor.count, anchor.digest = uint64(len(digests)), digests[len(digests)-1]
	again()
	if fill() == 0 {
		t.Error("an anchor of the log begun anew makes no room")
	}
	holds(anchor.count + 1)
	if names, err := segments(state.OS(), dir); err != nil || slices.ContainsFunc(names, func(index uint64) bool { return index < first-1 }) {
		t.Errorf("its files are %d, %v; those of the log before are below %d", names, err, first-1)
	}
	if report, err := WalkReads(suite, state.OS(), []string{dir}, nil); err != nil || report.Gone < first-1 {
		t.Errorf("the log begins with read %d, %v; want %d or later", report.First, err, first)
	}
}

// TestReadNames: what is cut off or is no text makes no two reads look alike.
func TestReadNames(t *testing.T) {
	names := []string{"ann", "an\xff", "an\xfe", "an\ufffd", `"an\xff"`, "an\n", "an", "анна", "анна\u202e", ""}
	seen := map[string]string{}
	for _, name := range names {
		told := ReadName(name)
		if other, twice := seen[told]; twice {
			t.Errorf("%q and %q are both written as %s", name, other, told)
		}
		if !utf8.ValidString(told) {
			t.Errorf("%q is written as what is no text", name)
		}
		seen[told] = name
	}
	if told := ReadName("анна"); told != "анна" {
		t.Errorf("a name that is text is written as %s", told)
	}
	l, err := OpenReads(ReadsConfig{LogConfig: LogConfig{Suite: keystest.Suite(), Chain: keys.Digest{1}, Group: "main", Node: [32]byte{2}, FS: state.OS(), Dir: t.TempDir(), Size: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	long := &Read{URI: "/v1/" + strings.Repeat("ä", MaxURI)}
	if err := errors.Join(l.Append(long), l.Close()); err != nil || len(long.URI) > MaxURI || len(long.URI) < MaxURI-utf8.UTFMax || !utf8.ValidString(long.URI) {
		t.Errorf("of a long path %d bytes are kept, %v", len(long.URI), err)
	}
}
