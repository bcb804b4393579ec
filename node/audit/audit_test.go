package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// history is a chain of four members, made without a node: block 4 is the first of view 1, block 6 ends epoch 0, and
// member 3 makes way for member 4 then.
type history struct {
	suite   keys.Suite
	genesis ledger.Genesis
	chain   keys.Digest
	signers []keys.Signer // of five nodes
	epochs  []ledger.Epoch
	after   []ledger.Height // of the barrier blocks of epochs from 1 on
	blocks  []*ledger.Block
	hashes  []keys.Digest
	below   ledger.Frontier
	fs      *memfs.FS
	log     *Log
	opens   ledger.Height // the first block of view 1
}

const (
	viewBegins  = 4
	epochEnds   = 6
	tip         = 9
	segmentsDir = "statements"
)

func newHistory(tb testing.TB) *history { return newHistoryWith(tb, viewBegins) }

func newHistoryWith(tb testing.TB, opens ledger.Height) *history {
	tb.Helper()
	h := &history{suite: keystest.Suite(), fs: memfs.New(), opens: opens}
	rng := rand.NewChaCha8([32]byte{3})
	h.genesis = ledger.Genesis{Version: 1, Name: "audit", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: 1_000, Params: ledger.DefaultParams()}
	var all []ledger.Member
	for i := range 5 {
		signer := must(h.suite.Generate(h.suite.Vote(), rng))
		h.signers = append(h.signers, signer)
		all = append(all, ledger.Member{Node: identity.NodeIDOf(h.suite, signer.Public()), Institution: fmt.Sprintf("bank-%d", i), Key: ledger.KeyOf(signer.Public())})
	}
	h.genesis.Members = all[:4]
	h.chain = h.genesis.Hash(h.suite)
	next := *h.genesis.Epoch()
	next.Number, next.Members = 1, append(append([]ledger.Member{}, all[:3]...), all[4])
	h.epochs = []ledger.Epoch{*h.genesis.Epoch(), next}
	h.after = []ledger.Height{0, epochEnds}
	log, damage, err := OpenLog(h.logConfig())
	if err != nil || damage != nil {
		tb.Fatal(err, damage)
	}
	h.log = log
	for range tip + 1 {
		h.append()
	}
	if err := h.log.Flush(); err != nil {
		tb.Fatal(err)
	}
	return h
}

func (h *history) logConfig() LogConfig {
	return LogConfig{Suite: h.suite, Chain: h.chain, Group: "main", Node: identity.NodeID{7}, FS: h.fs, Dir: segmentsDir, Size: DefaultLogSize}
}

func (h *history) vote(epoch uint64, member uint32, st ledger.Statement) ledger.Vote {
	st.Epoch = epoch
	signer := h.signers[member]
	if epoch == 1 && member == 3 {
		signer = h.signers[4]
	}
	return ledger.Vote{Signer: member, Statement: st, Signature: must(signer.Sign(st.Digest(h.suite, h.chain, "main")))}
}

// quorum returns the votes of members 0, 1 and 3, and logs those of all.
func (h *history) quorum(epoch uint64, st ledger.Statement) []ledger.Vote {
	var votes []ledger.Vote
	for m := range uint32(4) {
		v := h.vote(epoch, m, st)
		if m != 2 {
			votes = append(votes, v)
		} else if st.Kind == ledger.Commit && st.Height == h.opens-1 {
			continue // it does not hear that the block is certified
		}
		h.log.Vote(5_000+int64(st.Height), ledger.Height(len(h.blocks)), v)
	}
	return votes
}

// append makes the next block.
func (h *history) append() {
	height := ledger.Height(len(h.blocks))
	epoch, view := uint64(0), uint64(0)
	if height > epochEnds {
		epoch = 1
	} else if height >= h.opens {
		view = 1
	}
	header := ledger.Header{Order: ledger.Order{
		Version: 1, Chain: h.chain, Group: "main", Epoch: epoch, Height: height, UnixMilli: 1_000 + int64(height), Proposer: uint32(view), TxCount: 1,
		Barrier: height == epochEnds,
	}, HistoryRoot: h.below.Root(h.suite)}
	b := &ledger.Block{Version: 1, Txs: [][]byte{bytes.Repeat([]byte{1}, 100)}}
	if height > 0 {
		header.Order.Parent = h.blocks[height-1].Header.Order.Hash(h.suite)
		header.Parent = h.hashes[height-1]
	}
	if height == epochEnds {
		header.NextEpoch = h.epochs[1].Hash(h.suite)
	}
	if height == h.opens {
		high := h.blocks[height-1].Certificate
		change := ledger.Statement{
			Kind: ledger.ViewChange, View: 1, Height: height - 1, Block: h.hashes[height-1], High: high.Statement.Rank(), Order: high.Statement.Order,
		}
		b.NewView = &ledger.NewView{View: 1, High: high}
		for m := range uint32(3) {
			st := change
			if m == 2 && height > 1 { // it has not heard of the last block
				st.High, st.Order = h.blocks[height-2].Certificate.Statement.Rank(), h.blocks[height-2].Certificate.Statement.Order
			}
			v := h.vote(0, m, st)
			h.log.Vote(5_000, height-1, v)
			b.NewView.Votes = append(b.NewView.Votes, v)
		}
		h.log.NewView(5_001, height-1, b.NewView)
		header.Order.NewView = b.NewView.Digest(h.suite)
	}
	b.Header = header
	order, hash := header.Order.Hash(h.suite), header.Hash(h.suite)
	if height > 0 {
		h.log.Vote(5_000, height-1, h.vote(epoch, uint32(view), ledger.Statement{Kind: ledger.Propose, View: view, Height: height, Order: order}))
		h.quorum(epoch, ledger.Statement{Kind: ledger.Prepare, View: view, Height: height, Order: order})
		b.Certificate = ledger.NewCertificate(h.quorum(epoch, ledger.Statement{Kind: ledger.Commit, View: view, Height: height, Order: order, Block: hash}))
	}
	h.below.Append(h.suite, hash)
	h.blocks, h.hashes = append(h.blocks, b), append(h.hashes, hash)
}

func (h *history) source() *Source {
	return &Source{
		Suite: h.suite, Chain: h.chain, Group: "main", Head: ledger.Height(len(h.blocks) - 1), FS: h.fs, Statements: segmentsDir,
		Block:     func(at ledger.Height) (*ledger.Block, error) { return h.blocks[at], nil },
		BlockHash: func(at ledger.Height) (keys.Digest, error) { return h.hashes[at], nil },
		Epoch: func(number uint64) (ledger.Epoch, ledger.Height, error) {
			return h.epochs[number], h.after[number], nil
		},
	}
}

func (h *history) export(tb testing.TB, from, to ledger.Height) []byte {
	tb.Helper()
	var out bytes.Buffer
	if err := Export(tb.Context(), &out, h.source(), from, to); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func (h *history) verify(tb testing.TB, data []byte) (*Verdict, error) {
	tb.Helper()
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return Verify(tb.Context(), open, Trust{Suite: h.suite, Genesis: &h.genesis, First: h.hashes[0]}, nil)
}

func TestVerify(t *testing.T) {
	h := newHistory(t)
	v, err := h.verify(t, h.export(t, 0, tip))
	if err != nil {
		t.Fatal(err)
	}
	if v.Height != tip || v.Block != h.hashes[tip] || v.Epoch != 1 || v.NewViews != 1 || len(v.Evidence) != 0 || len(v.Notes) != 0 {
		t.Errorf("verdict = %+v", v)
	}
	if want := tip*9 - 1 + 3; v.Statements != want || v.Unchecked != 0 || v.LogDigest.IsZero() {
		t.Errorf("%d statements, %d unchecked, log %s; want %d", v.Statements, v.Unchecked, v.LogDigest, want)
	}
	if want := tip*3 + 3 + 3 + 3 + 3; v.Signatures != want { // a new-view and its certificate, in the block and in the log
		t.Errorf("%d signatures, want %d", v.Signatures, want)
	}
	for from := range ledger.Height(tip + 1) {
		v, err := h.verify(t, h.export(t, from, tip))
		if err != nil || v.From != from || v.Block != h.hashes[tip] {
			t.Errorf("from block %d: %+v, %v", from, v, err)
		}
		if v, err := h.verify(t, h.export(t, 0, from)); err != nil || v.Height != from {
			t.Errorf("to block %d: %+v, %v", from, v, err)
		}
	}
	if err := Export(t.Context(), io.Discard, h.source(), 3, tip+1); !errors.Is(err, ErrRange) {
		t.Errorf("Export of blocks that are not there: %v", err)
	}
}

// TestVerifyEvidence has member 2 lie in every way, and expects each pair of statements to be found.
// A view that was entered before any block had a certificate is nothing to take note of.
func TestVerifyViewAtGenesis(t *testing.T) {
	h := newHistoryWith(t, 1)
	v, err := h.verify(t, h.export(t, 0, tip))
	if err != nil || v.NewViews != 1 || len(v.Notes) != 0 {
		t.Errorf("%v, %d new-views, notes %q", err, v.NewViews, v.Notes)
	}
}

func TestVerifyEvidence(t *testing.T) {
	h := newHistory(t)
	at := func(kind ledger.StatementKind, view uint64, height ledger.Height, order, block byte) ledger.Statement {
		st := ledger.Statement{Kind: kind, View: view, Height: height, Order: keys.Digest{order}}
		if block > 0 {
			st.Block = keys.Digest{block}
		}
		return st
	}
	other := ledger.Statement{Kind: ledger.Commit, View: 5, Height: 5, Order: h.blocks[5].Header.Order.Hash(h.suite), Block: keys.Digest{9}}
	for _, c := range []struct {
		name    string
		epoch   uint64
		votes   []ledger.Statement
		offence ledger.Offence
	}{
		{"a prepare against the chain's block", 0, []ledger.Statement{at(ledger.Prepare, 0, 2, 9, 0)}, ledger.Equivocation},
		{"a commit against the chain's block in epoch 1", 1, []ledger.Statement{at(ledger.Commit, 0, 8, 9, 9)}, ledger.Equivocation},
		{"another result of the chain's block", 0, []ledger.Statement{other}, ledger.Divergence},
		{"two prepares above the tip", 1, []ledger.Statement{at(ledger.Prepare, 3, 99, 1, 0), at(ledger.Prepare, 3, 99, 2, 0)}, ledger.Equivocation},
		{"a view change against that of the block", 0, []ledger.Statement{{Kind: ledger.ViewChange, View: 1}}, ledger.Equivocation},
		{"a view change that forgets the commits", 1, []ledger.Statement{{Kind: ledger.ViewChange, View: 7, High: ledger.Rank{View: 0, Height: 8}}}, ledger.Amnesia},
		{"statements that an honest member may sign", 1, []ledger.Statement{
			at(ledger.Prepare, 1, 8, 9, 0), {Kind: ledger.ViewChange, View: 7, High: ledger.Rank{View: 1, Height: 9}},
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			for _, st := range c.votes {
				h.log.Vote(6_000, tip, h.vote(c.epoch, 2, st))
			}
			if err := h.log.Flush(); err != nil {
				t.Fatal(err)
			}
			v, err := h.verify(t, h.export(t, 0, tip))
			if err != nil {
				t.Fatal(err)
			}
			if c.offence == 0 {
				if len(v.Evidence) != 0 {
					t.Fatalf("evidence %+v against an honest member", v.Evidence)
				}
				return
			}
			found := false
			for _, e := range v.Evidence {
				if err := e.Verify(h.suite, h.chain, "main", &h.epochs[c.epoch]); err != nil {
					t.Error(err)
				}
				place := must(e.Place())
				found = found || place.Offence == c.offence
				if place.Member != 2 || place.Epoch != c.epoch {
					t.Errorf("evidence of %+v", place)
				}
			}
			if !found {
				t.Errorf("%d pieces of evidence, none of %s", len(v.Evidence), c.offence)
			}
		})
	}
}

// item is where an item of a package begins and ends.
type item struct {
	kind     uint8 // 0: the end
	from, to int
}

func items(data []byte) (list []item) {
	for at := len(packageMark); at < len(data); {
		size := 5 + int(binary.BigEndian.Uint32(data[at+1:]))
		list = append(list, item{data[at], at, at + size})
		at += size
	}
	return list
}

// TestVerifyFindsEveryChange flips a bit in one byte after another of every part of a package: each is found, and in a
// block at its height. The digest at the end fits, as somebody would make it who means it.
func TestVerifyFindsEveryChange(t *testing.T) {
	h := newHistory(t)
	for _, from := range []ledger.Height{0, 8} {
		good := h.export(t, from, tip)
		height := from
		for n, it := range items(good) {
			step := max(1, (it.to-it.from)/9)
			for at := it.from; at < it.to; at += step {
				changed := bytes.Clone(good)
				changed[at] ^= 1 << (at % 8)
				if it.kind != 0 {
					changed = h.sealed(changed)
				}
				v, err := h.verify(t, changed)
				fault, ok := errors.AsType[*FaultError](err)
				if !ok {
					t.Fatalf("byte %d of item %d, kind %d: %v, %+v", at-it.from, n, it.kind, err, v)
				}
				if it.kind == itemBlock && fault.Height != height && fault.Height+1 != height {
					t.Errorf("byte %d of block %d: found at height %d: %v", at-it.from, height, fault.Height, err)
				}
			}
			if it.kind == itemBlock {
				height++
			}
		}
	}
}

// sealed corrects the digest at the end of a changed package, if its items can still be told apart.
func (h *history) sealed(data []byte) []byte {
	if !bytes.HasPrefix(data, []byte(packageMark)) {
		return data
	}
	var out bytes.Buffer
	w := bundle.NewWriter(&out, h.suite, packageMark)
	for at := len(packageMark); at+5 <= len(data); {
		kind, end := data[at], at+5+int(binary.BigEndian.Uint32(data[at+1:]))
		if end > len(data) {
			return data
		}
		if kind == 0 {
			if end != len(data) || w.Close() != nil {
				return data
			}
			return out.Bytes()
		}
		if w.Raw(kind, data[at+5:end]) != nil {
			return data
		}
		at = end
	}
	return data
}

// TestVerifyRefuses forges what has good signatures of too few, or of others.
func TestVerifyRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		height ledger.Height
		says   string
		forge  func(h *history)
	}{
		{"a certificate of two members", 5, "2 of 4 members signed", func(h *history) {
			st := h.blocks[5].Certificate.Statement
			h.blocks[5].Certificate = ledger.NewCertificate([]ledger.Vote{h.vote(0, 0, st), h.vote(0, 1, st)})
		}},
		{"a certificate of one member twice", 5, "signers and", func(h *history) {
			c := &h.blocks[5].Certificate
			c.Signers, c.Signatures = []byte{0b011}, [][]byte{c.Signatures[0], c.Signatures[0], c.Signatures[1]}
		}},
		{"a certificate by the members of the epoch before", 8, "member 3", func(h *history) {
			st := h.blocks[8].Certificate.Statement
			v := ledger.Vote{Signer: 3, Statement: st, Signature: must(h.signers[3].Sign(st.Digest(h.suite, h.chain, "main")))}
			h.blocks[8].Certificate = ledger.NewCertificate([]ledger.Vote{h.vote(1, 0, st), h.vote(1, 1, st), v})
		}},
		{"prepare votes for a block", 5, "make no block final", func(h *history) {
			st := h.blocks[5].Certificate.Statement
			st.Kind = ledger.Prepare
			h.blocks[5].Certificate = ledger.NewCertificate([]ledger.Vote{h.vote(0, 0, st), h.vote(0, 1, st), h.vote(0, 2, st)})
		}},
		{"an epoch of other members", 6, "is not the one that block 6 begins", func(h *history) { h.epochs[1].Members[3] = h.epochs[1].Members[2] }},
		{"no epoch behind its barrier", 6, "", func(h *history) { h.epochs[1].Number = 2 }},
		{"a new-view of two members", 4, "2 of 4 members changed", func(h *history) { h.reopen(func(n *ledger.NewView) { n.Votes = n.Votes[:2] }) }},
		{"a new-view with a member twice", 4, "comes twice", func(h *history) { h.reopen(func(n *ledger.NewView) { n.Votes[2] = n.Votes[1] }) }},
		{"a new-view that is not built on the highest claim", 4, "the highest claimed is of view 0 height 3", func(h *history) {
			h.reopen(func(n *ledger.NewView) { n.High = h.blocks[2].Certificate })
		}},
		{"a new-view without the certificate that is claimed", 4, "it has no certificate", func(h *history) {
			h.reopen(func(n *ledger.NewView) { n.High = ledger.Certificate{} })
		}},
		{"a new-view whose certificate two members signed", 4, "2 of 4 members signed", func(h *history) {
			h.reopen(func(n *ledger.NewView) {
				st := n.High.Statement
				n.High = ledger.NewCertificate([]ledger.Vote{h.vote(0, 0, st), h.vote(0, 1, st)})
			})
		}},
		{"a new-view with a forged signature", 4, "signature of member 1", func(h *history) {
			h.reopen(func(n *ledger.NewView) {
				n.Votes[1].Signature = bytes.Clone(n.Votes[1].Signature)
				n.Votes[1].Signature[3] ^= 1
			})
		}},
		{"a block by a member that does not lead the view", 4, "who does not lead view 1", func(h *history) {
			h.blocks[4].Header.Order.Proposer = 2
			h.certify(4)
		}},
		{"a block that a later one does not follow", 5, "does not follow block 4", func(h *history) {
			h.blocks[4].Header.GasUsed++
			h.certify(4)
		}},
		{"a block on another history", 5, "history root", func(h *history) {
			h.blocks[5].Header.HistoryRoot[0] ^= 1
			h.certify(5)
		}},
		{"a block that is not later than its parent", 5, "its time", func(h *history) {
			h.blocks[5].Header.Order.UnixMilli = h.blocks[4].Header.Order.UnixMilli
			h.certify(5)
		}},
		{"another first block", 0, "not the block that the genesis gives", func(h *history) { h.blocks[0].Header.GasUsed++ }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			c.forge(h)
			_, err := h.verify(t, h.export(t, 0, tip))
			fault, ok := errors.AsType[*FaultError](err)
			if !ok || fault.Height != c.height || !strings.Contains(fault.What, c.says) {
				t.Errorf("Verify = %v, want a fault at block %d that says %q", err, c.height, c.says)
			}
		})
	}
	t.Run("a package that breaks off between two items", func(t *testing.T) {
		h := newHistory(t)
		good := h.export(t, 0, tip)
		for _, it := range items(good) {
			if v, err := h.verify(t, good[:it.from]); err == nil {
				t.Errorf("cut before byte %d: it holds up to %d", it.from, v.Height)
			}
		}
		if _, err := h.verify(t, append(good, 0)); err == nil {
			t.Error("a byte behind the end is not found")
		}
	})
	t.Run("the package of another chain", func(t *testing.T) {
		h := newHistory(t)
		data := h.export(t, 0, tip)
		h.genesis.Name = "another"
		if _, err := h.verify(t, data); err == nil || !strings.Contains(err.Error(), "the genesis gives chain") {
			t.Errorf("Verify = %v", err)
		}
	})
}

// reopen changes the new-view of view 1 and signs its block again.
func (h *history) reopen(change func(n *ledger.NewView)) {
	b := h.blocks[viewBegins]
	n := *b.NewView
	n.Votes = append([]ledger.Vote{}, n.Votes...)
	change(&n)
	b.NewView, b.Header.Order.NewView = &n, n.Digest(h.suite)
	h.certify(viewBegins)
}

// certify has the members sign a changed block.
func (h *history) certify(height ledger.Height) {
	b := h.blocks[height]
	st := b.Certificate.Statement
	st.Order, st.Block = b.Header.Order.Hash(h.suite), b.Header.Hash(h.suite)
	h.hashes[height] = st.Block
	b.Certificate = ledger.NewCertificate([]ledger.Vote{h.vote(st.Epoch, 0, st), h.vote(st.Epoch, 1, st), h.vote(st.Epoch, 3, st)})
}

func FuzzVerify(f *testing.F) {
	h := newHistory(f)
	good := h.export(f, 0, tip)
	f.Add(good)
	f.Add(h.export(f, 8, 9))
	f.Add(good[:len(good)/2])
	f.Add([]byte(packageMark))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := h.verify(t, data)
		if err == nil && (v.Block != h.hashes[v.Height] || v.Height > tip) {
			t.Errorf("a package proves block %s at height %d", v.Block, v.Height)
		}
		if _, ok := errors.AsType[*FaultError](err); err != nil && !ok {
			t.Errorf("%v is no fault", err)
		}
	})
}
