package engine

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// still is an engine that does nothing.
type still struct{ steps int }

func (*still) Init(consensus.Config, []consensus.Record) ([]consensus.Effect, error) { return nil, nil }

func (s *still) Step(consensus.Event) ([]consensus.Effect, error) { s.steps++; return nil, nil }

func (*still) Status() consensus.Status { return consensus.Status{} }

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := ledger.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func frames(t testing.TB) (first, second []byte) {
	events, err := consensus.EncodeEvents([]consensus.Event{consensus.Expired{Timer: 1}, consensus.Pending{Count: 2}})
	if err != nil {
		t.Fatal(err)
	}
	return marshal(t, &request{Seq: 1, Init: &start{Config: consensus.Config{Suite: "std"}}}), marshal(t, &request{Seq: 2, Events: events})
}

func TestAnswer(t *testing.T) {
	first, second := frames(t)
	late := marshal(t, &request{Seq: 1})
	settings := marshal(t, &request{Seq: 1, Init: &start{Settings: []byte("x = 1")}})
	for _, c := range []struct {
		name  string
		seq   uint64
		frame []byte
		says  string
		host  bool // the host's fault, not the engine's
	}{
		{"Init", 1, first, "", false},
		{"events", 2, second, "", false},
		{"a gap", 3, second, "frame 3 has sequence number 2", true},
		{"a second Init", 2, marshal(t, &request{Seq: 2, Init: &start{}}), "the first frame of a stream, and no other", true},
		{"no Init", 1, late, "the first frame of a stream, and no other", true},
		{"events of no kind", 2, marshal(t, &request{Seq: 2, Events: []byte{0x81, 0x82, 0x18, 0xc8, 0x80}}), "unknown kind 200", true},
		{"trailing bytes", 1, append(slices.Clip(first), 0), "not canonical", true},
		{"settings for an engine without any", 1, settings, "takes no settings", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers, err := answer(new(still), c.seq, c.frame)
			if c.says == "" {
				if err != nil || len(answers) != int(c.seq) {
					t.Errorf("answer = %d entries, %v", len(answers), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v does not say %q", err, c.says)
			}
			if got := status.Code(err) == codes.InvalidArgument; got != c.host {
				t.Errorf("the host's fault: %t, want %t", got, c.host)
			}
		})
	}
}

func TestManifest(t *testing.T) {
	good := Manifest{Name: "x", Fault: BFT, MinMembers: 1}
	for field, m := range map[string]Manifest{
		"Name":       {Fault: BFT, MinMembers: 1},
		"Version":    {Name: "x", Fault: BFT, MinMembers: 1, Version: strings.Repeat("1", 65)},
		"Fault":      {Name: "x", Fault: "none", MinMembers: 1},
		"MinMembers": {Name: "x", Fault: CFT},
	} {
		if err := m.validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("validate does not name %s: %v", field, err)
		}
	}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
}

// FuzzAnswer sends frames of a stranger to the program.
func TestManifestSuits(t *testing.T) {
	for _, c := range []struct {
		name     string
		manifest Manifest
		genesis  ledger.Genesis
		says     string
	}{
		{"the engine of the genesis", Manifest{Name: "pbft", Fault: BFT}, ledger.Genesis{Engine: "pbft"}, ""},
		{"another engine", Manifest{Name: "rota", Fault: BFT}, ledger.Genesis{Engine: "pbft"}, `"rota", and the genesis names "pbft"`},
		{"members that are trusted", Manifest{Name: "rota", Fault: CFT}, ledger.Genesis{Engine: "rota", Trust: true}, ""},
		{"members that are not", Manifest{Name: "rota", Fault: CFT}, ledger.Genesis{Engine: "rota"}, "--trust-members"},
		{"members that are, and an engine that need not", Manifest{Name: "rota", Fault: BFT}, ledger.Genesis{Engine: "rota", Trust: true}, ""},
	} {
		err := c.manifest.Suits(&c.genesis)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: Suits = %v, want it to say %q", c.name, err, c.says)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	first, second := frames(f)
	f.Add(uint64(1), first)
	f.Add(uint64(2), second)
	f.Add(uint64(2), []byte{0x83, 2, 0xf6, 0x41, 0x80})
	f.Fuzz(func(t *testing.T, seq uint64, frame []byte) {
		e := new(still)
		answers, err := answer(e, seq, frame)
		if err == nil && seq > 1 && len(answers) != e.steps {
			t.Errorf("%d events and %d answers", e.steps, len(answers))
		}
	})
}
