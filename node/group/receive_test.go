package group

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// vote returns member m's vote on a statement.
func (w *world) vote(m int, st ledger.Statement) ledger.Vote {
	return ledger.Vote{Signer: uint32(m), Statement: st, Signature: must(w.nodes[m].key.Sign(st.Digest(w.suite, w.chain, "main")))}
}

func (w *world) certificate(st ledger.Statement, members ...int) ledger.Certificate {
	var votes []ledger.Vote
	for _, m := range members {
		votes = append(votes, w.vote(m, st))
	}
	return ledger.NewCertificate(votes)
}

func TestReceive(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0)
	g := w.nodes[0].group
	change := ledger.Statement{Kind: ledger.ViewChange, View: 1}
	prepare := prepares(0, 1, 1)
	other := func(f func(*ledger.Statement)) ledger.Statement {
		st := prepare
		f(&st)
		return st
	}
	foreign := ledger.Vote{Signer: 1, Statement: prepare, Signature: must(w.nodes[1].key.Sign(prepare.Digest(w.suite, keys.Digest{7}, "main")))}
	otherGroup := ledger.Vote{Signer: 1, Statement: prepare, Signature: must(w.nodes[1].key.Sign(prepare.Digest(w.suite, w.chain, "other")))}
	as := func(signer uint32, v ledger.Vote) ledger.Vote { v.Signer = signer; return v }
	twice := w.certificate(prepare, 1, 2, 3)
	twice.Signatures[2] = twice.Signatures[1]
	short := w.certificate(prepare, 1, 2)
	padded := w.certificate(prepare, 1, 2, 3)
	padded.Signers = append(padded.Signers, 0)
	beyond := w.certificate(prepare, 1, 2, 3)
	beyond.Signers = []byte{0b10000110}
	epoch := other(func(st *ledger.Statement) { st.Epoch = 1 })
	attest := other(func(st *ledger.Statement) { st.Kind = ledger.Attest })
	order := &ledger.Order{Version: 1, TxCount: 1, TxRoot: ledger.Root(w.suite, []keys.Digest{{1}})}
	for _, c := range []struct {
		name string
		p    packet
		says string // "": it is taken
	}{
		{"a vote", packet{Message: consensus.Message{Votes: []ledger.Vote{w.vote(1, prepare)}}}, ""},
		{"a vote that another member signed", packet{Message: consensus.Message{Votes: []ledger.Vote{w.vote(2, prepare)}}}, ""},
		{"a vote in another's name", packet{Message: consensus.Message{Votes: []ledger.Vote{as(2, w.vote(1, prepare))}}}, "prepare of member 2"},
		{"a vote of no member", packet{Message: consensus.Message{Votes: []ledger.Vote{as(4, w.vote(1, prepare))}}}, "member 4 of 4"},
		{"a vote of member 2^32-1", packet{Message: consensus.Message{Votes: []ledger.Vote{as(1<<32-1, w.vote(1, prepare))}}}, "of 4"},
		{"a vote of another chain", packet{Message: consensus.Message{Votes: []ledger.Vote{foreign}}}, "prepare of member 1"},
		{"a vote of another group", packet{Message: consensus.Message{Votes: []ledger.Vote{otherGroup}}}, "prepare of member 1"},
		{"a vote of another epoch", packet{Message: consensus.Message{Votes: []ledger.Vote{w.vote(1, epoch)}}}, "of epoch 1"},
		{"too many votes", packet{Message: consensus.Message{Votes: make([]ledger.Vote, consensus.MaxMessageVotes+1)}}, "513 votes"},
		{"a certificate of votes that came before", packet{Message: consensus.Message{Certificates: []ledger.Certificate{w.certificate(prepare, 1, 2, 3)}}}, ""},
		{"a certificate of two", packet{Message: consensus.Message{Certificates: []ledger.Certificate{short}}}, "2 of 4"},
		{"a certificate with a signature twice", packet{Message: consensus.Message{Certificates: []ledger.Certificate{twice}}}, "member 3"},
		{"a certificate with a padded bitmap", packet{Message: consensus.Message{Certificates: []ledger.Certificate{padded}}}, "bitmap"},
		{"a certificate of a member that is none", packet{Message: consensus.Message{Certificates: []ledger.Certificate{beyond}}}, "signer 7"},
		{"a certificate of view changes", packet{Message: consensus.Message{Certificates: []ledger.Certificate{w.certificate(change, 1, 2, 3)}}}, "of a view-change"},
		{"a certificate of attestations", packet{Message: consensus.Message{Certificates: []ledger.Certificate{w.certificate(attest, 1, 2, 3)}}}, "of a attest"},
		{"a certificate of another epoch", packet{Message: consensus.Message{Certificates: []ledger.Certificate{w.certificate(epoch, 1, 2, 3)}}}, "of epoch 1"},
		{"no certificate in its place", packet{Message: consensus.Message{Certificates: make([]ledger.Certificate, 1)}}, "of a none"},
		{"a new-view with a forged vote", packet{Message: consensus.Message{NewView: &ledger.NewView{View: 1, Votes: []ledger.Vote{as(2, w.vote(1, change))}}}}, "view-change of member 2"},
		{"a new-view with a short certificate", packet{Message: consensus.Message{NewView: &ledger.NewView{View: 1, High: short}}}, "2 of 4"},
		{"a new-view of more votes than members", packet{Message: consensus.Message{NewView: &ledger.NewView{View: 1, Votes: make([]ledger.Vote, 5)}}}, "5 votes of 4"},
		{"an order with its leaves", packet{Message: consensus.Message{Order: order}, Leaves: []keys.Digest{{1}}}, ""},
		{"an order with other leaves", packet{Message: consensus.Message{Order: order}, Leaves: []keys.Digest{{2}}}, "not those of its root"},
		{"an order with a leaf more", packet{Message: consensus.Message{Order: order}, Leaves: []keys.Digest{{1}, {2}}}, "not those of its root"},
		{"an order that is too large", packet{Message: consensus.Message{Order: &ledger.Order{Extra: make([]byte, 257)}}}, "257 extra bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(g.events)
			err := g.receiveMessage(1, mustMarshal(&c.p))
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("receiveMessage = %v, want it to say %q", err, c.says)
			}
			if _, ok := errors.AsType[*breach](err); err != nil && !ok {
				t.Errorf("receiveMessage = %v, which names no rule", err)
			}
			if took := len(g.events) > before; took != (err == nil) {
				t.Errorf("the engine hears of it: %t", took)
			}
		})
	}
	t.Run("whoever watches is told the rule and the member", func(t *testing.T) {
		g.Drain()
		var told []string
		g.cfg.Trace.Refused = func(member uint32, rule string) { told = append(told, fmt.Sprintf("%d: %s", member, rule)) }
		defer func() { g.cfg.Trace.Refused = nil }()
		g.Receive(w.nodes[2].id, Consensus, []byte("x"))
		g.Receive(w.nodes[1].id, Consensus, mustMarshal(&packet{Message: consensus.Message{Votes: []ledger.Vote{w.vote(1, epoch)}}}))
		g.Receive(w.nodes[1].id, Consensus, mustMarshal(&packet{Message: consensus.Message{Kind: 77}}))
		g.Receive(identity.NodeID{1}, Consensus, []byte("x"))
		g.Drain()
		if want := []string{"2: malformed message", "1: another epoch", "4294967295: not a member", "1: unknown kind"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
	t.Run("too long", func(t *testing.T) {
		if err := g.receiveMessage(1, make([]byte, maxPacket+1)); err == nil {
			t.Error("it was taken")
		}
	})
	t.Run("one member can leave a few lists only", func(t *testing.T) {
		for i := range 3 * maxLists {
			leaves := []keys.Digest{{byte(i), 9}}
			o := &ledger.Order{Version: 1, TxCount: 1, TxRoot: ledger.Root(w.suite, leaves)}
			if err := g.receiveMessage(2, mustMarshal(&packet{Message: consensus.Message{Order: o}, Leaves: leaves})); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(g.senders[2].lists); n != maxLists || g.leavesOf(order.TxRoot) == nil {
			t.Errorf("%d lists of it are kept; those of others are kept: %t", n, g.leavesOf(order.TxRoot) != nil)
		}
	})
	t.Run("one member can have a share of the signature checks only", func(t *testing.T) {
		for i := range maxVerified + 10 {
			forged := w.vote(1, prepare)
			forged.Signature = append([]byte{byte(i), byte(i >> 8)}, forged.Signature[2:]...)
			err := g.receiveMessage(3, mustMarshal(&packet{Message: consensus.Message{Votes: []ledger.Vote{forged}}}))
			if over := strings.Contains(err.Error(), "signatures in a second"); over != (i > maxVerified) {
				t.Fatalf("forged vote %d: %v", i, err)
			}
		}
		if err := g.receiveMessage(1, mustMarshal(&packet{Message: consensus.Message{Votes: []ledger.Vote{w.vote(1, prepares(0, 2, 2))}}})); err != nil {
			t.Errorf("a vote of another member: %v", err)
		}
	})
}

// TestValid spoils a proposal in each way that a leader could.
func TestValid(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	old := w.tx(50, 60_000)
	w.nodes[0].mustOffer(old)
	w.reach(1)
	g := w.nodes[1].group
	now := begins + w.now
	resign := func(f func(*ledger.Tx)) *ledger.SignedTx {
		tx := w.tx(51, 60_000).Tx
		tx.Signatures = nil
		f(&tx)
		return must(tx.Sign(w.suite, w.client))
	}
	for _, c := range []struct {
		name string
		txs  []*ledger.SignedTx
		o    func(*ledger.Order)
		ask  consensus.CheckPayload
		says string
	}{
		{name: "a good one"},
		{name: "time of the parent", o: func(o *ledger.Order) { o.UnixMilli = g.head.Order.UnixMilli }, says: "not after the parent's"},
		{name: "time as far ahead as allowed", o: func(o *ledger.Order) { o.UnixMilli = now + 5_000 }},
		{name: "time 1 ms too far ahead", o: func(o *ledger.Order) { o.UnixMilli = now + 5_001 }, says: "check the clocks"},
		{name: "the same after a view change", o: func(o *ledger.Order) { o.UnixMilli = now + 10_000 }, ask: consensus.CheckPayload{Widen: 1}},
		{name: "1 ms more", o: func(o *ledger.Order) { o.UnixMilli = now + 10_001 }, ask: consensus.CheckPayload{Widen: 1}, says: "check the clocks"},
		{name: "the bound widens thrice at most", o: func(o *ledger.Order) { o.UnixMilli = now + 40_001 }, ask: consensus.CheckPayload{Widen: 200}, says: "check the clocks"},
		{name: "a time that others accepted", o: func(o *ledger.Order) { o.UnixMilli = now + 50_000 }, ask: consensus.CheckPayload{Seen: true}},
		{name: "bytes misstated", o: func(o *ledger.Order) { o.TxBytes++ }, says: "the order claims"},
		{name: "gas misstated", o: func(o *ledger.Order) { o.GasLimit-- }, says: "the order claims"},
		{name: "expiry at the block's time", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Expiry = now })}},
		{name: "expiry before the block's time", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Expiry = now - 1 })}, says: "does not suit"},
		{name: "expiry a lifetime ahead", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Expiry = now + 600_000 })}},
		{name: "expiry too far ahead", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Expiry = now + 600_001 })}, says: "does not suit"},
		{name: "expiry at the end of time", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Expiry = 1<<63 - 1 })}, says: "does not suit"},
		{name: "a transaction twice", txs: []*ledger.SignedTx{w.tx(60, 1_000), w.tx(60, 1_000)}, says: "comes twice"},
		{name: "a transaction that is in a block", txs: []*ledger.SignedTx{old}, says: "in a block already"},
		{name: "another chain's", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Chain = keys.Digest{1} })}, says: "for chain"},
		{name: "another group's", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Group = "other" })}, says: "for group"},
		{name: "too large", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Args = make([]byte, ledger.MaxTxSize) })}, says: "at most"},
		{name: "without gas", txs: []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.GasLimit = 0 })}, says: "gas limit"},
		{name: "in an ancestor that is not final", txs: []*ledger.SignedTx{w.tx(70, 1_000)}, o: func(o *ledger.Order) { o.Parent = keys.Digest{5} }, says: "comes twice"},
		{name: "no transactions", o: func(o *ledger.Order) { o.TxCount = 0 }, says: "a block has 1"},
		{name: "too many transactions", o: func(o *ledger.Order) { o.TxCount = 2_001 }, says: "a block has 1"},
		{name: "too many bytes", o: func(o *ledger.Order) { o.TxBytes = 8<<20 + 1 }, says: "a block has 1"},
		{name: "too much gas", o: func(o *ledger.Order) { o.GasLimit = w.genesis.Params.BlockGas + 1 }, says: "a block has 1"},
		{name: "an epoch's end", o: func(o *ledger.Order) { o.Barrier = true }, says: "of ending the epoch"},
		{name: "no member's", o: func(o *ledger.Order) { o.Proposer = 4 }, says: "proposer 4"},
		{name: "of another epoch", o: func(o *ledger.Order) { o.Epoch = 1 }, says: "epoch 1"},
		{name: "of another version", o: func(o *ledger.Order) { o.Version = 2 }, says: "version 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &proposal{txs: c.txs}
			if p.txs == nil {
				p.txs = []*ledger.SignedTx{resign(func(tx *ledger.Tx) { tx.Expiry = now + 60_000 })}
			}
			p.order = ledger.Order{
				Version: 1, Chain: w.chain, Group: "main", Height: 2, Parent: g.headHash(), UnixMilli: now, TxCount: uint32(len(p.txs)),
			}
			for _, tx := range p.txs {
				p.order.TxBytes += uint64(len(tx.Raw))
				p.order.GasLimit += tx.GasLimit
			}
			if c.o != nil {
				c.o(&p.order)
			}
			if p.order.Parent == (keys.Digest{5}) {
				g.proposals[p.order.Parent] = &proposal{txs: p.txs, order: ledger.Order{Height: 2, Parent: g.headHash(), UnixMilli: now - 1}}
				defer delete(g.proposals, p.order.Parent)
			}
			err := g.possible(&p.order)
			if err == nil {
				err = g.valid(p, &c.ask)
			}
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("valid = %v, want it to say %q", err, c.says)
			}
		})
	}
}

// FuzzReceive gives a group bytes from a member: nothing that is not signed by more members than may lie stops it.
func FuzzReceive(f *testing.F) {
	w := newWorld(f, 4)
	w.start(0, 1, 2, 3)
	w.hook = func(from, to int, p Protocol, m []byte) []byte {
		f.Add(uint8(p), m)
		return m
	}
	w.nodes[0].on(0, func() { w.nodes[0].group.Offer(w.tx(1, 60_000).Raw, func(ledger.TxID, error) {}) })
	w.run(300, func() bool { return false })
	f.Add(uint8(Leaves), make([]byte, 32))
	f.Add(uint8(Bodies), mustMarshal([]keys.Digest{{1}}))
	f.Add(uint8(Blocks), mustMarshal([]uint64{1, 1 << 60}))
	w.hook = func(int, int, Protocol, []byte) []byte { return nil }
	f.Fuzz(func(t *testing.T, p uint8, data []byte) {
		n := w.nodes[1]
		n.on(0, func() {
			n.group.Receive(w.nodes[0].id, Protocol(p), data)
			n.group.Serve(w.nodes[0].id, Protocol(p), data, func([]byte, error) {})
		})
		w.run(3, func() bool { return false })
		if err := n.group.Stopped(); err != nil {
			t.Fatalf("a member stopped the group: %v", err)
		}
		if len(n.group.proposals) > 16 || len(n.group.senders[0].lists) > maxLists {
			t.Fatalf("a member made the group keep %d proposals", len(n.group.proposals))
		}
	})
}

func BenchmarkReceive(b *testing.B) {
	w := newWorld(b, 4)
	w.start(0)
	g := w.nodes[0].group
	b.Run("a new vote", func(b *testing.B) {
		messages := make([][]byte, 2_000)
		for i := range messages {
			messages[i] = mustMarshal(&packet{Message: consensus.Message{Votes: []ledger.Vote{w.vote(1, prepares(0, ledger.Height(i+1), 1))}}})
		}
		for i := 0; b.Loop(); i++ {
			if i%len(messages) == 0 {
				w.now += 1_000
				g.checked, g.proved = recent[checkedVote]{limit: 1024}, recent[keys.Digest]{limit: 256}
			}
			if err := g.receiveMessage(1, messages[i%len(messages)]); err != nil {
				b.Fatal(err)
			}
			g.events = g.events[:0]
		}
	})
	b.Run("a certificate of votes that were checked", func(b *testing.B) {
		certificate := w.certificate(prepares(0, 1, 1), 1, 2, 3)
		for _, m := range certificate.Members() {
			v := w.vote(int(m), certificate.Statement)
			g.checked.add(voteKey(&v))
		}
		for b.Loop() {
			if !g.checkedVotes(&certificate) {
				b.Fatal("not known")
			}
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	w := newWorld(b, 4)
	w.start(0)
	n := w.nodes[0]
	const count = 512
	raws := make([][]byte, count)
	for i := range raws {
		raws[i] = w.tx(uint64(i), 60_000).Raw
	}
	for b.Loop() {
		left := count
		n.on(0, func() {
			for _, raw := range raws {
				n.group.enqueue(incoming{raw: raw, done: func(_ ledger.TxID, err error) {
					if left--; err != nil {
						b.Error(err)
					}
				}})
			}
			n.group.checkInbox()
		})
		w.run(10, func() bool { return left == 0 })
		b.StopTimer()
		n.crash()
		w.start(0)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*count), "µs/tx")
}
