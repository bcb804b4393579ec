package audit

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// logWorld writes logs without signatures that hold: the log does not look at them.
type logWorld struct {
	t      *testing.T
	config LogConfig
}

func newLogWorld(t *testing.T) *logWorld {
	return &logWorld{t, LogConfig{Suite: keystest.Suite(), Chain: keys.Digest{1}, Group: "main", FS: memfs.New(), Dir: "log", Size: DefaultLogSize}}
}

func (w *logWorld) open() (*Log, error) {
	w.t.Helper()
	l, damage, err := OpenLog(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	return l, damage
}

func (w *logWorld) state(l *Log, height ledger.Height) {
	w.t.Helper()
	for m := range uint32(4) {
		l.Vote(1, height, ledger.Vote{Signer: m, Statement: ledger.Statement{Kind: ledger.Commit, Height: height}, Signature: make([]byte, 64)})
	}
	if err := l.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

// heights returns those that the log tells of, checking its chain of digests, and how reading ended.
func (w *logWorld) heights() (list []ledger.Height, err error) {
	w.t.Helper()
	var last keys.Digest
	for n, index := range must(segments(w.config.FS, w.config.Dir)) {
		file := must(w.config.FS.Open(segmentPath(w.config.Dir, index), false))
		r := &segmentReader{file: file, path: segmentPath(w.config.Dir, index)}
		for first := true; ; first = false {
			digest, body, err := r.next()
			if errors.Is(err, errEnd) {
				break
			}
			if err != nil {
				return list, errors.Join(err, file.Close())
			}
			if first {
				var head SegmentHead
				if err := ledger.Unmarshal(body, &head); err != nil || head.Index != index || n > 0 && head.Previous != last {
					w.t.Fatalf("segment %d begins with %+v, %v; want to continue %s", index, head, err, last)
				}
				last = head.Previous
			}
			if chained(w.config.Suite, last, body) != digest {
				w.t.Fatalf("segment %d: the chain of digests breaks", index)
			}
			last = digest
			var record Record
			if !first {
				if err := ledger.Unmarshal(body, &record); err != nil {
					w.t.Fatal(err)
				}
				list = append(list, record.Head)
			}
		}
		if err := file.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	return list, nil
}

func (w *logWorld) content(index uint64) []byte {
	file := must(w.config.FS.Open(segmentPath(w.config.Dir, index), false))
	data := make([]byte, must(file.Size()))
	must(file.ReadAt(data, 0))
	return data
}

func (w *logWorld) set(index uint64, data []byte) {
	file := must(w.config.FS.Open(segmentPath(w.config.Dir, index), true))
	if err := errors.Join(file.Truncate(0), file.Sync()); err != nil {
		w.t.Fatal(err)
	}
	must(file.WriteAt(data, 0))
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		w.t.Fatal(err)
	}
}

func TestLogIsTorn(t *testing.T) {
	w := newLogWorld(t)
	l, _ := w.open()
	w.state(l, 1)
	whole := len(w.content(0))
	w.state(l, 2)
	good := w.content(0)
	for cut := range len(good) {
		w := newLogWorld(t)
		w.set(0, good[:cut])
		l, damage := w.open()
		if damage != nil {
			t.Fatalf("cut at byte %d: %v", cut, damage)
		}
		w.state(l, 3)
		got, err := w.heights()
		want := 1
		if cut >= whole {
			want = 2
		}
		if err != nil || len(got) < 1 || len(got) > want || got[len(got)-1] != 3 {
			t.Fatalf("cut at byte %d: heights %v, %v", cut, got, err)
		}
	}
}

func TestLogIsDamaged(t *testing.T) {
	w := newLogWorld(t)
	l, _ := w.open()
	for height := range ledger.Height(3) {
		w.state(l, height)
	}
	good := w.content(0)
	for at := 0; at < len(good)*2/3; at += 7 {
		w := newLogWorld(t)
		bad := bytes.Clone(good)
		bad[at] ^= 1
		w.set(0, bad)
		l, damage := w.open()
		if !errors.Is(damage, ErrLog) || !strings.Contains(damage.Error(), "000000000000.statements") {
			t.Fatalf("byte %d changed: %v", at, damage)
		}
		w.state(l, 9)
		if !bytes.Equal(w.content(0), bad) {
			t.Fatal("the damaged segment was changed")
		}
		head := must(segmentHead(w.config.FS, segmentPath("log", 1)))
		if head.Index != 1 || head.Head != 9 {
			t.Errorf("the log goes on with %+v", head)
		}
		if _, err := w.heights(); !errors.Is(err, ErrLog) {
			t.Errorf("reading the damaged log: %v", err)
		}
	}
}

// TestLogLost fails each sync of a log, which stops, opens it again and goes on: no power failure leaves a hole, and each statement behind
// the failure is there.
func TestLogLost(t *testing.T) {
	for n := 1; ; n++ {
		w := newLogWorld(t)
		w.config.Size = 4_000 // of some segments
		disk, left := memfs.New(), n
		w.config.FS = disk
		disk.SetHook(func(op memfs.Op, _ string, _ int) error {
			if op == memfs.OpSync {
				if left--; left == 0 {
					return memfs.ErrLost
				}
			}
			return nil
		})
		vote := func(l *Log, height ledger.Height) error {
			l.Vote(1, height, ledger.Vote{Statement: ledger.Statement{Kind: ledger.Commit, Height: height}, Signature: make([]byte, 64)})
			return l.Flush()
		}
		l, _ := w.open()
		height := ledger.Height(1)
		var err error
		for ; height < 12 && err == nil; height++ {
			err = vote(l, height)
		}
		if err == nil {
			if n < 12 {
				t.Errorf("%d syncs: too few to mean anything", n-1)
			}
			return
		}
		if again := vote(l, height); !errors.Is(err, memfs.ErrLost) || !errors.Is(again, memfs.ErrLost) {
			t.Fatalf("sync %d failed: %v, and the next flush: %v", n, err, again)
		}
		l, damage := w.open()
		if damage != nil {
			t.Fatal(damage)
		}
		for range 2 {
			if err := vote(l, height); err != nil {
				t.Fatal(err)
			}
			height++
		}
		w.config.FS = disk.Image(nil)
		if _, damage := w.open(); damage != nil {
			t.Fatalf("after a power failure behind sync %d, which failed: %v", n, damage)
		}
		if got, err := w.heights(); err != nil || len(got) < 2 || got[len(got)-1] != height-1 || got[len(got)-2] != height-2 {
			t.Fatalf("after sync %d failed and the power later the log has heights %v, %v; want the last to be %d", n, got, err, height-1)
		}
	}
}

// TestLogRotates writes more than is kept: the oldest segments go, and the digests of the rest are one chain.
func TestLogRotates(t *testing.T) {
	w := newLogWorld(t)
	w.config.Size = 100_000
	l, _ := w.open()
	height := ledger.Height(0)
	for must(w.last()) < 6 {
		height++
		for n := range ledger.Height(20) {
			for m := range uint32(4) {
				l.Vote(1, height, ledger.Vote{Signer: m, Statement: ledger.Statement{Kind: ledger.Commit, Height: n, View: uint64(height)}, Signature: make([]byte, 64)})
			}
		}
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		if height%3 == 0 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l, _ = w.open()
		}
	}
	indexes := must(segments(w.config.FS, w.config.Dir))
	if len(indexes) != 4 {
		t.Errorf("%d segments are kept, want 4", len(indexes))
	}
	got, err := w.heights()
	if err != nil || got[len(got)-1] != height {
		t.Errorf("heights %v, %v; want the last to be %d", got, err, height)
	}
	l, _ = w.open()
	for n := range ledger.Height(maxPending + 5) {
		l.Vote(1, 1, ledger.Vote{Statement: ledger.Statement{Kind: ledger.Prepare, Height: n}})
	}
	if l.waiting.Missed != 5 || l.Waiting() != maxPending {
		t.Errorf("%d statements wait and %d were left out, want %d and 5", l.Waiting(), l.waiting.Missed, maxPending)
	}
}

// last returns the index of the last segment.
func (w *logWorld) last() (uint64, error) {
	indexes, err := segments(w.config.FS, w.config.Dir)
	if err != nil || len(indexes) == 0 {
		return 0, err
	}
	return indexes[len(indexes)-1], nil
}

// BenchmarkLog logs what a node of four signs and receives for a block, and syncs once for 25 blocks, as a busy node does.
func BenchmarkLog(b *testing.B) {
	h := newHistory(b)
	order := h.blocks[1].Header.Order.Hash(h.suite)
	var votes []ledger.Vote
	for _, kind := range []ledger.StatementKind{ledger.Propose, ledger.Prepare, ledger.Commit} {
		for m := range uint32(4) {
			if kind == ledger.Propose && m > 0 {
				continue
			}
			votes = append(votes, h.vote(0, m, ledger.Statement{Kind: kind, Height: 1, Order: order, Block: h.hashes[1]}))
		}
	}
	config := h.logConfig()
	config.FS, config.Dir = state.OS(), b.TempDir()
	l, _, err := OpenLog(config)
	if err != nil {
		b.Fatal(err)
	}
	height := ledger.Height(0)
	for b.Loop() {
		height++
		for _, v := range votes {
			v.Statement.Height = height
			l.Vote(1, height, v)
		}
		if height%25 == 0 {
			if err := l.Flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(l.size+int64(l.index)*l.segment())/float64(height), "B/block")
}
