package blocksync

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// counting is a source of key material that never repeats a byte run.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		d := sha256.Sum256([]byte{c.n})
		p[i] = d[0]
	}
	return len(p), nil
}

// bench is a chain of four members with a parent block at height 7.
type bench struct {
	Chain
	signers []keys.Signer
	parent  ledger.Header
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{Chain: Chain{Suite: keystest.Suite(), ID: keys.Digest{1}, Group: "main", Epoch: 3}}
	random := &counting{}
	for range 4 {
		s, err := b.Suite.Generate(keystest.Suite().Vote(), random)
		if err != nil {
			t.Fatal(err)
		}
		b.signers = append(b.signers, s)
		b.Members = append(b.Members, s.Public())
	}
	b.parent.Order = ledger.Order{Version: 1, Chain: b.ID, Group: "main", Epoch: 3, Height: 7, UnixMilli: 1_000}
	return b
}

// sign makes votes of members on a statement.
func (b *bench) sign(t testing.TB, st ledger.Statement, members ...uint32) (votes []ledger.Vote) {
	t.Helper()
	for _, m := range members {
		signature, err := b.signers[m].Sign(st.Digest(b.Suite, b.ID, b.Group))
		if err != nil {
			t.Fatal(err)
		}
		votes = append(votes, ledger.Vote{Signer: m, Statement: st, Signature: signature})
	}
	return votes
}

// block returns a valid block after the parent; change may spoil it before it is certified.
func (b *bench) block(t testing.TB, change func(*ledger.Block)) *ledger.Block {
	t.Helper()
	tx, err := ledger.Tx{
		Version: 1, Chain: b.ID, Group: "main", Sender: ledger.Address{1}, Expiry: 5_000, GasLimit: 1,
		To: ledger.Target{Address: ledger.Address{2}}, Method: "m", Args: []byte{0x80},
	}.Sign(b.Suite, b.signers[0])
	if err != nil {
		t.Fatal(err)
	}
	block := &ledger.Block{Version: 1, Txs: [][]byte{tx.Raw}}
	block.Header.Order = ledger.Order{
		Version: 1, Chain: b.ID, Group: "main", Epoch: 3, Height: 8, Parent: b.parent.Order.Hash(b.Suite), UnixMilli: 1_001,
		TxRoot: ledger.Root(b.Suite, []keys.Digest{tx.Leaf}), TxCount: 1, TxBytes: uint64(len(tx.Raw)), GasLimit: 1,
	}
	block.Header.Parent = b.parent.Hash(b.Suite)
	if change != nil {
		change(block)
	}
	b.certify(t, block, 0, 2, 3)
	return block
}

func (b *bench) certify(t testing.TB, block *ledger.Block, members ...uint32) {
	o := &block.Header.Order
	st := ledger.Statement{Kind: ledger.Commit, Epoch: o.Epoch, View: 4, Height: o.Height, Order: o.Hash(b.Suite), Block: block.Header.Hash(b.Suite)}
	block.Certificate = ledger.NewCertificate(b.sign(t, st, members...))
}

func (b *bench) newView(t testing.TB, change func(*ledger.Statement), members ...uint32) *ledger.NewView {
	st := ledger.Statement{Kind: ledger.ViewChange, Epoch: 3, View: 4}
	if change != nil {
		change(&st)
	}
	return &ledger.NewView{Epoch: 3, View: 4, Votes: b.sign(t, st, members...)}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := ledger.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestCheck(t *testing.T) {
	b := newBench(t)
	withNewView := func(n *ledger.NewView) func(*ledger.Block) {
		return func(block *ledger.Block) {
			block.NewView = n
			block.Header.Order.NewView = n.Digest(b.Suite)
		}
	}
	t.Run("a good block", func(t *testing.T) {
		block, txs, err := b.Check(&b.parent, encode(t, b.block(t, nil)))
		if err != nil || block.Header.Order.Height != 8 || len(txs) != 1 {
			t.Errorf("Check = %v, %d transactions, %v", block, len(txs), err)
		}
	})
	t.Run("a good first block of a view", func(t *testing.T) {
		if _, _, err := b.Check(&b.parent, encode(t, b.block(t, withNewView(b.newView(t, nil, 0, 1, 2))))); err != nil {
			t.Errorf("Check = %v", err)
		}
	})

	order := func(change func(*ledger.Order)) func() *ledger.Block {
		return func() *ledger.Block { return b.block(t, func(block *ledger.Block) { change(&block.Header.Order) }) }
	}
	after := func(change func(*ledger.Block)) func() *ledger.Block {
		return func() *ledger.Block {
			block := b.block(t, nil)
			change(block)
			return block
		}
	}
	for _, c := range []struct {
		name string
		make func() *ledger.Block
		says string
	}{
		{"version of the block", after(func(b *ledger.Block) { b.Version = 2 }), "version 2"},
		{"version of the header", order(func(o *ledger.Order) { o.Version = 2 }), "version 2"},
		{"another chain", order(func(o *ledger.Order) { o.Chain = keys.Digest{2} }), "of chain"},
		{"another group", order(func(o *ledger.Order) { o.Group = "other" }), "group"},
		{"another epoch", order(func(o *ledger.Order) { o.Epoch = 2 }), "epoch 2"},
		{"the parent's height", order(func(o *ledger.Order) { o.Height = 7 }), "height 7 after 7"},
		{"a height left out", order(func(o *ledger.Order) { o.Height = 9 }), "height 9 after 7"},
		{"another parent order", order(func(o *ledger.Order) { o.Parent = keys.Digest{1} }), "does not follow"},
		{"another parent block", func() *ledger.Block {
			return b.block(t, func(b *ledger.Block) { b.Header.Parent = keys.Digest{1} })
		}, "does not follow"},
		{"the parent's time", order(func(o *ledger.Order) { o.UnixMilli = 1_000 }), "not after its parent's"},
		{"too many bytes for the engine", order(func(o *ledger.Order) { o.Extra = make([]byte, ledger.MaxOrderExtra+1) }), "for the engine"},
		{"no certificate", after(func(b *ledger.Block) { b.Certificate = ledger.Certificate{} }), "certificate"},
		{"two of four signed", after(func(block *ledger.Block) { b.certify(t, block, 0, 1) }), "2 of 4 members signed"},
		{"a signature is another member's", after(func(b *ledger.Block) { b.Certificate.Signers[0] = 0b1011 }), "member"},
		{"a signer twice", after(func(b *ledger.Block) {
			b.Certificate.Signatures[1] = b.Certificate.Signatures[0]
		}), "member"},
		{"the certificate of a prepare", after(func(block *ledger.Block) {
			st := block.Certificate.Statement
			st.Kind, st.Block = ledger.Prepare, keys.Digest{}
			block.Certificate = ledger.NewCertificate(b.sign(t, st, 0, 1, 2))
		}), "make no block final in this group"},
		{"the certificate of another epoch", after(func(block *ledger.Block) {
			st := block.Certificate.Statement
			st.Epoch = 2
			block.Certificate = ledger.NewCertificate(b.sign(t, st, 0, 1, 2))
		}), "epoch 2"},
		{"a header changed after it was certified", after(func(b *ledger.Block) { b.Header.GasUsed++ }), "another block"},
		{"a transaction more than certified", after(func(b *ledger.Block) { b.Txs = append(b.Txs, b.Txs[0]) }), "2 transactions"},
		{"another transaction than certified", func() *ledger.Block {
			other := b.block(t, nil)
			var tx ledger.Tx
			if err := ledger.Unmarshal(other.Txs[0], &tx); err != nil {
				t.Fatal(err)
			}
			tx.GasLimit = 9
			tx.Signatures = nil
			signed, err := tx.Sign(b.Suite, b.signers[1])
			if err != nil {
				t.Fatal(err)
			}
			other.Txs[0] = signed.Raw
			return other
		}, "not those of its header"},
		{"no transaction but garbage", after(func(b *ledger.Block) { b.Txs[0] = []byte("garbage") }), "transaction 0"},

		{"its new-view left out", func() *ledger.Block {
			block := b.block(t, withNewView(b.newView(t, nil, 0, 1, 2)))
			block.NewView = nil
			return block
		}, "lacks the new-view"},
		{"a new-view that it does not name", after(func(block *ledger.Block) { block.NewView = b.newView(t, nil, 0, 1, 2) }), "lacks the new-view"},
		{"a new-view of two", func() *ledger.Block { return b.block(t, withNewView(b.newView(t, nil, 0, 1))) }, "new-view of 2 votes"},
		{"a new-view with a vote twice", func() *ledger.Block { return b.block(t, withNewView(b.newView(t, nil, 0, 1, 1))) }, "vote of member 1"},
		{"a new-view of another view", func() *ledger.Block {
			return b.block(t, withNewView(b.newView(t, func(st *ledger.Statement) { st.View = 5 }, 0, 1, 2)))
		}, "vote of member 0"},
		{"a new-view of another epoch", func() *ledger.Block {
			return b.block(t, withNewView(b.newView(t, func(st *ledger.Statement) { st.Epoch = 2 }, 0, 1, 2)))
		}, "vote of member 0"},
		{"a new-view with a forged vote", func() *ledger.Block {
			n := b.newView(t, nil, 0, 1, 2)
			n.Votes[1].Signature = n.Votes[2].Signature
			return b.block(t, withNewView(n))
		}, "vote of member 1"},
		{"a new-view of a member that is none", func() *ledger.Block {
			n := b.newView(t, nil, 0, 1, 2)
			n.Votes[2].Signer = 1 << 31
			return b.block(t, withNewView(n))
		}, "vote of member 2147483648"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := b.Check(&b.parent, encode(t, c.make()))
			if !errors.Is(err, ErrBlock) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("Check = %v, want ErrBlock that says %q", err, c.says)
			}
		})
	}
	t.Run("a recovery", func(t *testing.T) {
		block := b.block(t, nil)
		block.Certificate = ledger.NewCertificate(b.sign(t, ledger.RecoverStatement(b.Suite, &block.Header), 0, 1))
		if _, _, err := b.Check(&b.parent, encode(t, block)); !errors.Is(err, ledger.ErrRecovery) {
			t.Errorf("of survivors: %v, want ErrRecovery", err)
		}
		block.Certificate.Signatures[1] = block.Certificate.Signatures[0]
		if _, _, err := b.Check(&b.parent, encode(t, block)); errors.Is(err, ledger.ErrRecovery) || !errors.Is(err, ledger.ErrCertificate) {
			t.Errorf("forged: %v, want ErrCertificate", err)
		}
	})
	t.Run("a byte more", func(t *testing.T) {
		if _, _, err := b.Check(&b.parent, append(encode(t, b.block(t, nil)), 0)); !errors.Is(err, ErrBlock) {
			t.Errorf("Check = %v, want ErrBlock", err)
		}
	})
}

func TestServe(t *testing.T) {
	raw := func(h ledger.Height) ([]byte, error) { return make([]byte, 1_000_000), nil }
	small := func(h ledger.Height) ([]byte, error) { return []byte{byte(h)}, nil }
	huge := func(h ledger.Height) ([]byte, error) { return make([]byte, 2*MaxReply), nil }
	for _, c := range []struct {
		name     string
		from, to ledger.Height
		bytes    uint32
		raw      func(ledger.Height) ([]byte, error)
		want     int // blocks; -1: an error
	}{
		{"what is asked", 3, 5, MaxReply, small, 3},
		{"not above the head", 999, 1 << 62, MaxReply, small, 2},
		{"nothing yet", 1_001, 2_000, MaxReply, small, 0},
		{"not more than MaxBlocks", 1, 1_000, MaxReply, small, MaxBlocks},
		{"not more than MaxReply", 1, 1_000, MaxReply, raw, 4},
		{"not more than the bytes asked for", 1, 1_000, 2_500_000, raw, 2},
		{"of more bytes than MaxReply no more either", 1, 1_000, 1 << 31, raw, 4},
		{"one, however few bytes", 1, 1_000, 0, raw, 1},
		{"one, however large", 1, 1_000, MaxReply, huge, 1},
		{"genesis is asked of nobody", 0, 5, MaxReply, small, -1},
		{"backwards", 5, 3, MaxReply, small, -1},
		{"a block that cannot be read", 1, 2, MaxReply, func(ledger.Height) ([]byte, error) { return nil, errors.New("damaged") }, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := Serve(encode(t, &Request{From: c.from, To: c.to, Bytes: c.bytes}), 0, 1_000, c.raw)
			if (err != nil) != (c.want < 0) {
				t.Fatalf("Serve = %v", err)
			}
			var r Reply
			if err == nil {
				if err := ledger.Unmarshal(data, &r); err != nil {
					t.Fatal(err)
				}
				if len(r.Blocks) != c.want {
					t.Errorf("%d blocks, want %d", len(r.Blocks), c.want)
				}
			}
		})
	}
	if _, err := Serve([]byte("garbage"), 0, 1_000, small); err == nil {
		t.Error("Serve takes garbage")
	}
	t.Run("blocks that were pruned", func(t *testing.T) {
		for from, want := range map[ledger.Height]int{499: 0, 500: 3} {
			data, err := Serve(encode(t, &Request{From: from, To: from + 2, Bytes: MaxReply}), 500, 1_000, small)
			if err != nil {
				t.Fatal(err)
			}
			var r Reply
			if err := ledger.Unmarshal(data, &r); err != nil || len(r.Blocks) != want || r.First != 500 || r.Head != 1_000 {
				t.Errorf("from %d: %d blocks, the first that it has is %d, %v", from, len(r.Blocks), r.First, err)
			}
		}
	})
}

func FuzzCheck(f *testing.F) {
	b := newBench(f)
	f.Add(encode(f, b.block(f, nil)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if block, _, err := b.Check(&b.parent, raw); err == nil && block.Header.Order.Height != 8 {
			t.Error("a block of another height was accepted")
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	bench := newBench(b)
	raw := encode(b, bench.block(b, nil))
	for b.Loop() {
		if _, _, err := bench.Check(&bench.parent, raw); err != nil {
			b.Fatal(err)
		}
	}
}

// TestParts fetches a block of several parts, and asks for the end of one again and again. It is read once in the one case, and counts
// in full each time in the other.
func TestParts(t *testing.T) {
	block := bytes.Repeat([]byte("0123456789"), MaxPart/3) // three parts and a bit
	reads := 0
	parts := Parts{Payload: func(ledger.Height, ledger.Height) ([]byte, error) {
		reads++
		return block, nil
	}}
	ask := func(r PartRequest) (reply PartReply, read int) {
		t.Helper()
		request, err := ledger.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		answer, read, err := parts.Serve(request)
		if err == nil {
			err = ledger.Unmarshal(answer, &reply)
		}
		if err != nil {
			t.Fatal(err)
		}
		return reply, read
	}
	var have []byte
	total := 0
	for len(have) < len(block) {
		reply, read := ask(PartRequest{Height: 7, Offset: uint64(len(have))})
		if reply.Size != uint64(len(block)) || len(reply.Part) != min(MaxPart, len(block)-len(have)) {
			t.Fatalf("at %d: %d bytes of %d", len(have), len(reply.Part), reply.Size)
		}
		have, total = append(have, reply.Part...), total+read
	}
	if !bytes.Equal(have, block) || reads != 1 || total != len(block) {
		t.Errorf("it was read %d times, and counts for %d bytes of %d", reads, total, len(block))
	}
	for range 3 {
		if _, read := ask(PartRequest{Height: 7, Offset: uint64(len(block) - 1)}); read != len(block) {
			t.Errorf("the end of a block of %d bytes counts for %d", len(block), read)
		}
	}
	block = block[:10]
	if _, read := ask(PartRequest{Height: 8, Pruned: true}); read != MaxPart {
		t.Errorf("a pruned block counts for %d bytes", read)
	}
}
