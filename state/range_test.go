package state_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestRangeReadsWhatIsTaken looks at how much a range reads of which the first pair is taken: a contract pays for that
// pair alone. Values that later writes hide are not read either.
func TestRangeReadsWhatIsTaken(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, state.Options{})
	key := func(i int) []byte { return fmt.Appendf(nil, "k%02d", i) }
	var changes []ledger.Change
	for i := range 33 {
		changes = append(changes, ledger.Change{Key: key(i), Value: make([]byte, 128<<10)})
	}
	changes[0].Value = []byte("small")
	next := grow(t, state.Empty(suite), changes)
	if err := s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // all is in the table now
		t.Fatal(err)
	}
	s = open(t, dir, state.Options{})
	over := state.NewOverlay(s.Head())
	for i := 1; i < 32; i++ {
		over.Delete(key(i))
	}
	for _, reverse := range []bool{false, true} {
		for name, r := range map[string]state.Reader{"snapshot": s.Head(), "overlay": over} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			taken := 0
			for e, err := range r.Range(nil, nil, reverse) {
				if err != nil {
					t.Fatal(err)
				}
				if len(e.Value) > 5 && !reverse {
					t.Errorf("%s: the first value has %d bytes", name, len(e.Value))
				}
				if taken++; taken == 1 {
					break
				}
			}
			runtime.ReadMemStats(&after)
			if read := after.TotalAlloc - before.TotalAlloc; taken != 1 || read > 1<<20 {
				t.Errorf("%s, reverse %v: a range of which %d pairs were taken made %d bytes", name, reverse, taken, read)
			}
		}
	}
	want := []string{string(key(0)), string(key(32))}
	var got []string
	for e, err := range over.Range(nil, nil, false) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Key))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the overlay's range gave %v, want %v", got, want)
	}
}
