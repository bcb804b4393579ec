package precompiles

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// vote signs a statement as member 0 or 1 of the tests' genesis.
func (w *world) vote(t *testing.T, member uint32, st ledger.Statement) ledger.Vote {
	t.Helper()
	signer, err := keystest.Suite().Generate(keystest.Suite().Vote(), rand.NewChaCha8([32]byte{100 + byte(member), 0, 1})) // the key of newKey
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(st.Digest(keystest.Suite(), w.order.Chain, w.order.Group))
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Vote{Signer: member, Statement: st, Signature: signature}
}

func TestAccuse(t *testing.T) {
	w := newWorld(t)
	w.order.Group = "main"
	w.caller = name("user")
	prepare := func(order byte, height ledger.Height) ledger.Statement {
		return ledger.Statement{Kind: ledger.Prepare, View: 2, Height: height, Order: keys.Digest{order}}
	}
	show := func(edit func(e *ledger.Evidence)) []byte {
		e, err := ledger.NewEvidence(w.vote(t, 1, prepare(1, 5)), w.vote(t, 1, prepare(2, 5)))
		if err != nil {
			t.Fatal(err)
		}
		edit(e)
		return mustMarshal(t, e)
	}
	later := prepare(2, 5)
	later.Epoch = 1
	first := prepare(1, 5)
	first.Epoch = 1
	for _, c := range []struct {
		story    string
		evidence []byte
		code     uint32
	}{
		{"what is no evidence", []byte{0x83}, AbortEvidence},
		{"one statement twice", show(func(e *ledger.Evidence) { e.B = e.A }), AbortEvidence},
		{"statements that agree", show(func(e *ledger.Evidence) { e.B = w.vote(t, 1, prepare(2, 6)) }), AbortEvidence},
		{"a forged signature", show(func(e *ledger.Evidence) { e.B.Signature[5] ^= 1 }), AbortEvidence},
		{"another member's statements", show(func(e *ledger.Evidence) { e.A.Signer, e.B.Signer = 0, 0 }), AbortEvidence},
		{"nobody's statements", show(func(e *ledger.Evidence) { e.A.Signer, e.B.Signer = 2, 2 }), AbortEvidence},
		{"statements of an epoch to come", show(func(e *ledger.Evidence) { e.A, e.B = w.vote(t, 1, first), w.vote(t, 1, later) }), AbortEpoch},
	} {
		before := maps.Clone(w.state)
		_, err := w.call(newMembers(), "accuse", AccuseArgs{Evidence: c.evidence})
		if e, ok := errors.AsType[*Error](err); !ok || e.Status != ledger.Aborted || e.Code != c.code {
			t.Errorf("accuse with %s: %v, want aborted with code %d", c.story, err, c.code)
		}
		if !maps.EqualFunc(before, w.state, slices.Equal) || len(w.events) > 0 {
			t.Errorf("accuse with %s changed the state", c.story)
		}
	}

	good := show(func(*ledger.Evidence) {})
	w.gas = 0
	_, err := w.call(newMembers(), "accuse", AccuseArgs{Evidence: good})
	wantError(t, err, ledger.OK, 0)
	if w.gas < gasPerAccusation || !slices.Equal(w.events, []string{"accused"}) {
		t.Errorf("accuse took %d gas and emitted %v", w.gas, w.events)
	}
	evidence, err := ledger.DecodeEvidence(good)
	if err != nil {
		t.Fatal(err)
	}
	place, err := evidence.Place()
	if err != nil {
		t.Fatal(err)
	}
	want := Accusation{Version: 1, Place: place, Evidence: evidence.Digest(keystest.Suite()), By: w.caller, Height: 7}
	if got, found, err := ReadAccusation(w, place); err != nil || !found || got != want {
		t.Errorf("ReadAccusation = %+v, %v, %v, want %+v", got, found, err, want)
	}

	third, err := ledger.NewEvidence(w.vote(t, 1, prepare(3, 5)), w.vote(t, 1, prepare(2, 5)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.call(newMembers(), "accuse", AccuseArgs{Evidence: mustMarshal(t, third)})
	wantError(t, err, ledger.Aborted, AbortAccused)
	_, changes, err := EndEpoch(w, 7) // the statements of an epoch that is over count
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		w.state[string(c.Key)] = c.Value
	}
	other, err := ledger.NewEvidence(w.vote(t, 1, prepare(1, 6)), w.vote(t, 1, prepare(2, 6)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.call(newMembers(), "accuse", AccuseArgs{Evidence: mustMarshal(t, other)})
	wantError(t, err, ledger.OK, 0)

	for member, want := range []int{0, 2} {
		out, err := w.call(newMembers(), "accusations", AccusationsArgs{Member: uint32(member)})
		wantError(t, err, ledger.OK, 0)
		var found []Accusation
		if err := ledger.Unmarshal(out, &found); err != nil || len(found) != want {
			t.Errorf("accusations of member %d: %+v, %v, want %d", member, found, err, want)
		}
		if _, err := newMembers().Schema().DecodeValue("list<Accusation>", out); err != nil {
			t.Error(err)
		}
	}
}
