package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// content is what a journal holds, in a form that compares.
func (j *journal) content() string {
	var b strings.Builder
	fmt.Fprintf(&b, "view %d", j.guard.View)
	for _, r := range j.records {
		fmt.Fprintf(&b, " record %x", []byte(r))
	}
	for _, p := range j.payloads {
		fmt.Fprintf(&b, " payload %d %x %x", p.Height, p.TxRoot[:1], p.Txs)
	}
	return b.String()
}

// act does the i-th of a row of updates, each different.
func act(j *journal, i int) {
	n := byte(i)
	switch i % 3 {
	case 0:
		j.persist(consensus.Persist{Records: []consensus.Record{{n}, {n, n}}, Replace: i%2 == 0})
	case 1:
		j.addPayload(payload{Height: ledger.Height(i), TxRoot: digest(n), Txs: [][]byte{bytes.Repeat([]byte{n}, 600)}})
	case 2:
		j.stored(ledger.Height(i - 4))
	}
	j.setGuard(guard{Guard: doublesign.Guard{View: uint64(i)}})
}

func mustJournal(t testing.TB, fs state.FS) *journal {
	t.Helper()
	j, err := openJournal(fs, "data", 0)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func readAll(t testing.TB, fs state.FS) []byte {
	t.Helper()
	f, err := fs.Open("data/journal", false)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); n < len(data) {
		t.Fatal(err)
	}
	return data
}

func diskOf(t testing.TB, data []byte) *memfs.FS {
	t.Helper()
	fs := memfs.New()
	f, err := fs.Open("data/journal", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestJournalTornAtEveryByte(t *testing.T) {
	fs := memfs.New()
	j := mustJournal(t, fs)
	states, ends := []string{j.content()}, []int64{j.size}
	for i := range 6 {
		act(j, i)
		if err := j.sync(); err != nil {
			t.Fatal(err)
		}
		states, ends = append(states, j.content()), append(ends, j.size)
	}
	data := readAll(t, fs)
	whole := 0
	for cut := range data {
		for whole+1 < len(ends) && ends[whole+1] <= int64(cut) {
			whole++
		}
		torn := diskOf(t, data[:cut])
		j := mustJournal(t, torn)
		// stored is not an entry: a payload that it forgot may come back, and is forgotten again at start.
		if got, want := j.content(), states[whole]; !strings.HasPrefix(got, strings.SplitN(want, " payload", 2)[0]) {
			t.Fatalf("cut at byte %d: journal holds %q, want %q", cut, got, want)
		}
		act(j, 40)
		if err := j.sync(); err != nil {
			t.Fatal(err)
		}
		if again := mustJournal(t, torn); again.content() != j.content() || again.guard.View != 40 {
			t.Fatalf("cut at byte %d, then written: journal holds %q, want %q", cut, again.content(), j.content())
		}
	}
}

func TestJournalDamaged(t *testing.T) {
	fs := memfs.New()
	j := mustJournal(t, fs)
	var begins []int64
	for i := range 4 {
		begins = append(begins, j.size)
		act(j, i)
		if err := j.sync(); err != nil {
			t.Fatal(err)
		}
	}
	data := readAll(t, fs)
	for at := begins[0]; at < begins[3]; at += 7 {
		bad := bytes.Clone(data)
		bad[at] ^= 0x40
		_, err := openJournal(diskOf(t, bad), "data", 0)
		if !errors.Is(err, ErrJournal) {
			t.Fatalf("byte %d flipped: %v, want ErrJournal", at, err)
		}
		if !strings.Contains(err.Error(), "a later entry, at byte") || !strings.Contains(err.Error(), "join again with a new key") {
			t.Fatalf("byte %d flipped: the message does not help: %v", at, err)
		}
	}
	t.Run("a foreign file", func(t *testing.T) {
		if _, err := openJournal(diskOf(t, bytes.Repeat([]byte("text "), 100)), "data", 0); !errors.Is(err, ErrJournal) {
			t.Errorf("openJournal = %v, want ErrJournal", err)
		}
	})
}

// A client chooses bytes that come to lie in a frame. They must not make a torn frame look like damage.
func TestJournalFramesInTransactions(t *testing.T) {
	fs := memfs.New()
	j := mustJournal(t, fs)
	var forged []byte
	for seq := range uint64(8) {
		var guess [saltSize]byte // what a client that does not know the salt would take
		var err error
		if forged, err = appendFrame(forged, guess, seq, nil); err != nil {
			t.Fatal(err)
		}
	}
	j.setGuard(guard{Guard: doublesign.Guard{View: 1}})
	if err := j.sync(); err != nil {
		t.Fatal(err)
	}
	j.addPayload(payload{Height: 1, Txs: [][]byte{forged}})
	if err := j.sync(); err != nil {
		t.Fatal(err)
	}
	data := readAll(t, fs)
	if again := mustJournal(t, diskOf(t, data[:len(data)-1])); again.guard.View != 1 || len(again.payloads) != 0 {
		t.Errorf("after a torn frame with forged ones in it: %s", again.content())
	}
}

// TestJournalEnded damages a journal that was closed: whatever it held is missed.
func TestJournalEnded(t *testing.T) {
	fs := memfs.New()
	j := mustJournal(t, fs)
	begins := j.size
	for i := range 3 {
		act(j, i)
		if err := j.sync(); err != nil {
			t.Fatal(err)
		}
	}
	ends := j.size
	act(j, 9) // not synced
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	data := readAll(t, fs)
	again := mustJournal(t, diskOf(t, data))
	want := mustJournal(t, diskOf(t, data[:ends])).content()
	if again.content() != want {
		t.Errorf("it holds %s, want %s", again.content(), want)
	}
	if again.seq != 4 {
		t.Errorf("the next frame is number %d, want 4", again.seq)
	}
	for at := begins; at < int64(len(data)); at++ {
		bad := bytes.Clone(data)
		bad[at] ^= 0x10
		switch j, err := openJournal(diskOf(t, bad), "data", 0); {
		case at < ends && !errors.Is(err, ErrJournal):
			t.Fatalf("byte %d of %d flipped: %v, want ErrJournal", at, ends, err)
		case at >= ends && (err != nil || j.content() != want):
			t.Fatalf("byte %d flipped, behind all that it held: %v", at, err)
		}
	}
	// One without a frame stays as good as none.
	fs = memfs.New()
	if err := mustJournal(t, fs).close(); err != nil {
		t.Fatal(err)
	}
	if j := mustJournal(t, fs); j.seq != 0 {
		t.Errorf("a journal that was never written has %d frames", j.seq)
	}
}

// TestJournalCrash stops the machine at every operation of a row of updates, rewriting included, and looks at
// what is there afterwards: all that sync returned for, and nothing that was never queued.
func TestJournalCrash(t *testing.T) {
	const updates = 9
	run := func(fs *memfs.FS) (states []string, synced int) {
		j, err := openJournal(fs, "data", 0)
		if err != nil {
			return nil, -1
		}
		states = append(states, fmt.Sprint(j.guard.View))
		for i := range updates {
			if i == 4 || i == 7 {
				j.size, j.floor = journalBytes+1, 0 // as if it had grown
			}
			act(j, i+1)
			states = append(states, fmt.Sprint(j.guard.View))
			if j.sync() != nil {
				return states, synced
			}
			synced = i + 1
		}
		return states, synced
	}
	whole := memfs.New()
	run(whole)
	total := whole.Ops()
	// The machine stops at each operation, with each of some ways of losing what was not synced.
	check := func(t *testing.T, lie memfs.Hook) (lost int) {
		for at := 1; at <= total; at++ {
			for seed := range uint64(6) {
				fs := memfs.New()
				fs.SetHook(lie)
				fs.CrashAfter(at)
				states, synced := run(fs)
				fs.SetHook(nil)
				var rng *rand.Rand
				if seed > 0 {
					rng = rand.New(rand.NewPCG(seed, uint64(at)))
				}
				fs.Crash(rng)
				j, err := openJournal(fs, "data", 0)
				if err != nil {
					lost++
					if lie == nil {
						t.Fatalf("operation %d, seed %d: %v", at, seed, err)
					}
					continue
				}
				got := fmt.Sprint(j.guard.View)
				ok := synced < 0
				for i := max(synced, 0); i < len(states); i++ {
					ok = ok || states[i] == got
				}
				if !ok {
					lost++
					if lie == nil {
						t.Fatalf("operation %d, seed %d: guard at view %s after %d synced updates of %v", at, seed, got, synced, states)
					}
				}
			}
		}
		return lost
	}
	check(t, nil)
	for _, op := range []memfs.Op{memfs.OpSync, memfs.OpSyncDir} {
		t.Run(fmt.Sprintf("without %s something is lost", op), func(t *testing.T) {
			lie := func(o memfs.Op, name string, n int) error {
				if o == op {
					return memfs.ErrIgnore
				}
				return nil
			}
			if check(t, lie) == 0 {
				t.Error("the test does not see what it is for")
			}
		})
	}
}

// TestReplaceFile loses power at each step of replacing a file, over and over: what stands under its name is always
// the whole of one that was written last, or just before. The names of a file that was renamed survive each by itself.
func TestReplaceFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	disk := memfs.New()
	var durable []byte
	for i := range 2_000 {
		data := bytes.Repeat([]byte{byte(i)}, 1+rng.IntN(3_000))
		disk.CrashAfter(1 + rng.IntN(6))
		file, err := replaceFile(disk, "data", "file", data)
		if err == nil {
			durable = data
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
		disk.Crash(rng)
		file, err = disk.Open("data/file", false)
		if errors.Is(err, fs.ErrNotExist) && durable == nil {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		size, err := file.Size()
		if err != nil {
			t.Fatal(err)
		}
		found := make([]byte, size)
		if _, err := file.ReadAt(found, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if !bytes.Equal(found, durable) && !bytes.Equal(found, data) {
			t.Fatalf("after crash %d the file has %d bytes that begin with %x: neither the old %d nor the new %d", i, size, found[:min(size, 4)], len(durable), len(data))
		}
		durable = found
	}
}

func TestJournalStopsAtAnError(t *testing.T) {
	fs := memfs.New()
	j := mustJournal(t, fs)
	broken := errors.New("broken disk")
	fs.SetHook(func(op memfs.Op, _ string, _ int) error {
		if op == memfs.OpSync {
			return broken
		}
		return nil
	})
	j.setGuard(guard{Guard: doublesign.Guard{View: 1}})
	if err := j.sync(); !errors.Is(err, broken) {
		t.Fatalf("sync = %v, want the disk's error", err)
	}
	fs.SetHook(nil)
	if err := j.sync(); !errors.Is(err, broken) {
		t.Errorf("sync after a failed one = %v: what the disk holds is unknown", err)
	}
}

// TestJournalUnsynced fails each sync of a row of updates, so that what it was for can be read and is on no disk, or stops the process before it.
// What a journal that is opened then holds, and the node may act on, it holds after a power failure.
func TestJournalUnsynced(t *testing.T) {
	killed := errors.New("killed")
	for _, how := range []error{memfs.ErrLost, killed} {
		for n := 1; ; n++ {
			fs, left := memfs.New(), n
			fs.SetHook(func(op memfs.Op, _ string, _ int) error {
				if op == memfs.OpSync {
					if left--; left == 0 {
						return how
					}
				}
				return nil
			})
			j, err := openJournal(fs, "data", 0)
			for i := 0; i < 9 && err == nil; i++ {
				if i == 4 {
					j.size, j.floor = journalBytes+1, 0 // as if it had grown
				}
				act(j, i+1)
				err = j.sync()
			}
			if err == nil {
				if n < 10 {
					t.Errorf("%d syncs: too few to mean anything", n-1)
				}
				break
			}
			if !errors.Is(err, how) {
				t.Fatal(err)
			}
			again := mustJournal(t, fs)
			if after := mustJournal(t, fs.Image(nil)); after.content() != again.content() {
				t.Fatalf("after sync %d (%v) the journal holds %.40q, and after a power failure %.40q", n, how, again.content(), after.content())
			}
		}
	}
}

func TestJournalBoundsBodies(t *testing.T) {
	j := mustJournal(t, memfs.New())
	big := make([]byte, maxPayloads/4)
	for i := range 10 {
		j.addPayload(payload{Height: 7, TxRoot: digest(byte(i)), Txs: [][]byte{big}})
		j.pending = j.pending[:0]
	}
	if n := len(j.payloads); n != 4 {
		t.Errorf("%d bodies of a quarter of the bound are kept, want 4", n)
	}
	if j.payloads[3].TxRoot != digest(9) {
		t.Error("the newest was forgotten")
	}
	j.stored(7)
	if j.held != 0 || len(j.payloads) != 0 {
		t.Errorf("%d bytes in %d payloads after the block was stored", j.held, len(j.payloads))
	}
}

func FuzzJournal(f *testing.F) {
	fs := memfs.New()
	j := mustJournal(f, fs)
	for i := range 4 {
		act(j, i)
		if err := j.sync(); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(readAll(f, fs))
	f.Add([]byte(journalMagic))
	f.Add(binary.BigEndian.AppendUint64([]byte(journalMagic+"saltsalt"), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		fs := diskOf(t, data)
		j, err := openJournal(fs, "data", 0)
		if err != nil {
			return
		}
		j.setGuard(guard{Guard: doublesign.Guard{View: 77}})
		if err := j.sync(); err != nil {
			t.Fatal(err)
		}
		if again := mustJournal(t, fs); again.guard.View != 77 {
			t.Error("an entry after recovery was lost")
		}
	})
}

// TestGuardForm has the form of the guard in the journal: one flat array, as journals on disk have it.
func TestGuardForm(t *testing.T) {
	kept := guard{Guard: doublesign.Guard{Epoch: 1, View: 2, Attest: prepares(3, 4, 5)}, Mute: 6, Lost: true, Leave: 7, Left: digest(8), Stored: 9}
	data := mustMarshal(&kept)
	if data[0] != 0x80+12 {
		t.Errorf("it begins with byte %#x, want an array of 12", data[0])
	}
	var again guard
	if err := ledger.Unmarshal(data, &again); err != nil || again != kept {
		t.Errorf("read again: %+v, %v", again, err)
	}
}
