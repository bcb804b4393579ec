package ledger

import (
	"bytes"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// fuzzDecoder checks that a decoder never panics and accepts only what Marshal writes.
func fuzzDecoder[T any](f *testing.F, seeds ...any) {
	f.Helper()
	for _, seed := range seeds {
		raw, err := Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var v T
		if Unmarshal(raw, &v) != nil {
			return
		}
		again, err := Marshal(&v)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is accepted and written as %x, %v", raw, again, err)
		}
	})
}

func FuzzDecodeTx(f *testing.F) {
	x := newFixture(f)
	for _, tx := range x.txs {
		f.Add(tx.Raw)
	}
	for _, e := range hostile(f, x.txs[0].Raw) {
		f.Add(e.raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		tx, err := DecodeTx(x.suite, raw)
		var strict Tx
		if slow := Unmarshal(raw, &strict); (slow == nil && strict.check() == nil) != (err == nil) {
			t.Fatalf("%x: DecodeTx says %v, Unmarshal %v", raw, err, slow)
		}
		if err != nil {
			return
		}
		again, err := Marshal(&tx.Tx)
		if err != nil || !bytes.Equal(again, raw) || !bytes.Equal(tx.Raw, raw) {
			t.Errorf("%x is accepted and written as %x, %v", raw, again, err)
		}
		if tx.ID != tx.Tx.ID(x.suite) || tx.Leaf != keys.Hash(x.suite, "signed-tx", raw) {
			t.Errorf("%x: wrong id or leaf", raw)
		}
		if tx.CheckSignatures(x.suite) == nil != CheckBatch(x.suite, []*SignedTx{tx})[0] {
			t.Errorf("%x: signatures have one verdict alone and another in a batch", raw)
		}
	})
}

func FuzzDecodeBlock(f *testing.F) {
	x := newFixture(f)
	withView := *x.block
	withView.NewView = &NewView{View: 2, Votes: []Vote{{Signer: 1, Signature: make([]byte, 64)}}, High: x.block.Certificate}
	for _, b := range []*Block{x.block, &withView, {}} {
		raw, err := Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBlock(raw)
		if err != nil {
			return
		}
		again, err := Marshal(b)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is accepted and written as %x, %v", raw, again, err)
		}
		b.Decode(x.suite)
		b.Certificate.Finalizes(x.suite, &b.Header, Commit, nil)
	})
}

func FuzzDecodeEvidence(f *testing.F) {
	x := newFixture(f)
	commit := Statement{Kind: Commit, View: 1, Height: 3, Order: keys.Digest{4}, Block: keys.Digest{5}}
	f.Add([]byte(encoded(f, x.evidence(f, 1, commit, Statement{Kind: ViewChange, View: 2}))))
	f.Add([]byte(encoded(f, &Evidence{Version: Version})))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := DecodeEvidence(raw)
		if err != nil {
			return
		}
		place, malformed := e.Place()
		if err := e.Verify(x.suite, x.chain, "main", x.genesis.Epoch()); err == nil && (malformed != nil || int(place.Member) >= len(x.genesis.Members)) {
			t.Errorf("%x is good evidence of nobody", raw)
		}
		if again, err := NewEvidence(e.B, e.A); malformed == nil && (err != nil || again.Digest(x.suite) != e.Digest(x.suite)) {
			t.Errorf("%x: good in one order, and in the other %v", raw, err)
		}
	})
}

func FuzzUnmarshalCertificate(f *testing.F) {
	x := newFixture(f)
	members, err := x.genesis.Epoch().PublicKeys(x.suite)
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range []Certificate{x.block.Certificate, x.certify(f, Attest, 0, 1, 2, 3), {}} {
		raw, err := Marshal(&c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c Certificate
		if Unmarshal(raw, &c) != nil {
			return
		}
		again, err := Marshal(&c)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is accepted and written as %x, %v", raw, again, err)
		}
		if c.Count() != len(c.Members()) {
			t.Errorf("%x: Count() = %d of members %v", raw, c.Count(), c.Members())
		}
		c.Verify(x.suite, x.chain, "main", members)
	})
}

func FuzzDecodeClaim(f *testing.F) {
	x := newFixture(f)
	for _, c := range x.claims(f) {
		raw, err := Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := DecodeClaim(raw)
		if err != nil {
			return
		}
		again, err := Marshal(c)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is accepted and written as %x, %v", raw, again, err)
		}
		err = c.Verify(x.suite, x.chain, "main", Commit, x.genesis.Epoch())
		if under := c.VerifyUnder(x.suite, c.Certified().Hash(x.suite)); err == nil && under != nil {
			t.Errorf("%x: it holds, and not for who trusts its block: %v", raw, under)
		}
		if err == nil && !x.isTrue(t, c) {
			t.Errorf("%x: a claim holds that is false, or about a block that nobody signed", raw)
		}
	})
}

// FuzzStateProof looks for a proof of something that is not so.
func FuzzStateProof(f *testing.F) {
	x := newFixture(f)
	tree := newStateTree(x.suite, x.world)
	root := tree.root(x.suite, 0)
	for key, value := range x.world {
		present, absent := tree.prove(x.suite, []byte(key), true), tree.prove(x.suite, []byte(key+"?"), false)
		for _, p := range []*StateProof{&present, &absent} {
			raw, err := Marshal(p)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw, []byte(key), []byte(value))
			f.Add(raw, []byte(key+"?"), []byte{})
		}
	}
	f.Fuzz(func(t *testing.T, raw, key, value []byte) {
		var p StateProof
		if Unmarshal(raw, &p) != nil {
			return
		}
		again, err := Marshal(&p)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is accepted and written as %x, %v", raw, again, err)
		}
		held, present := x.world[string(key)]
		if p.Verify(x.suite, root, key, value, true) == nil && (!present || held != string(value)) {
			t.Errorf("%x shows that key %q has value %x", raw, key, value)
		}
		if p.Verify(x.suite, root, key, nil, false) == nil && present {
			t.Errorf("%x shows that key %q is absent", raw, key)
		}
	})
}

func FuzzProof(f *testing.F) {
	s := keystest.Suite()
	leaves := numbered(s, 21)
	root := Root(s, leaves)
	for i := range leaves {
		proof, err := Prove(s, leaves, uint64(i))
		if err != nil {
			f.Fatal(err)
		}
		raw, err := Marshal(&proof)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, leaves[i][:])
	}
	f.Fuzz(func(t *testing.T, raw, leaf []byte) {
		var p Proof
		if Unmarshal(raw, &p) != nil {
			return
		}
		again, err := Marshal(&p)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is accepted and written as %x, %v", raw, again, err)
		}
		if p.Verify(s, root, leaf) == nil && p.Size == uint64(len(leaves)) && !bytes.Equal(leaves[p.Index][:], leaf) {
			t.Errorf("%x shows leaf %x at %d", raw, leaf, p.Index)
		}
	})
}

func FuzzUnmarshalReceipt(f *testing.F) {
	x := newFixture(f)
	fuzzDecoder[Receipt](f, &x.receipts[0], &x.receipts[1], &x.receipts[2])
}

func FuzzUnmarshalGenesis(f *testing.F) { fuzzDecoder[Genesis](f, newFixture(f).genesis) }

// FuzzUnmarshalValue decodes values of no fixed type, such as arguments of calls.
func FuzzUnmarshalValue(f *testing.F) {
	fuzzDecoder[any](f, []any{"text", uint64(1), int64(-1), []byte("bytes"), true, nil, map[string]any{"a": uint64(1)}})
}
