package join

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func newKey(t testing.TB, s keys.Suite) keys.Signer {
	t.Helper()
	key, err := s.Generate(s.Vote(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func eachSuite(t *testing.T, run func(t *testing.T, s keys.Suite)) {
	for _, s := range []keys.Suite{keys.Std(), keys.GM()} {
		t.Run(s.Name(), func(t *testing.T) { run(t, s) })
	}
}

// shown signs only what it is shown, as a signer in another process does.
type shown struct{ keys.Signer }

func (s shown) SignMessage(thing string, message []byte) ([]byte, error) {
	suite := keys.Std()
	if s.Public().Algorithm() == keys.SM2 {
		suite = keys.GM()
	}
	return s.Signer.Sign(keys.Hash(suite, thing, message))
}

func (shown) Sign(keys.Digest) ([]byte, error) {
	return nil, errors.New("it was not shown what it signs")
}

func newRequest(t testing.TB, s keys.Suite, key keys.Signer) *Request {
	t.Helper()
	csr, err := x509ca.Request(s, key, "node")
	if err != nil {
		t.Fatal(err)
	}
	account := ledger.KeyOf(newKey(t, s).Public())
	return &Request{Institution: "bank-e", Address: "10.0.0.5:9540", Account: &account, CSR: csr, UnixMilli: 1_700_000_000_000}
}

func TestRequest(t *testing.T) {
	eachSuite(t, func(t *testing.T, s keys.Suite) {
		key := newKey(t, s)
		signed := func(change func(*Request)) ([]byte, error) {
			r := newRequest(t, s, key)
			change(r)
			if err := r.Sign(s, key); err != nil {
				return nil, err
			}
			text, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			return text, nil
		}
		text, err := signed(func(*Request) {})
		if err != nil {
			t.Fatal(err)
		}
		r, found, err := DecodeRequest(text)
		if err != nil {
			t.Fatal(err)
		}
		node, err := r.Node(s)
		if err != nil || node != identity.NodeIDOf(s, key.Public()) || found.Name() != s.Name() || r.Institution != "bank-e" || r.Address != "10.0.0.5:9540" {
			t.Errorf("read back: node %s of %s at %s, suite %s, %v", node, r.Institution, r.Address, found.Name(), err)
		}

		t.Run("ends of lines and space around are as mail leaves them", func(t *testing.T) {
			mailed := append([]byte("\r\n"), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))...)
			if _, _, err := DecodeRequest(append(mailed, "\r\n\r\n"...)); err != nil {
				t.Error(err)
			}
		})
		t.Run("other tools read the request for a certificate", func(t *testing.T) {
			block, _ := pem.Decode(text)
			if block == nil || block.Type != "CERTIFICATE REQUEST" || !bytes.Equal(block.Bytes, r.CSR) {
				t.Errorf("the first block is %v", block)
			}
		})
		t.Run("a key in a signer, and a node without a certificate", func(t *testing.T) {
			r := newRequest(t, s, key)
			r.CSR, r.Account = nil, nil
			if err := r.Sign(s, shown{key}); err != nil {
				t.Fatal(err)
			}
			text, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := DecodeRequest(text); err != nil {
				t.Error(err)
			}
		})
		t.Run("what no request says is not signed", func(t *testing.T) {
			other, err := x509ca.Request(s, newKey(t, s), "other")
			if err != nil {
				t.Fatal(err)
			}
			for want, change := range map[string]func(*Request){
				`institution ""`:        func(r *Request) { r.Institution = "" },
				`institution "a\nb"`:    func(r *Request) { r.Institution = "a\nb" },
				"want HOST:PORT":        func(r *Request) { r.Address = "10.0.0.5" },
				"a host that others":    func(r *Request) { r.Address = "0.0.0.0:9540" },
				"want a port":           func(r *Request) { r.Address = "10.0.0.5:0" },
				"255 bytes":             func(r *Request) { r.Address = strings.Repeat("a", 300) + ":9540" },
				"first account":         func(r *Request) { r.Account.Bytes = r.Account.Bytes[1:] },
				"another key":           func(r *Request) { r.CSR = other },
				"request for a certifi": func(r *Request) { r.CSR = r.CSR[1:] },
			} {
				if _, err := signed(change); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
		t.Run("nobody changes it but the node", func(t *testing.T) {
			forged := *r
			forged.Address = "10.6.6.6:9540"
			text, err := forged.Encode() // with a right checksum
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := DecodeRequest(text); !errors.Is(err, ErrForged) {
				t.Errorf("got %v, want ErrForged", err)
			}
		})
		t.Run("it is one text", func(t *testing.T) {
			for name, other := range map[string][]byte{
				"twice":               append(bytes.Clone(text), text...),
				"something before it": append([]byte("Dear Sir,\n"), text...),
				"without its request": text[bytes.Index(text, []byte("-----BEGIN FONDACO")):],
			} {
				if _, _, err := DecodeRequest(other); !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: %v, want ErrDamaged", name, err)
				}
			}
		})
		t.Run("no byte is lost or changed unseen", func(t *testing.T) {
			damage(t, text, func(b []byte) error { _, _, err := DecodeRequest(b); return err })
		})
		t.Run("another release", func(t *testing.T) {
			_, _, err := DecodeRequest(bytes.Replace(text, []byte("Version: 1"), []byte("Version: 2"), 1))
			if !errors.Is(err, ErrVersion) {
				t.Errorf("got %v, want ErrVersion", err)
			}
		})
		t.Run("it is small", func(t *testing.T) {
			if _, _, err := DecodeRequest(make([]byte, MaxRequest+1)); !errors.Is(err, ErrDamaged) {
				t.Errorf("got %v, want ErrDamaged", err)
			}
		})
	})
}

// damage cuts a text at each place and changes each byte of it, but for what a reader of PEM passes over: ends of lines.
func damage(t *testing.T, text []byte, decode func([]byte) error) {
	t.Helper()
	step := max(1, len(text)/2000)
	for at := 0; at < len(text)-1; at += step {
		if decode(text[:at]) == nil {
			t.Fatalf("the first %d of %d bytes are taken", at, len(text))
		}
		changed := bytes.Clone(text)
		changed[at] ^= 1
		if decode(changed) == nil {
			t.Fatalf("byte %d may be %q instead of %q", at, changed[at], text[at])
		}
	}
}

// group is a chain of four members in its second epoch: the first member was replaced by another.
type group struct {
	suite    keys.Suite
	genesis  ledger.Genesis
	founders []keys.Signer
	joined   keys.Signer
	invited  identity.NodeID // which the group admitted
	claim    ledger.Claim    // of a block of epoch 1
}

func member(s keys.Suite, key keys.Signer) ledger.Member {
	return ledger.Member{Node: identity.NodeIDOf(s, key.Public()), Institution: "bank", Key: ledger.KeyOf(key.Public())}
}

func newGroup(t testing.TB, s keys.Suite) *group {
	guest := newKey(t, s)
	g := &group{suite: s, joined: newKey(t, s), invited: identity.NodeIDOf(s, guest.Public())}
	g.genesis = ledger.Genesis{Version: ledger.Version, Name: "four", Suite: s.Name(), Group: "main", Engine: "pbft", UnixMilli: 1_700_000_000_000, Params: ledger.DefaultParams(), Accounts: []ledger.GenesisAccount{}}
	for range 4 {
		key := newKey(t, s)
		g.founders = append(g.founders, key)
		g.genesis.Members = append(g.genesis.Members, member(s, key))
	}
	chain := g.genesis.Hash(s)
	next := ledger.Epoch{Number: 1, Params: g.genesis.Params, Members: append(append([]ledger.Member{}, g.genesis.Members[1:]...), member(s, g.joined))}
	order := ledger.Order{Version: ledger.Version, Chain: chain, Group: "main", Height: 7, UnixMilli: 1_700_000_001_000, Barrier: true}
	barrier := ledger.Header{Order: order, NextEpoch: next.Hash(s)}
	order.Epoch, order.Height, order.Barrier, order.UnixMilli = 1, 9, false, 1_700_000_002_000
	g.claim = ledger.Claim{
		Version: ledger.Version, Header: ledger.Header{Order: order},
		Epochs: []ledger.EpochLink{{Header: barrier, Certificate: g.certify(t, &barrier, g.founders[0], g.founders[1], g.founders[2]), Epoch: next}},
	}
	g.state(t, &g.claim, g.invited, &precompiles.Node{Version: ledger.Version, Status: precompiles.NodeObserver, Institution: "bank-e", Key: ledger.KeyOf(guest.Public())})
	return g
}

// state has a claim's block, certified anew, leave a state that holds no more than the row of a node; nil: the state is empty.
func (g *group) state(t testing.TB, c *ledger.Claim, id identity.NodeID, row *precompiles.Node) {
	t.Helper()
	st := &ledger.StateClaim{Key: append(precompiles.NodeKeys(), id[:]...)}
	st.Proof = ledger.StateProof{Leaves: []keys.Digest{}, Entries: []ledger.StateEntry{}, Siblings: []keys.Digest{}}
	if row != nil {
		value, err := ledger.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		st.Value, st.Present = value, true
		st.Proof.Leaves = append(st.Proof.Leaves, ledger.StateLeaf(g.suite, ledger.StatePath(g.suite, st.Key), ledger.StateValue(g.suite, value)))
	}
	c.State, c.Header.StateRoot = st, ledger.StateBucket(g.suite, st.Proof.Leaves)
	c.Certificate = g.certify(t, &c.Header, g.founders[1], g.founders[2], g.founders[3])
}

// certify has the first members of an epoch sign a header.
func (g *group) certify(t testing.TB, h *ledger.Header, signers ...keys.Signer) ledger.Certificate {
	o := &h.Order
	c := ledger.Certificate{
		Statement: ledger.Statement{Kind: ledger.Commit, Epoch: o.Epoch, Height: o.Height, Order: o.Hash(g.suite), Block: h.Hash(g.suite)}, Signers: []byte{1<<len(signers) - 1},
	}
	for _, key := range signers {
		signature, err := c.Statement.Sign(g.suite, key, o.Chain, o.Group)
		if err != nil {
			t.Fatal(err)
		}
		c.Signatures = append(c.Signatures, signature)
	}
	return c
}

func (g *group) invitation(t testing.TB, invited identity.NodeID) *Invitation {
	anchor, err := ledger.Marshal(&g.claim)
	if err != nil {
		t.Fatal(err)
	}
	i := &Invitation{
		Node: invited, Institution: "bank-e", Genesis: g.genesis, Anchor: anchor, Sync: "blocks", UnixMilli: 1_700_000_003_000, Chain: [][]byte{{0x30, 0}},
		CA: &CA{Program: "ca-x509", Settings: []byte("[[trust]]"), Files: []File{{Name: "2-list.pem", Data: []byte{1}}, {Name: "1-certificates.pem", Data: []byte{2}}}},
	}
	for _, m := range g.claim.Epochs[0].Epoch.Members {
		i.Peers = append(i.Peers, Peer{Node: m.Node, Institution: m.Institution, Address: "10.0.0.1:9540"})
	}
	return i
}

func TestInvitation(t *testing.T) {
	eachSuite(t, func(t *testing.T, s keys.Suite) {
		g := newGroup(t, s)
		invited := g.invited
		signed := func(key keys.Signer, change func(*Invitation)) []byte {
			t.Helper()
			i := g.invitation(t, invited)
			change(i)
			if err := i.Sign(s, key); err != nil {
				t.Fatal(err)
			}
			text, err := i.Encode()
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		open := func(text []byte) (*Invitation, *Opened, error) {
			i, found, err := DecodeInvitation(text)
			if err != nil {
				return nil, nil, err
			}
			o, err := i.Open(found)
			return i, o, err
		}
		claimed := func(change func(*ledger.Claim)) func(*Invitation) {
			return func(i *Invitation) {
				claim, err := ledger.DecodeClaim(i.Anchor)
				if err != nil {
					t.Fatal(err)
				}
				change(claim)
				if i.Anchor, err = ledger.Marshal(claim); err != nil {
					t.Fatal(err)
				}
			}
		}

		text := signed(shown{g.joined}, func(*Invitation) {})
		i, o, err := open(text)
		if err != nil {
			t.Fatal(err)
		}
		if o.Chain != g.genesis.Hash(s) || o.Signer != identity.NodeIDOf(s, g.joined.Public()) || o.Epoch.Number != 1 || o.Head.Order.Height != 9 || i.Node != invited || len(i.Peers) != 4 {
			t.Errorf("opened as %+v for %s", o, i.Node)
		}
		t.Run("on a chain without blocks founders invite one another", func(t *testing.T) {
			founder := g.genesis.Members[1].Node
			_, o, err := open(signed(g.founders[0], func(i *Invitation) {
				i.Anchor, i.Node, i.Institution = nil, founder, "bank"
				i.Peers = slices.DeleteFunc(i.Peers, func(p Peer) bool { return p.Node == founder })
			}))
			if err != nil || o.Head != nil || o.Epoch.Number != 0 || o.CheckAge(math.MaxInt64) != nil {
				t.Errorf("opened as %+v, %v", o, err)
			}
			if _, _, err := open(signed(g.founders[0], func(i *Invitation) { i.Anchor = nil })); !errors.Is(err, ErrForged) || !strings.Contains(err.Error(), "only founders begin without one") {
				t.Errorf("another node: %v", err)
			}
		})
		t.Run("a member that was dismissed before the node was admitted has no block of its epoch that shows the node", func(t *testing.T) {
			row := precompiles.Node{Version: ledger.Version, Institution: "bank-e"}
			of := func(status precompiles.NodeStatus, institution string) func(*ledger.Claim) {
				return func(c *ledger.Claim) {
					row := row
					row.Status, row.Institution = status, institution
					g.state(t, c, invited, &row)
				}
			}
			for want, change := range map[string]func(*ledger.Claim){
				"it does not show that the group admitted node": func(c *ledger.Claim) { c.State = nil },
				"does not show that the group admitted node ":   func(c *ledger.Claim) { g.state(t, c, g.genesis.Members[1].Node, &row) },
				"show that the group admitted node ":            func(c *ledger.Claim) { g.state(t, c, invited, nil) },
				"the bucket does not hold the key with this":    func(c *ledger.Claim) { c.State.Value = append(slices.Clip(c.State.Value), 0) },
				" as dismissed of bank-e, and":                  of(precompiles.NodeDismissed, "bank-e"),
				" as observer of bank-f, and":                   of(precompiles.NodeObserver, "bank-f"),
			} {
				if _, _, err := open(signed(g.joined, claimed(change))); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			if _, _, err := open(signed(g.joined, claimed(of(precompiles.NodeMember, "bank-e")))); err != nil {
				t.Errorf("a node that is a member already: %v", err)
			}
		})
		t.Run("it counts until a time after its block", func(t *testing.T) {
			made := o.Head.Order.UnixMilli
			if err := o.CheckAge(made + MaxAge.Milliseconds()); err != nil {
				t.Error(err)
			}
			if err := o.CheckAge(made + MaxAge.Milliseconds() + 1); !errors.Is(err, ErrOld) || !strings.Contains(err.Error(), "block, 9, is of 2023-11-14T22:13:22Z, and it counts for 30 days") {
				t.Errorf("%v, want ErrOld", err)
			}
		})
		t.Run("who is no member any more, or never was, invites nobody", func(t *testing.T) {
			for name, key := range map[string]keys.Signer{"retired": g.founders[0], "stranger": newKey(t, s)} {
				if _, _, err := open(signed(key, func(*Invitation) {})); !errors.Is(err, ErrForged) || !strings.Contains(err.Error(), "only members invite") {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
		t.Run("a stranger does not become a member by what nobody certified", func(t *testing.T) {
			stranger := newKey(t, s)
			theirs := ledger.Epoch{Number: 1, Params: g.genesis.Params, Members: []ledger.Member{member(s, stranger)}}
			for name, change := range map[string]func(*ledger.Claim){
				"in the place of the epoch": func(c *ledger.Claim) { c.Epochs[0].Epoch = theirs },
				"behind it, of its number":  func(c *ledger.Claim) { c.Epochs = append(c.Epochs, ledger.EpochLink{Epoch: theirs}) },
				"behind it, of number 0": func(c *ledger.Claim) {
					theirs := theirs
					theirs.Number = 0
					c.Epochs = append(c.Epochs, ledger.EpochLink{Epoch: theirs})
				},
				"before it": func(c *ledger.Claim) {
					theirs := theirs
					theirs.Number = 0
					c.Epochs = append([]ledger.EpochLink{{Epoch: theirs}}, c.Epochs...)
				},
			} {
				if _, _, err := open(signed(stranger, claimed(change))); !errors.Is(err, ledger.ErrClaim) {
					t.Errorf("%s: %v, want ErrClaim", name, err)
				}
			}
		})
		t.Run("the anchor is a header that the chain's members certified", func(t *testing.T) {
			for name, change := range map[string]func(*ledger.Claim){
				"too few":       func(c *ledger.Claim) { c.Certificate = g.certify(t, &c.Header, g.founders[1], g.founders[2]) },
				"another block": func(c *ledger.Claim) { c.Header.GasUsed++ },
				"more than that": func(c *ledger.Claim) {
					c.History = &ledger.HistoryClaim{Header: c.Header, Proof: ledger.Proof{Path: []keys.Digest{}}}
				},
			} {
				if _, _, err := open(signed(g.joined, claimed(change))); !errors.Is(err, ledger.ErrClaim) {
					t.Errorf("%s: %v, want ErrClaim", name, err)
				}
			}
		})
		t.Run("nobody changes it but its maker", func(t *testing.T) {
			forged := *i
			forged.Sync = "snapshot"
			text, err := forged.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := open(text); !errors.Is(err, ErrForged) {
				t.Errorf("got %v, want ErrForged", err)
			}
		})
		t.Run("what no invitation says is refused", func(t *testing.T) {
			for want, change := range map[string]func(*Invitation){
				"of suite":                    func(i *Invitation) { i.Genesis.Suite = "other" },
				"names 0 nodes":               func(i *Invitation) { i.Peers = nil },
				"names 1025 nodes":            func(i *Invitation) { i.Peers = make([]Peer, MaxPeers+1) },
				"not in order":                func(i *Invitation) { i.Peers = append(i.Peers, i.Peers[0]) },
				"the invited node":            func(i *Invitation) { i.Peers[0].Node = invited },
				"want a host":                 func(i *Invitation) { i.Peers[0].Address = ":9540" },
				"chain of 9 certificates":     func(i *Invitation) { i.Chain = make([][]byte, ca.MaxChain+1) },
				"certificate of the invitat":  func(i *Invitation) { i.Chain = [][]byte{{}} },
				"engine's program has 3":      func(i *Invitation) { i.Engine = []byte{1, 2, 3} },
				"provider's program has 3":    func(i *Invitation) { i.CA.SHA256 = []byte{1, 2, 3} },
				"provider's program is":       func(i *Invitation) { i.CA.Program = "../ca" },
				"no name of a file":           func(i *Invitation) { i.CA.Files[0].Name = "../../fondaco.toml" },
				"and 257 files":               func(i *Invitation) { i.CA.Files = make([]File, MaxFiles+1) },
				`institution ""`:              func(i *Invitation) { i.Institution = "" },
				"settings of 1048577 bytes":   func(i *Invitation) { i.CA.Settings = make([]byte, ca.MaxSettings+1) },
				"the invitation's genesis: g": func(i *Invitation) { i.Genesis.Engine = "" },
			} {
				if _, _, err := open(signed(g.joined, change)); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
		t.Run("no byte is lost or changed unseen", func(t *testing.T) {
			damage(t, text, func(b []byte) error { _, _, err := DecodeInvitation(b); return err })
		})
	})
}

// FuzzDecode reads anything as a request and as an invitation. What is taken has one text.
func FuzzDecode(f *testing.F) {
	for _, s := range []keys.Suite{keys.Std(), keys.GM()} {
		key := newKey(f, s)
		r := newRequest(f, s, key)
		if err := r.Sign(s, key); err != nil {
			f.Fatal(err)
		}
		g := newGroup(f, s)
		i := g.invitation(f, g.invited)
		if err := i.Sign(s, g.joined); err != nil {
			f.Fatal(err)
		}
		for _, made := range []interface{ Encode() ([]byte, error) }{r, i} {
			text, err := made.Encode()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, _, err := DecodeRequest(text); err == nil {
			if again, err := r.Encode(); err != nil || !same(again, text) {
				t.Errorf("another text of the same request: %v", err)
			}
		}
		if i, s, err := DecodeInvitation(text); err == nil {
			if again, err := i.Encode(); err != nil || !same(again, text) {
				t.Errorf("another text of the same invitation: %v", err)
			}
			i.Open(s) //nolint:errcheck // it must only end
		}
	})
}
