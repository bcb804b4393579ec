package ledger

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"flag"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// numbered returns n leaves.
func numbered(s keys.Suite, n int) []keys.Digest {
	leaves := make([]keys.Digest, n)
	for i := range leaves {
		leaves[i] = s.Sum([]byte{byte(i), byte(i >> 8)})
	}
	return leaves
}

func TestTree(t *testing.T) {
	s := keystest.Suite()
	const most = 130
	leaves := numbered(s, most)
	t.Run("a frontier has the root of the tree at every size", func(t *testing.T) {
		var f Frontier
		for n := range most {
			if got, want := f.Root(s), Root(s, leaves[:n]); got != want {
				t.Fatalf("frontier of %d: root %s, want %s", n, got, want)
			}
			if len(f.Peaks) != bits.OnesCount(uint(n)) || f.Check() != nil {
				t.Fatalf("frontier of %d: %d peaks, %v", n, len(f.Peaks), f.Check())
			}
			before := f
			f.Append(s, leaves[n])
			if got, want := before.Root(s), Root(s, leaves[:n]); got != want {
				t.Fatalf("appending to a copy changed the frontier of %d", n)
			}
		}
		f.Peaks = f.Peaks[1:]
		if !errors.Is(f.Check(), ErrProof) {
			t.Error("a frontier that lacks a peak passes Check")
		}
	})
	t.Run("the root is that of the recursive definition of RFC 6962", func(t *testing.T) {
		var root func(leaves []keys.Digest) keys.Digest
		root = func(leaves []keys.Digest) keys.Digest {
			if len(leaves) == 1 {
				return s.Sum([]byte{0}, leaves[0][:])
			}
			k := 1
			for k*2 < len(leaves) {
				k *= 2
			}
			left, right := root(leaves[:k]), root(leaves[k:])
			return s.Sum([]byte{1}, left[:], right[:])
		}
		if got, want := Root(s, nil), s.Sum(); got != want {
			t.Errorf("root of nothing = %s, want %s", got, want)
		}
		for n := 1; n <= most; n++ {
			if got, want := Root(s, leaves[:n]), root(leaves[:n]); got != want {
				t.Fatalf("root of %d = %s, want %s", n, got, want)
			}
		}
	})
	t.Run("every leaf of every size has a proof, and for that place only", func(t *testing.T) {
		for n := 1; n <= most; n += 1 + n/20 {
			root := Root(s, leaves[:n])
			for i := range n {
				proof, err := Prove(s, leaves[:n], uint64(i))
				if err != nil {
					t.Fatal(err)
				}
				if err := proof.Verify(s, root, leaves[i][:]); err != nil {
					t.Fatalf("leaf %d of %d: %v", i, n, err)
				}
				if proof.Verify(s, root, leaves[(i+1)%most][:]) == nil {
					t.Fatalf("leaf %d of %d: the proof holds for another leaf", i, n)
				}
				for _, index := range []uint64{0, uint64(i) + 1, uint64(n) - 1, uint64(i) ^ 1, 1 << 63} {
					moved := proof
					moved.Index = index
					if index != uint64(i) && moved.Verify(s, root, leaves[i][:]) == nil {
						t.Fatalf("leaf %d of %d: the proof holds at %d", i, n, index)
					}
				}
				longer, shorter := proof, proof
				longer.Path = append(slices.Clone(proof.Path), keys.Digest{})
				if longer.Verify(s, root, leaves[i][:]) == nil {
					t.Fatalf("leaf %d of %d: a longer path holds", i, n)
				}
				if n > 1 {
					shorter.Path = proof.Path[:len(proof.Path)-1]
					if shorter.Verify(s, root, leaves[i][:]) == nil {
						t.Fatalf("leaf %d of %d: a shorter path holds", i, n)
					}
				}
			}
		}
	})
	t.Run("a flipped bit anywhere in a path fails", func(t *testing.T) {
		root := Root(s, leaves[:100])
		proof, err := Prove(s, leaves[:100], 77)
		if err != nil {
			t.Fatal(err)
		}
		for i := range proof.Path {
			for bit := range 256 {
				proof.Path[i][bit/8] ^= 1 << (bit % 8)
				if !errors.Is(proof.Verify(s, root, leaves[77][:]), ErrProof) {
					t.Fatalf("bit %d of digest %d flipped: the proof still holds", bit, i)
				}
				proof.Path[i][bit/8] ^= 1 << (bit % 8)
			}
		}
	})
	t.Run("no proof for a leaf that is not there", func(t *testing.T) {
		for _, n := range []int{0, 1, 5} {
			if _, err := Prove(s, leaves[:n], uint64(n)); err == nil {
				t.Errorf("leaf %d of %d is proved", n, n)
			}
		}
		if err := (Proof{}).Verify(s, s.Sum(), nil); !errors.Is(err, ErrProof) {
			t.Errorf("zero proof: %v", err)
		}
	})
}

// refusal is an encoding that no decoder may accept.
type refusal struct {
	why string
	raw []byte
}

// hostile returns changes of a good transaction's encoding.
func hostile(t testing.TB, good []byte) []refusal {
	t.Helper()
	var parts []RawMessage
	if err := Unmarshal(good, &parts); err != nil {
		t.Fatal(err)
	}
	join := func(head string, parts []RawMessage) []byte {
		raw := []byte(head)
		for _, p := range parts {
			raw = append(raw, p...)
		}
		return raw
	}
	with := func(why string, element int, replacement string) refusal {
		changed := slices.Clone(parts)
		changed[element] = RawMessage(replacement)
		return refusal{why, join("\x8b", changed)}
	}
	const version, chain, group, sender, nonce, expiry, gas, target, method, args, signatures = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
	digest := string(parts[chain][2:])
	list := []refusal{
		{"nothing", nil},
		{"trailing byte", append(slices.Clone(good), 0)},
		{"twice", append(slices.Clone(good), good...)},
		{"last byte missing", good[:len(good)-1]},
		{"head only", []byte{0x8b}},
		{"array of 10", join("\x8a", parts[:10])},
		{"array of 12", join("\x8c", append(slices.Clone(parts), RawMessage{0}))},
		{"array with a long head", join("\x98\x0b", parts)},
		{"array of indefinite length", append(join("\x9f", parts), 0xff)},
		{"array that claims 2^64-1 elements", join("\x9b\xff\xff\xff\xff\xff\xff\xff\xff", parts)},
		{"array that claims 2^32-1 elements", join("\x9a\xff\xff\xff\xff", parts)},
		{"tagged", append([]byte{0xd9, 0xd9, 0xf7}, good...)},
		{"map", []byte{0xa0}},
		{"null", []byte{0xf6}},
		with("version 2", version, "\x02"),
		with("version with a long head", version, "\x18\x01"),
		with("version null", version, "\xf6"),
		with("version undefined", version, "\xf7"),
		with("version negative", version, "\x20"),
		with("version a float", version, "\xf9\x3c\x00"),
		with("version a bignum", version, "\xc2\x41\x01"),
		with("version over 16 bits", version, "\x1a\x00\x01\x00\x01"),
		with("version true", version, "\xf5"),
		with("chain null", chain, "\xf6"),
		with("chain of 31 bytes", chain, "\x58\x1f"+digest[:31]),
		with("chain of 33 bytes", chain, "\x58\x21"+digest+"\x00"),
		with("chain empty", chain, "\x40"),
		with("chain an array of integers", chain, "\x98\x20"+strings.Repeat("\x01", 32)),
		with("chain a text", chain, "\x78\x20"+strings.Repeat("a", 32)),
		with("chain claims 2^63 bytes", chain, "\x5b\x80\x00\x00\x00\x00\x00\x00\x00"),
		with("group a byte string", group, "\x44main"),
		with("group in pieces", group, "\x7f\x62ma\x62in\xff"),
		with("group not UTF-8", group, "\x62\xc3\x28"),
		with("group empty", group, "\x60"),
		with("group in capitals", group, "\x64MAIN"),
		with("group of 33 characters", group, "\x78\x21"+strings.Repeat("g", 33)),
		with("no sender", sender, "\x54"+strings.Repeat("\x00", 20)),
		with("nonce of 15 bytes", nonce, "\x4f"+strings.Repeat("\x01", 15)),
		with("expiry zero", expiry, "\x00"),
		with("expiry negative", expiry, "\x3b\x00\x00\x01\x8b\xcf\xe5\x68\x00"),
		with("expiry over 63 bits", expiry, "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
		with("gas limit negative", gas, "\x38\x63"),
		with("gas limit a bignum", gas, "\xc2\x49\x01"+strings.Repeat("\x00", 8)),
		with("target of two elements", target, "\x82\x54"+strings.Repeat("\x01", 20)+"\x60"),
		with("target a map", target, "\xa0"),
		with("target with neither address nor name", target, "\x83\x54"+strings.Repeat("\x00", 20)+"\x60\x60"),
		with("target with address and name", target, "\x83\x54"+strings.Repeat("\x01", 20)+"\x61a\x60"),
		with("target with a version but no name", target, "\x83\x54"+strings.Repeat("\x01", 20)+"\x60\x61a"),
		with("method empty", method, "\x60"),
		with("method of 65 characters", method, "\x78\x41"+strings.Repeat("m", 65)),
		with("arguments null", args, "\xf6"),
		with("arguments an array", args, "\x80"),
		with("arguments nested 100 deep", args, strings.Repeat("\x81", 100)+"\x00"),
		with("signatures null", signatures, "\xf6"),
		with("signatures empty", signatures, "\x80"),
		with("a signature of 63 bytes", signatures, "\x81\x83\x01\x58\x20"+digest+"\x58\x3f"+strings.Repeat("\x01", 63)),
		with("algorithm over 8 bits", signatures, "\x81\x83\x19\x01\x00\x58\x20"+digest+"\x58\x40"+strings.Repeat("\x01", 64)),
		with("a key signing twice", signatures, "\x82"+strings.Repeat("\x83\x01\x58\x20"+digest+"\x58\x40"+strings.Repeat("\x01", 64), 2)),
		with("17 signatures", signatures, "\x91"+seventeen()),
	}
	return list
}

// seventeen are signatures with rising keys.
func seventeen() string {
	var b strings.Builder
	for i := range 17 {
		b.WriteString("\x83\x01\x58\x20" + string(bytes.Repeat([]byte{byte(i)}, 32)) + "\x58\x40" + strings.Repeat("\x01", 64))
	}
	return b.String()
}

func TestUnmarshalRefusesSecondForms(t *testing.T) {
	type pair struct {
		_ struct{} `cbor:",toarray"`
		A []byte
		B map[string]uint64
	}
	for why, raw := range map[string]string{
		"null for an empty byte string": "\x82\xf6\xa0",
		"null for an empty map":         "\x82\x40\xf6",
		"keys of a map out of order":    "\x82\x40\xa2\x61b\x01\x61a\x02",
		"longer key first":              "\x82\x40\xa2\x62aa\x01\x61b\x02",
		"a key twice":                   "\x82\x40\xa2\x61a\x01\x61a\x02",
		"a map of indefinite length":    "\x82\x40\xbf\x61a\x01\xff",
		"bytes as an array":             "\x82\x81\x01\xa0",
		"bytes as base64 text":          "\x82\x60\xa0",
	} {
		t.Run(why, func(t *testing.T) {
			var p pair
			if err := Unmarshal([]byte(raw), &p); !errors.Is(err, ErrEncoding) {
				t.Errorf("Unmarshal = %v, want ErrEncoding", err)
			}
		})
	}
	t.Run("nil and empty are one value with one form", func(t *testing.T) {
		a, b := encoded(t, &pair{}), encoded(t, &pair{A: []byte{}, B: map[string]uint64{}})
		if !bytes.Equal(a, b) || string(a) != "\x82\x40\xa0" {
			t.Errorf("%x and %x", a, b)
		}
	})
	t.Run("free values nest at most MaxNesting deep", func(t *testing.T) {
		for _, depth := range []int{MaxNesting, MaxNesting + 1, 10_000} {
			var v any
			err := Unmarshal([]byte(strings.Repeat("\x81", depth)+"\x00"), &v)
			if depth <= MaxNesting && err != nil || depth > MaxNesting && !errors.Is(err, ErrEncoding) {
				t.Errorf("%d deep: %v", depth, err)
			}
		}
	})
	t.Run("arrays have at most MaxElements", func(t *testing.T) {
		for _, n := range []int{MaxElements, MaxElements + 1} {
			raw := append([]byte{0x9a, 0, byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...)
			var v []uint64
			if err := Unmarshal(raw, &v); (err == nil) != (n <= MaxElements) {
				t.Errorf("array of %d: %v", n, err)
			}
		}
	})
}

func TestTx(t *testing.T) {
	f := newFixture(t)
	s := f.suite
	t.Run("the id leaves signatures out, the leaf does not", func(t *testing.T) {
		tx := *f.txs[0]
		again, err := tx.Tx.Sign(s, f.bank)
		if err != nil {
			t.Fatal(err)
		}
		if again.ID != tx.ID || again.Leaf == tx.Leaf || len(again.Signatures) != 2 || len(tx.Signatures) != 1 {
			t.Errorf("second signature: id %s, leaf %s", again.ID, again.Leaf)
		}
	})
	t.Run("a batch says the same as each alone", func(t *testing.T) {
		var txs []*SignedTx
		for i := range 40 {
			tx := sampleTx(t, s, i)
			if i%7 == 3 {
				changed := tx.Tx
				changed.Signatures = slices.Clone(tx.Signatures)
				changed.Signatures[0].Signature = bytes.Repeat([]byte{1}, 64)
				if i == 10 {
					changed.Signatures[0].Key = make([]byte, 32)
				}
				var err error
				if tx, err = DecodeTx(s, encoded(t, &changed)); err != nil {
					t.Fatal(err)
				}
			}
			txs = append(txs, tx)
		}
		txs = append(txs, f.txs...)
		for i, ok := range CheckBatch(s, txs) {
			if alone := txs[i].CheckSignatures(s) == nil; ok != alone || alone == (i < 40 && i%7 == 3) {
				t.Errorf("transaction %d: %t in the batch, %t alone", i, ok, alone)
			}
		}
	})
	t.Run("a transaction over the largest size is refused before it is read", func(t *testing.T) {
		if _, err := DecodeTx(s, make([]byte, MaxDeployTxSize+1)); !errors.Is(err, ErrTx) {
			t.Errorf("%v, want ErrTx", err)
		}
	})
	t.Run("signing keeps nothing of the caller's list", func(t *testing.T) {
		tx := f.txs[0].Tx
		tx.Signatures = make([]Signature, 0, 4)
		if _, err := tx.Sign(s, f.alice); err != nil || len(tx.Signatures[:1:1][0].Key) != 0 {
			t.Errorf("the caller's array was written to, %v", err)
		}
	})
}

func TestDecodeBlock(t *testing.T) {
	f := newFixture(t)
	for why, change := range map[string]func(*Block){
		"version of the block":      func(b *Block) { b.Version = 2 },
		"version of the order":      func(b *Block) { b.Header.Order.Version = 0 },
		"group":                     func(b *Block) { b.Header.Order.Group = "Main" },
		"engine's bytes too long":   func(b *Block) { b.Header.Order.Extra = make([]byte, MaxOrderExtra+1) },
		"fewer transactions":        func(b *Block) { b.Txs = b.Txs[1:] },
		"count of transactions":     func(b *Block) { b.Header.Order.TxCount++ },
		"more than any block holds": func(b *Block) { b.Txs = make([][]byte, MaxElements+1); b.Header.Order.TxCount = MaxElements + 1 },
	} {
		t.Run(why, func(t *testing.T) {
			b := *f.block
			change(&b)
			raw, err := encoding.Marshal(&b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeBlock(raw); !errors.Is(err, ErrBlock) && !errors.Is(err, ErrEncoding) {
				t.Errorf("DecodeBlock = %v, want a refusal", err)
			}
		})
	}
	t.Run("a transaction that is none", func(t *testing.T) {
		b := *f.block
		b.Txs = [][]byte{b.Txs[0], {0}, b.Txs[2]}
		if _, err := b.Decode(f.suite); !errors.Is(err, ErrEncoding) {
			t.Errorf("Decode = %v, want ErrEncoding", err)
		}
	})
}

func TestGenesisCheck(t *testing.T) {
	f := newFixture(t)
	for why, change := range map[string]func(*Genesis){
		"version":              func(g *Genesis) { g.Version = 0 },
		"suite":                func(g *Genesis) { g.Suite = "sm" },
		"no engine":            func(g *Genesis) { g.Engine = "" },
		"raft without trust":   func(g *Genesis) { g.Engine = "raft" },
		"pbft with trust":      func(g *Genesis) { g.Trust = true },
		"group":                func(g *Genesis) { g.Group = "Group 1" },
		"no time":              func(g *Genesis) { g.UnixMilli = 0 },
		"no members":           func(g *Genesis) { g.Members = nil },
		"a member twice":       func(g *Genesis) { g.Members[1] = g.Members[0] },
		"another's node id":    func(g *Genesis) { g.Members[1].Node = g.Members[0].Node },
		"half a key":           func(g *Genesis) { g.Members[1].Key.Bytes = g.Members[1].Key.Bytes[:16] },
		"a key of small order": func(g *Genesis) { g.Members[1].Key.Bytes = append([]byte{1}, make([]byte, 31)...) },
		"too many members":     func(g *Genesis) { g.Members = make([]Member, MaxMembers+1) },
		"empty blocks":         func(g *Genesis) { g.Params.BlockTxs = 0 },
		"endless lists":        func(g *Genesis) { g.Params.BlockTxs = MaxElements + 1 },
		"tiny blocks":          func(g *Genesis) { g.Params.BlockBytes = 1_000 },
		"gas that never fits":  func(g *Genesis) { g.Params.TxGas = g.Params.BlockGas + 1 },
		"endless lifetime":     func(g *Genesis) { g.Params.MaxLifetime = 1 << 62 },
		"no window":            func(g *Genesis) { g.Params.Window = 0 },
		"a wide window":        func(g *Genesis) { g.Params.Window = MaxWindow + 1 },
		"much in flight":       func(g *Genesis) { g.Params.Window, g.Params.BlockBytes = 16, 4<<20 },
		"no clock skew":        func(g *Genesis) { g.Params.ClockSkew = 0 },
		"no view timeout":      func(g *Genesis) { g.Params.ViewTimeout = 0 },
		"no heartbeat":         func(g *Genesis) { g.Params.HeartbeatTime = 0 },
		"batches that block":   func(g *Genesis) { g.Params.BatchDelay = g.Params.ViewTimeout + 1 },
	} {
		t.Run(why, func(t *testing.T) {
			g := *f.genesis
			g.Members = slices.Clone(g.Members)
			change(&g)
			if err := g.Check(f.suite); err == nil {
				t.Error("Check accepts it")
			}
		})
	}
}

// TestFinality: what makes a block final follows from the genesis's engine, and nothing else does.
func TestFinality(t *testing.T) {
	f := newFixture(t)
	s := f.suite
	members, err := f.genesis.Epoch().PublicKeys(s)
	if err != nil {
		t.Fatal(err)
	}
	for engine, want := range map[string]StatementKind{"pbft": Commit, "raft": Attest, "own": Commit} {
		g := *f.genesis
		g.Engine = engine
		if got := g.Finality(); got != want {
			t.Errorf("Finality with engine %s = %s, want %s", engine, got, want)
		}
		for _, kind := range []StatementKind{Prepare, Commit, Attest} {
			c := f.certify(t, kind, 0, 1, 2)
			if err := c.Finalizes(s, &f.block.Header, g.Finality(), members); (err == nil) != (kind == want) {
				t.Errorf("a certificate of %s statements with engine %s: %v", kind, engine, err)
			}
		}
	}
	c := f.certify(t, Commit, 0, 1, 2)
	if err := c.Finalizes(s, &f.block.Header, 0, members); err != nil {
		t.Errorf("without a word on the engine: %v", err)
	}
	for n := 1; n <= 10; n++ {
		if got, want := Attest.Quorum(n), n/2+1; got != want {
			t.Errorf("Attest.Quorum(%d) = %d, want %d", n, got, want)
		}
		if got, want := Commit.Quorum(n), Quorum(n); got != want {
			t.Errorf("Commit.Quorum(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestQuorum(t *testing.T) {
	for n := 1; n <= MaxMembers; n++ {
		q, f := Quorum(n), Faulty(n)
		if 2*q-n < f+1 || q > n-f {
			t.Errorf("n = %d: quorum %d with %d faulty: two share %d, %d are left when the faulty are silent", n, q, f, 2*q-n, n-f)
		}
	}
}

func TestCertificate(t *testing.T) {
	f := newFixture(t)
	s := f.suite
	members, err := f.genesis.Epoch().PublicKeys(s)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(c Certificate) error { return c.Finalizes(s, &f.block.Header, c.Statement.Kind, members) }
	for _, signers := range [][]uint32{{0, 1, 3}, {1, 2, 3}, {0, 1, 2, 3}} {
		for _, kind := range []StatementKind{Commit, Attest} {
			c := f.certify(t, kind, signers...)
			if err := verify(c); err != nil || c.Count() != len(signers) || !slices.Equal(c.Members(), signers) {
				t.Errorf("%s by %v: %v; %d members %v", kind, signers, err, c.Count(), c.Members())
			}
		}
	}
	good := f.block.Certificate
	for why, change := range map[string]func(*Certificate){
		"none":                          func(c *Certificate) { *c = Certificate{} },
		"too few":                       func(c *Certificate) { *c = f.certify(t, Commit, 0, 1) },
		"one member for another":        func(c *Certificate) { c.Signers = []byte{0b0111} },
		"a member that is none":         func(c *Certificate) { c.Signers = []byte{0b10011} },
		"member 8 of 4":                 func(c *Certificate) { c.Signers = []byte{0b0011, 1} },
		"trailing zero in the bitmap":   func(c *Certificate) { c.Signers = []byte{0b1011, 0} },
		"a signature missing":           func(c *Certificate) { c.Signatures = c.Signatures[:2] },
		"a signature too many":          func(c *Certificate) { c.Signatures = append(slices.Clone(c.Signatures), make([]byte, 64)) },
		"a signature twice":             func(c *Certificate) { c.Signatures = [][]byte{c.Signatures[0], c.Signatures[0], c.Signatures[2]} },
		"a signature of nothing":        func(c *Certificate) { c.Signatures = [][]byte{c.Signatures[0], nil, c.Signatures[2]} },
		"another view":                  func(c *Certificate) { c.Statement.View++ },
		"another height":                func(c *Certificate) { c.Statement.Height++ },
		"another epoch":                 func(c *Certificate) { c.Statement.Epoch++ },
		"another order":                 func(c *Certificate) { c.Statement.Order[0] ^= 1 },
		"another block":                 func(c *Certificate) { c.Statement.Block[0] ^= 1 },
		"a kind that there is not":      func(c *Certificate) { c.Statement.Kind = 200 },
		"a bitmap of a hundred members": func(c *Certificate) { c.Signers = bytes.Repeat([]byte{0xff}, 13) },
	} {
		t.Run(why, func(t *testing.T) {
			c := good
			change(&c)
			if err := verify(c); !errors.Is(err, ErrCertificate) {
				t.Errorf("Finalizes = %v, want ErrCertificate", err)
			}
		})
	}
	t.Run("for another chain or group", func(t *testing.T) {
		if err := good.Verify(s, keys.Digest{1}, "main", members); !errors.Is(err, ErrCertificate) {
			t.Errorf("another chain: %v", err)
		}
		if err := good.Verify(s, f.chain, "main2", members); !errors.Is(err, ErrCertificate) {
			t.Errorf("another group: %v", err)
		}
	})
	t.Run("of many members, checked as a batch", func(t *testing.T) {
		const n = 40
		statement := Statement{Kind: Commit, View: 1, Height: 1}
		var votes []Vote
		var public []keys.PublicKey
		random := seeded(9)
		for i := range n {
			signer, err := s.Generate(s.Vote(), random)
			if err != nil {
				t.Fatal(err)
			}
			signature, _ := signer.Sign(statement.Digest(s, f.chain, "main"))
			public = append(public, signer.Public())
			votes = append(votes, Vote{Signer: uint32(i), Statement: statement, Signature: signature})
		}
		for _, signed := range []int{Quorum(n) - 1, Quorum(n), n} {
			c := NewCertificate(votes[n-signed:])
			if err := c.Verify(s, f.chain, "main", public); (err == nil) != (signed >= Quorum(n)) {
				t.Errorf("%d of %d: %v", signed, n, err)
			}
			c.Signatures[3] = bytes.Repeat([]byte{3}, 64)
			if err := c.Verify(s, f.chain, "main", public); !errors.Is(err, ErrCertificate) {
				t.Errorf("%d of %d with a bad signature: %v", signed, n, err)
			}
		}
	})
}

var flipped = flag.String("bits", "some", "which bits of claims TestClaim flips: some 200 of each, or all, which takes a minute")

// TestClaim flips bits of claims among other things: then they must not hold, or say something else that is so.
func TestClaim(t *testing.T) {
	f := newFixture(t)
	s := f.suite
	verify := func(c *Claim) error { return c.Verify(s, f.chain, "main", Commit, f.genesis.Epoch()) }
	for what, c := range f.claims(t) {
		t.Run(what, func(t *testing.T) {
			if err := verify(c); err != nil {
				t.Fatal(err)
			}
			other := *f.genesis.Epoch()
			other.Number = 9
			for why, err := range map[string]error{
				"another chain":   c.Verify(s, keys.Digest{9}, "main", Commit, f.genesis.Epoch()),
				"another group":   c.Verify(s, f.chain, "side", Commit, f.genesis.Epoch()),
				"another epoch":   c.Verify(s, f.chain, "main", Commit, &other),
				"without members": c.Verify(s, f.chain, "main", Commit, &Epoch{}),
				"another engine":  c.Verify(s, f.chain, "main", Attest, f.genesis.Epoch()),
				"fewer members":   c.Verify(s, f.chain, "main", Commit, &Epoch{Members: f.genesis.Members[1:]}),
			} {
				if !errors.Is(err, ErrClaim) {
					t.Errorf("%s: %v, want ErrClaim", why, err)
				}
			}
			raw := encoded(t, c)
			same := 0
			step := 1 + len(raw)/200
			for i := range raw {
				for bit := range 8 {
					if *flipped != "all" && (i%step != 0 || bit != (i*7+int(raw[i]))%8) {
						continue
					}
					changed := slices.Clone(raw)
					changed[i] ^= 1 << bit
					if again, err := DecodeClaim(changed); err == nil && verify(again) == nil {
						if same++; !f.isTrue(t, again) {
							t.Fatalf("bit %d of byte %d flipped: the claim still holds, and is false", bit, i)
						}
					}
				}
			}
			if same > 0 && !strings.HasPrefix(what, "state: absent") { // which may as well be of a neighbour's absence
				t.Errorf("it still holds with %d of the flipped bits", same)
			}
		})
	}
	t.Run("for who trusts a block", func(t *testing.T) {
		for what, c := range f.claims(t) {
			hash := c.Certified().Hash(s)
			if err := c.VerifyUnder(s, hash); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if err := c.VerifyUnder(s, c.Header.Hash(s)); err != nil {
				t.Errorf("%s, its own block trusted: %v", what, err)
			}
			if err := c.VerifyUnder(s, keys.Digest{1}); !errors.Is(err, ErrClaim) {
				t.Errorf("%s: %v, want ErrClaim", what, err)
			}
			raw := encoded(t, c)
			for i := range raw {
				changed := slices.Clone(raw)
				changed[i] ^= 1 << (i % 8)
				if again, err := DecodeClaim(changed); err == nil && again.VerifyUnder(s, hash) == nil && !f.isTrue(t, again) {
					t.Fatalf("%s: bit %d of byte %d flipped: the claim still holds, and is false", what, i%8, i)
				}
			}
		}
	})
	t.Run("a history that does not lead there", func(t *testing.T) {
		for why, change := range map[string]func(c *Claim){
			"no history":             func(c *Claim) { c.History = nil },
			"the block's own":        func(c *Claim) { c.Certificate = f.block.Certificate },
			"another place":          func(c *Claim) { c.History.Proof.Index-- },
			"a tree of another size": func(c *Claim) { c.History.Proof.Size++ },
			"another block":          func(c *Claim) { c.Header.GasUsed++ },
			"another chain's block":  func(c *Claim) { c.Header.Order.Chain[0]++ },
			"another history": func(c *Claim) {
				c.History.Header.HistoryRoot[0]++
				c.Certificate = f.certifyHeader(t, &c.History.Header, Commit, 0, 1, 2)
			},
		} {
			c := *f.claims(t)["header, under a later block"]
			change(&c)
			if err := verify(&c); !errors.Is(err, ErrClaim) {
				t.Errorf("%s: %v, want ErrClaim", why, err)
			}
			if why == "no history" || why == "the block's own" { // who trusts the block needs neither
				continue
			}
			if err := c.VerifyUnder(s, c.Header.Hash(s)); !errors.Is(err, ErrClaim) {
				t.Errorf("%s, its own block trusted: %v, want ErrClaim", why, err)
			}
		}
	})
	t.Run("an event that is not there", func(t *testing.T) {
		c := f.claims(t)["event"]
		c.Event = new(uint32(1))
		if err := verify(c); !errors.Is(err, ErrClaim) {
			t.Errorf("%v, want ErrClaim", err)
		}
		c.Event, c.Receipt = new(uint32(0)), nil
		if err := verify(c); !errors.Is(err, ErrClaim) {
			t.Errorf("without receipt: %v, want ErrClaim", err)
		}
	})
	t.Run("the genesis of another chain", func(t *testing.T) {
		c := f.claims(t)["header with the genesis"]
		other := *f.genesis
		other.Name = "forged"
		c.Genesis = &other
		if err := verify(c); !errors.Is(err, ErrClaim) {
			t.Errorf("%v, want ErrClaim", err)
		}
	})
	t.Run("a transaction with another's receipt", func(t *testing.T) {
		claims := f.claims(t)
		c := *claims["transaction and receipt"]
		leaves := []keys.Digest{f.receipts[0].Hash(s), f.receipts[1].Hash(s), f.receipts[2].Hash(s)}
		proof, err := Prove(s, leaves, 1)
		if err != nil {
			t.Fatal(err)
		}
		c.Receipt = &ReceiptClaim{Receipt: f.receipts[1], Proof: proof}
		if err := verify(&c); !errors.Is(err, ErrClaim) {
			t.Errorf("%v, want ErrClaim", err)
		}
	})
	t.Run("from a later epoch that is trusted", func(t *testing.T) {
		c := f.later(t)
		for _, e := range c.Epochs {
			if err := c.Verify(s, f.chain, "main", Commit, &e.Epoch); err != nil {
				t.Errorf("epoch %d: %v", e.Epoch.Number, err)
			}
		}
		c.Epochs = nil
		if err := verify(c); !errors.Is(err, ErrClaim) {
			t.Errorf("without links: %v, want ErrClaim", err)
		}
	})
	t.Run("links that do not lead on", func(t *testing.T) {
		for why, change := range map[string]func(c *Claim){
			"one is missing":       func(c *Claim) { c.Epochs = c.Epochs[1:] },
			"out of order":         func(c *Claim) { c.Epochs[0], c.Epochs[1] = c.Epochs[1], c.Epochs[0] },
			"no barrier":           func(c *Claim) { c.Epochs[0].Header.Order.Barrier = false },
			"other members":        func(c *Claim) { c.Epochs[0].Epoch.Members = f.genesis.Members },
			"other parameters":     func(c *Claim) { c.Epochs[1].Epoch.Params.Window++ },
			"another certificate":  func(c *Claim) { c.Epochs[0].Certificate = c.Epochs[1].Certificate },
			"the block is too old": func(c *Claim) { c.Header.Order.Epoch = 1 },
			"certified by a minority": func(c *Claim) {
				c.Epochs[1].Certificate.Signers, c.Epochs[1].Certificate.Signatures = []byte{1}, c.Epochs[1].Certificate.Signatures[:1]
			},
		} {
			c := f.later(t)
			change(c)
			if err := verify(c); !errors.Is(err, ErrClaim) {
				t.Errorf("%s: %v, want ErrClaim", why, err)
			}
		}
	})
	t.Run("too large to read", func(t *testing.T) {
		if _, err := DecodeClaim(make([]byte, MaxClaimSize+1)); !errors.Is(err, ErrClaim) {
			t.Errorf("%v, want ErrClaim", err)
		}
	})
}

func TestNames(t *testing.T) {
	for kind, want := range map[StatementKind]string{Propose: "propose", Attest: "attest", 99: "statement(99)"} {
		if got := kind.String(); got != want {
			t.Errorf("%d: %q, want %q", kind, got, want)
		}
	}
	for status, want := range map[Status]string{OK: "ok", NotFound: "not_found", 77: "status(77)"} {
		if got := status.String(); got != want {
			t.Errorf("%d: %q, want %q", status, got, want)
		}
	}
	for _, bad := range []string{"", "0x", strings.Repeat("1", 42), "0x" + strings.Repeat("1", 41), "0x" + strings.Repeat("z", 40)} {
		if _, err := ParseAddress(bad); err == nil {
			t.Errorf("ParseAddress(%q) is accepted", bad)
		}
	}
	for _, g := range []GroupID{"main", "a", "group-1", GroupID(strings.Repeat("x", 32))} {
		if err := g.Check(); err != nil {
			t.Error(err)
		}
	}
	for i, r := range []Rank{{View: 1, Height: 9}, {View: 2, Height: 1}, {View: 2, Height: 3}} {
		for j, o := range []Rank{{View: 1, Height: 9}, {View: 2, Height: 1}, {View: 2, Height: 3}} {
			if got := r.Compare(o); got != cmp.Compare(i, j) {
				t.Errorf("%v against %v: %d", r, o, got)
			}
		}
	}
}

// TestItems counts what a decoder would meet, also in what no decoder accepts.
func TestItems(t *testing.T) {
	for _, test := range []struct {
		name, hex string
		want      uint64
	}{
		{"nothing", "", 1},
		{"an integer of 64 bits", "1bffffffffffffffff", 1},
		{"an array of three", "83010203", 4},
		{"a map of two", "a201020304", 5},
		{"a long string is one", "5818" + strings.Repeat("00", 24), 1},
		{"a tag and its value", "c24101", 2},
		{"ends within a head", "8219", 2},
		{"a string longer than the rest", "827b7fffffffffffffff", 2},
		{"indefinite length", "9f01ff", 1},
		{"an array that promises more than there is", "9bffffffffffffffff00", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, err := hex.DecodeString(test.hex)
			if err != nil {
				t.Fatal(err)
			}
			if got := Items(data); got != test.want {
				t.Errorf("%d items, want %d", got, test.want)
			}
		})
	}
}
