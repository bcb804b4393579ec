// Package enginetest checks that a consensus engine keeps the contract of package consensus. The author of an
// engine runs it in the engine's process, and again on the plugin program through plugins.Host, because the wire
// must change nothing.
package enginetest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Run checks the engines that factory makes: first one engine among strangers, in groups of one and of four
// members, then what consensustest.Run checks on whole groups.
func Run(t *testing.T, factory consensus.Factory) {
	for _, members := range []int{1, 4} {
		c := Config(t, members)
		t.Run(map[int]string{1: "one member", 4: "four members"}[members], func(t *testing.T) {
			t.Run("a new engine stands at its head", func(t *testing.T) { newEngine(t, factory, c) })
			t.Run("an observer is silent", func(t *testing.T) { observer(t, factory, c) })
			t.Run("a batch has the effects of its events", func(t *testing.T) { batches(t, factory, c) })
			t.Run("strange messages cause no error", func(t *testing.T) { strange(t, factory, c) })
			t.Run("the journal starts an engine", func(t *testing.T) { journal(t, factory, c) })
		})
	}
	consensustest.Run(t, factory)
}

// Config returns a group of n members at genesis, in which this node is member 0. The members' keys are the
// same in each run.
func Config(t testing.TB, n int) consensus.Config {
	t.Helper()
	suite, err := keys.SuiteByName("std")
	if err != nil {
		t.Fatal(err)
	}
	c := consensus.Config{Suite: suite.Name(), Group: "main", Chain: keys.Hash(suite, "enginetest")}
	c.Epoch.Params = ledger.DefaultParams()
	for i := range n {
		signer, err := suite.ParsePrivate(suite.Vote(), bytes.Repeat([]byte{byte(i + 1)}, 32))
		if err != nil {
			t.Fatal(err)
		}
		key := ledger.KeyOf(signer.Public())
		c.Epoch.Members = append(c.Epoch.Members, ledger.Member{
			Node: identity.NodeID(keys.Hash(suite, "node", key.Bytes)), Institution: "bank-" + string(rune('a'+i)), Key: key,
		})
	}
	c.Head.Order = ledger.Order{Version: ledger.Version, Chain: c.Chain, Group: c.Group}
	c.Head.Block = keys.Hash(suite, "block", []byte("genesis"))
	return c
}

func begin(t *testing.T, factory consensus.Factory, c consensus.Config, journal []consensus.Record) (consensus.Engine, []consensus.Effect) {
	t.Helper()
	e := factory()
	if c, ok := e.(io.Closer); ok {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	effects, err := e.Init(c, journal)
	if err != nil {
		t.Fatalf("Init: %v", err)
	}
	return e, effects
}

func newEngine(t *testing.T, factory consensus.Factory, c consensus.Config) {
	e, effects := begin(t, factory, c, nil)
	encode(t, effects)
	if got := e.Status(); got.Height != 0 || got.Epoch != 0 || got.Leader >= int32(len(c.Epoch.Members)) {
		t.Errorf("Status = %+v", got)
	}
	if a, b := e.Status(), e.Status(); a != b {
		t.Errorf("Status changed from %+v to %+v without an event", a, b)
	}
}

func observer(t *testing.T, factory consensus.Factory, c consensus.Config) {
	c.Self = -1
	e, effects := begin(t, factory, c, nil)
	for _, event := range events(c, 200) {
		more, err := e.Step(event)
		if err != nil {
			t.Fatalf("Step(%T): %v", event, err)
		}
		effects = append(effects, more...)
	}
	for _, effect := range effects {
		if sign, ok := effect.(consensus.Sign); ok {
			t.Fatalf("an observer signs %+v", sign.Statement)
		}
	}
}

func batches(t *testing.T, factory consensus.Factory, c consensus.Config) {
	one, _ := begin(t, factory, c, nil)
	many, _ := begin(t, factory, c, nil)
	all := events(c, 300)
	var want []consensus.Effect
	for _, event := range all {
		effects, err := one.Step(event)
		if err != nil {
			t.Fatalf("Step(%T): %v", event, err)
		}
		want = append(want, effects...)
	}
	got, err := consensus.StepBatch(many, all)
	if err != nil {
		t.Fatalf("StepBatch: %v", err)
	}
	if len(got) != len(want) || !bytes.Equal(encode(t, got), encode(t, want)) {
		t.Errorf("%d effects at once, %d one by one", len(got), len(want))
	}
	if a, b := one.Status(), many.Status(); a != b {
		t.Errorf("status %+v at once, %+v one by one", b, a)
	}
}

func strange(t *testing.T, factory consensus.Factory, c consensus.Config) {
	e, _ := begin(t, factory, c, nil)
	for i, event := range events(c, 3000) {
		if _, err := e.Step(event); err != nil {
			t.Fatalf("event %d, %+v: %v", i, event, err)
		}
	}
}

func journal(t *testing.T, factory consensus.Factory, c consensus.Config) {
	e, effects := begin(t, factory, c, nil)
	for _, event := range events(c, 300) {
		more, err := e.Step(event)
		if err != nil {
			t.Fatalf("Step(%T): %v", event, err)
		}
		effects = append(effects, more...)
	}
	var records []consensus.Record
	for _, effect := range effects {
		if p, ok := effect.(consensus.Persist); ok {
			if p.Replace {
				records = nil
			}
			records = append(records, p.Records...)
		}
	}
	again, first := begin(t, factory, c, records)
	encode(t, first)
	if got, was := again.Status(), e.Status(); got.Height != was.Height || got.View > was.View {
		t.Errorf("Status = %+v, was %+v before the restart", got, was)
	}
}

func encode(t *testing.T, effects []consensus.Effect) []byte {
	t.Helper()
	data, err := consensus.EncodeEffects(effects)
	if err != nil {
		t.Fatalf("effects do not encode: %v", err)
	}
	return data
}

// events returns n events such as strangers and clocks cause: timers, connections, and messages with well-formed
// parts in senseless combinations. Their signatures count as checked.
func events(c consensus.Config, n int) []consensus.Event {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	digests := []keys.Digest{{}, c.Chain, c.Head.Block, {1}, {2}}
	digest := func() keys.Digest { return digests[r.IntN(len(digests))] }
	number := func() uint64 { return []uint64{0, 0, 1, 1, 2, 3, 100, 1 << 40, 1<<64 - 1}[r.IntN(9)] }
	member := func() uint32 { return uint32(r.IntN(len(c.Epoch.Members))) }
	statement := func() ledger.Statement {
		return ledger.Statement{
			Kind: ledger.StatementKind(1 + r.IntN(6)), Epoch: number() % 2, View: number(), Height: ledger.Height(number()),
			Order: digest(), Block: digest(), High: ledger.Rank{View: number(), Height: ledger.Height(number())}, Seq: number(),
		}
	}
	vote := func() ledger.Vote {
		return ledger.Vote{Signer: member(), Statement: statement(), Signature: make([]byte, keys.SignatureSize)}
	}
	certificate := func() ledger.Certificate {
		s := statement()
		var votes []ledger.Vote
		for i := range ledger.Quorum(len(c.Epoch.Members)) {
			votes = append(votes, ledger.Vote{Signer: uint32(i), Statement: s, Signature: make([]byte, keys.SignatureSize)})
		}
		return ledger.NewCertificate(votes)
	}
	message := func() consensus.Message {
		m := consensus.Message{Kind: uint8(r.IntN(12))}
		for range r.IntN(4) {
			m.Votes = append(m.Votes, vote())
		}
		for range r.IntN(3) {
			m.Certificates = append(m.Certificates, certificate())
		}
		if r.IntN(2) == 0 {
			m.Order = &ledger.Order{
				Version: ledger.Version, Chain: c.Chain, Group: c.Group, Height: ledger.Height(number()), Parent: digest(), UnixMilli: int64(number() >> 1),
				Proposer: member(), TxRoot: digest(), TxCount: uint32(number()), Barrier: r.IntN(8) == 0, NewView: digest(),
			}
		}
		if r.IntN(4) == 0 {
			m.NewView = &ledger.NewView{View: number(), High: certificate()}
			for i := range ledger.Quorum(len(c.Epoch.Members)) {
				v := vote()
				v.Signer = uint32(i)
				v.Statement.Kind = ledger.ViewChange
				m.NewView.Votes = append(m.NewView.Votes, v)
			}
		}
		if r.IntN(4) == 0 {
			m.Body = make([]byte, r.IntN(64))
			for i := range m.Body {
				m.Body[i] = byte(r.Uint32())
			}
		}
		return m
	}
	all := make([]consensus.Event, n)
	for i := range all {
		switch r.IntN(8) {
		case 0:
			all[i] = consensus.Expired{Timer: consensus.Timer(r.IntN(12))}
		case 1:
			all[i] = consensus.Peer{Member: member(), Up: r.IntN(2) == 0}
		case 2:
			all[i] = consensus.Pending{Count: uint32(r.IntN(3)), OldestMilli: int64(r.IntN(10_000))}
		default:
			all[i] = consensus.Received{From: member(), Message: message()}
		}
	}
	return all
}
