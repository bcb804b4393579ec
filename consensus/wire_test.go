package consensus_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func someVote() ledger.Vote {
	st := ledger.Statement{Kind: ledger.Prepare, Epoch: 1, View: 2, Height: 3, Order: keys.Digest{4}}
	return ledger.Vote{Signer: 5, Statement: st, Signature: []byte{6}}
}

func someCertificate() ledger.Certificate { return ledger.NewCertificate([]ledger.Vote{someVote()}) }

func someOrder() ledger.Order {
	return ledger.Order{Version: ledger.Version, Group: "main", Height: 3, TxCount: 1, Extra: []byte{1}}
}

func someMessage() consensus.Message {
	order := someOrder()
	return consensus.Message{
		Kind: 1, Votes: []ledger.Vote{someVote()}, Certificates: []ledger.Certificate{someCertificate()}, Order: &order,
		NewView: &ledger.NewView{Epoch: 1, View: 2, Votes: []ledger.Vote{someVote()}, High: someCertificate()}, Body: []byte{7},
	}
}

func allEvents() []consensus.Event {
	head := consensus.Head{Order: someOrder(), Block: keys.Digest{1}, Certificate: someCertificate()}
	epoch := ledger.Epoch{Number: 2, Members: []ledger.Member{{Institution: "bank", Key: ledger.Key{Algorithm: 1, Bytes: []byte{1}}}}}
	epoch.Params.DeployRoles = []string{"deployer"}
	return []consensus.Event{
		consensus.Expired{Timer: 1},
		consensus.Received{From: 1, Message: someMessage()},
		consensus.Signed{Vote: someVote()},
		consensus.Built{Parent: keys.Digest{1}, Payload: consensus.Payload{TxCount: 1, Barrier: true}},
		consensus.Checked{Order: keys.Digest{1}, Valid: true},
		consensus.Executed{Order: keys.Digest{1}, Block: keys.Digest{2}},
		consensus.Stored{Head: head, Epoch: &epoch, Overtaken: 2},
		consensus.Synced{Head: head},
		consensus.Pending{Count: 1},
		consensus.Peer{Member: 1, Up: true},
		consensus.Survey{},
	}
}

func allEffects() []consensus.Effect {
	message := someMessage()
	return []consensus.Effect{
		consensus.Persist{Records: []consensus.Record{{1}, {2}}, Replace: true},
		consensus.Sign{Statement: someVote().Statement, Broadcast: &message},
		consensus.Send{To: -1, Message: message},
		consensus.SetTimer{Timer: 1, Milli: 2},
		consensus.ClearTimer{Timer: 1},
		consensus.BuildPayload{Parent: keys.Digest{1}, Height: 2},
		consensus.CheckPayload{Order: someOrder(), From: 1, Widen: 2, Seen: true},
		consensus.Execute{Order: someOrder()},
		consensus.Abandon{Order: keys.Digest{1}},
		consensus.Finalize{Certificate: someCertificate(), NewView: message.NewView},
		consensus.NeedSync{Height: 1, From: 2},
		consensus.Evidence{A: someVote(), B: someVote()},
		consensus.Flow{Phase: "proposed", Height: 1, View: 2, Order: keys.Digest{3}},
		consensus.Halt{Reason: "why"},
		consensus.Refused{From: 3, Rule: "stale vote"},
		consensus.Holding{
			Rank: ledger.Rank{View: 1, Height: 2}, Certificate: someCertificate(), Blocks: []consensus.HeldBlock{{Order: someOrder(), NewView: message.NewView}},
		},
	}
}

func TestWire(t *testing.T) {
	t.Run("every event survives", func(t *testing.T) {
		data, err := consensus.EncodeEvents(allEvents())
		if err != nil {
			t.Fatal(err)
		}
		got, err := consensus.DecodeEvents(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, allEvents()) {
			t.Errorf("DecodeEvents = %+v, want %+v", got, allEvents())
		}
	})
	t.Run("every effect survives", func(t *testing.T) {
		data, err := consensus.EncodeEffects(allEffects())
		if err != nil {
			t.Fatal(err)
		}
		got, err := consensus.DecodeEffects(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, allEffects()) {
			t.Errorf("DecodeEffects = %+v, want %+v", got, allEffects())
		}
	})
	t.Run("what is not a batch is refused", func(t *testing.T) {
		good, err := consensus.EncodeEvents(allEvents()[:1])
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{
			"nothing":         {},
			"a truncated one": good[:len(good)-1],
			"a longer one":    append(bytes.Clone(good), 0),
			"an unknown kind": {0x81, 0x82, 0x18, 0x63, 0x80},
			"kind zero":       {0x81, 0x82, 0x00, 0x80},
			"missing fields":  {0x81, 0x82, 0x01, 0x80},
			"a long integer":  {0x81, 0x82, 0x01, 0x81, 0x18, 0x01},
		} {
			if _, err := consensus.DecodeEvents(data); !errors.Is(err, consensus.ErrWire) {
				t.Errorf("%s: DecodeEvents = %v, want ErrWire", name, err)
			}
		}
	})
	t.Run("a batch too long is not sent", func(t *testing.T) {
		if _, err := consensus.EncodeEvents(make([]consensus.Event, consensus.MaxBatchCount+1)); !errors.Is(err, consensus.ErrWire) {
			t.Errorf("EncodeEvents = %v, want ErrWire", err)
		}
		if _, err := consensus.EncodeEvents([]consensus.Event{nil}); !errors.Is(err, consensus.ErrWire) {
			t.Errorf("EncodeEvents(nil event) = %v, want ErrWire", err)
		}
	})
}

func FuzzDecodeEvents(f *testing.F) {
	for i := range allEvents() {
		data, err := consensus.EncodeEvents(allEvents()[i : i+1])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := consensus.DecodeEvents(data)
		if err != nil {
			return
		}
		if again, err := consensus.EncodeEvents(events); err != nil || !bytes.Equal(again, data) {
			t.Errorf("EncodeEvents(DecodeEvents(%x)) = %x, %v", data, again, err)
		}
	})
}

func FuzzDecodeEffects(f *testing.F) {
	for i := range allEffects() {
		data, err := consensus.EncodeEffects(allEffects()[i : i+1])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		effects, err := consensus.DecodeEffects(data)
		if err != nil {
			return
		}
		if again, err := consensus.EncodeEffects(effects); err != nil || !bytes.Equal(again, data) {
			t.Errorf("EncodeEffects(DecodeEffects(%x)) = %x, %v", data, again, err)
		}
	})
}
