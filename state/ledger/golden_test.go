package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

var update = flag.Bool("update", false, "rewrite the golden vectors in testdata")

// vectors returns the path of a file of golden vectors under a suite. See testdata/README.md.
func vectors(s keys.Suite, name string) string {
	if s.Name() == "std" {
		return filepath.Join("testdata", name+".json")
	}
	return filepath.Join("testdata", s.Name(), name+".json")
}

// onBothSuites runs a test with the fixture under each suite.
func onBothSuites(t *testing.T, test func(t *testing.T, f *fixture)) {
	for _, s := range []keys.Suite{keys.Std(), keys.GM()} {
		t.Run(s.Name(), func(t *testing.T) { test(t, fixtureOf(t, s)) })
	}
}

// golden compares v, as JSON, with the vectors in a file of testdata.
func golden(t *testing.T, s keys.Suite, name string, v any) {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	path := vectors(s, name)
	if *update {
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text.Bytes(), want) {
		t.Errorf("what this package makes is not what %s holds: an encoding or digest changed, which breaks every chain.\n"+
			"If that is meant: go test ./state/ledger -run Golden -update", path)
	}
}

// readGolden reads the vectors back, so that what the file holds is checked and not what made it.
func readGolden[T any](t testing.TB, s keys.Suite, name string) T {
	t.Helper()
	var v T
	text, err := os.ReadFile(vectors(s, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// octets is a byte string that JSON shows as 0x and hexadecimal digits.
type octets []byte

func (o octets) MarshalText() ([]byte, error) { return []byte("0x" + hex.EncodeToString(o)), nil }

func (o *octets) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "0x")
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return fmt.Errorf("octets %q: want 0x and hexadecimal digits", text)
	}
	*o = raw
	return nil
}

func encoded(t testing.TB, v any) octets {
	t.Helper()
	raw, err := Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// fixture is a chain of four members with one block of three transactions, made from fixed keys.
type fixture struct {
	suite    keys.Suite
	genesis  *Genesis
	chain    keys.Digest
	nodes    []keys.Signer // of the members
	alice    keys.Signer   // Ed25519, or SM2
	bank     keys.Signer   // P-256, or SM2
	txs      []*SignedTx
	receipts []Receipt
	changes  []Change
	world    map[string]string
	block    *Block
	signed   map[keys.Digest]bool // hashes of the blocks that members signed, for isTrue
}

// newFixture returns the fixture under the suite of the tests.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	return fixtureOf(t, keystest.Suite())
}

func fixtureOf(t testing.TB, s keys.Suite) *fixture {
	t.Helper()
	f := &fixture{suite: s, world: make(map[string]string)}
	signer := func(a keys.Algorithm, fill byte) keys.Signer {
		signer, err := s.ParsePrivate(a, bytes.Repeat([]byte{fill}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return signer
	}
	second := keys.P256
	if s.Vote() == keys.SM2 {
		second = keys.SM2
	}
	f.alice, f.bank = signer(s.Vote(), 0xa1), signer(second, 0xb2)
	params := DefaultParams()
	f.genesis = &Genesis{
		Version: Version, Name: "golden", Suite: s.Name(), Group: "main", Engine: "pbft", UnixMilli: 1_700_000_000_000, Params: params,
		Accounts: []GenesisAccount{
			{Name: "alice", Institution: "north", Roles: []string{"deployer", "user"}, Keys: []Key{KeyOf(f.alice.Public())}},
			{Name: "bank", Institution: "south", Keys: []Key{KeyOf(f.bank.Public())}},
		},
	}
	for i := range 4 {
		node := signer(s.Vote(), byte(1+i))
		f.nodes = append(f.nodes, node)
		f.genesis.Members = append(f.genesis.Members, Member{
			Node: identity.NodeIDOf(s, node.Public()), Institution: []string{"north", "south", "east", "west"}[i], Key: KeyOf(node.Public()),
		})
	}
	if err := f.genesis.Check(s); err != nil {
		t.Fatal(err)
	}
	f.chain = f.genesis.Hash(s)

	token := NamedAddress(s, "contract", "token")
	sign := func(tx Tx, signers ...keys.Signer) {
		signed, err := tx.Sign(s, signers...)
		if err != nil {
			t.Fatal(err)
		}
		f.txs = append(f.txs, signed)
	}
	base := Tx{
		Version: Version, Chain: f.chain, Group: "main", Sender: NamedAddress(s, "account", "alice"), Expiry: 1_700_000_060_000,
		GasLimit: 1_000_000, To: Target{Address: token}, Method: "transfer",
	}
	plain := base
	plain.Nonce, plain.Args = [16]byte{1}, encoded(t, []any{NamedAddress(s, "account", "bank"), uint64(100)})
	sign(plain, f.alice)
	named := base
	named.Nonce, named.To, named.Method, named.Args = [16]byte{2}, Target{Name: "token", Version: "1.2"}, "balance", encoded(t, []any{})
	named.Sender = NamedAddress(s, "account", "bank")
	sign(named, f.bank)
	both := base
	both.Nonce, both.Args = [16]byte{3}, encoded(t, []any{})
	sign(both, f.alice, f.bank)

	leaves := make([]keys.Digest, len(f.txs))
	receipts := make([]keys.Digest, len(f.txs))
	var raws [][]byte
	var size uint64
	for i, tx := range f.txs {
		leaves[i] = tx.Leaf
		raws = append(raws, tx.Raw)
		size += uint64(len(tx.Raw))
		r := Receipt{Version: Version, Tx: tx.ID, Index: uint32(i), Gas: Gas(1000 + i), Served: Target{Address: token, Name: tx.To.Name}}
		switch i {
		case 0:
			r.Events = []Event{{Contract: token, Topic: "transfer", Data: encoded(t, []any{uint64(100)})}}
		case 1:
			r.Data = encoded(t, uint64(250))
		case 2:
			r.Status, r.Code, r.Data = Aborted, 1001, encoded(t, "overdraft")
			r.Failures = []Failure{{Contract: token, Method: "transfer", Status: Aborted, Code: 1002, Data: encoded(t, "no credit")}, {Contract: f.txs[0].Sender, Method: "hold", Status: OutOfGas}}
		}
		f.receipts = append(f.receipts, r)
		receipts[i] = r.Hash(s)
	}
	for i := range 40 {
		f.world[string(token[:])+fmt.Sprintf("balance/%02d", i)] = string(encoded(t, uint64(i*i)))
	}
	f.changes = []Change{
		{Key: append(slices.Clone(token[:]), "balance/00"...), Value: encoded(t, uint64(0))},
		{Key: append(slices.Clone(token[:]), "balance/99"...), Deleted: true},
	}
	changes := []keys.Digest{f.changes[0].Hash(s), f.changes[1].Hash(s)}
	var history Frontier
	history.Append(s, f.chain)
	f.block = &Block{
		Version: Version, Txs: raws,
		Header: Header{
			Order: Order{
				Version: Version, Chain: f.chain, Group: "main", Height: 1, Parent: keys.Digest{0xaa}, UnixMilli: 1_700_000_001_000,
				Proposer: 1, TxRoot: Root(s, leaves), TxCount: uint32(len(raws)), TxBytes: size, GasLimit: 3_000_000, Extra: []byte("x"),
			},
			Parent: keys.Digest{0xbb}, StateRoot: newStateTree(s, f.world).root(s, 0), ReceiptRoot: Root(s, receipts),
			ChangeRoot: Root(s, changes), HistoryRoot: history.Root(s), GasUsed: 3003,
		},
	}
	f.block.Certificate = f.certify(t, Commit, 0, 1, 3)
	return f
}

// certify makes the members sign that the block is final.
func (f *fixture) certify(t testing.TB, kind StatementKind, members ...uint32) Certificate {
	t.Helper()
	return f.certifyHeader(t, &f.block.Header, kind, members...)
}

func (f *fixture) certifyHeader(t testing.TB, h *Header, kind StatementKind, members ...uint32) Certificate {
	t.Helper()
	statement := Statement{
		Kind: kind, Epoch: h.Order.Epoch, View: 2, Height: h.Order.Height, Order: h.Order.Hash(f.suite), Block: h.Hash(f.suite),
	}
	var votes []Vote
	for _, m := range members {
		signature, err := f.nodes[m].Sign(statement.Digest(f.suite, f.chain, "main"))
		if err != nil {
			t.Fatal(err)
		}
		votes = append(votes, Vote{Signer: m, Statement: statement, Signature: signature})
	}
	return NewCertificate(votes)
}

// claims returns one claim of each kind.
func (f *fixture) claims(t testing.TB) map[string]*Claim {
	t.Helper()
	s := f.suite
	prove := func(index uint64, leaf func(i int) keys.Digest) Proof {
		var leaves []keys.Digest
		for i := range f.txs {
			leaves = append(leaves, leaf(i))
		}
		proof, err := Prove(s, leaves, index)
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
	tx := &TxClaim{Raw: f.txs[2].Raw, Proof: prove(2, func(i int) keys.Digest { return f.txs[i].Leaf })}
	receipt := &ReceiptClaim{Receipt: f.receipts[2], Proof: prove(2, func(i int) keys.Digest { return f.receipts[i].Hash(s) })}
	tree := newStateTree(s, f.world)
	present := slices.Concat(f.changes[0].Key[:AddressSize], []byte("balance/07"))
	absent := f.changes[1].Key
	claims := map[string]*Claim{
		"header":                  {},
		"transaction":             {Tx: tx},
		"receipt":                 {Receipt: receipt},
		"transaction and receipt": {Tx: tx, Receipt: receipt},
		"state: present":          {State: &StateClaim{Key: present, Value: []byte(f.world[string(present)]), Present: true, Proof: tree.prove(s, present, true)}},
		"state: absent":           {State: &StateClaim{Key: absent, Proof: tree.prove(s, absent, false)}},
	}
	claims["event"] = &Claim{
		Receipt: &ReceiptClaim{Receipt: f.receipts[0], Proof: prove(0, func(i int) keys.Digest { return f.receipts[i].Hash(s) })},
		Event:   new(uint32(0)),
	}
	claims["header with the genesis"] = &Claim{Genesis: f.genesis}
	for _, c := range claims {
		c.Version, c.Header, c.Certificate = Version, f.block.Header, f.block.Certificate
	}
	claims["header of epoch 2"] = f.later(t)
	for _, what := range []string{"header", "event", "state: absent"} {
		c := *claims[what]
		f.under(t, &c)
		claims[what+", under a later block"] = &c
	}
	return claims
}

// isTrue reports whether what a claim says is so, and of a block that the members signed.
func (f *fixture) isTrue(t testing.TB, c *Claim) bool {
	t.Helper()
	if f.signed == nil {
		f.signed = make(map[keys.Digest]bool)
		for _, c := range f.claims(t) {
			f.signed[c.Header.Hash(f.suite)], f.signed[c.Certified().Hash(f.suite)] = true, true
		}
	}
	if !f.signed[c.Header.Hash(f.suite)] {
		return false
	}
	if c.Tx != nil && !slices.ContainsFunc(f.txs, func(tx *SignedTx) bool { return bytes.Equal(tx.Raw, c.Tx.Raw) }) {
		return false
	}
	if c.Receipt != nil && !bytes.Equal(encoded(t, c.Receipt.Receipt), encoded(t, f.receipts[c.Receipt.Receipt.Index])) {
		return false
	}
	if c.Event != nil && (c.Receipt == nil || int(*c.Event) >= len(c.Receipt.Receipt.Events)) {
		return false
	}
	if c.State == nil {
		return true
	}
	value, present := f.world[string(c.State.Key)]
	return present == c.State.Present && value == string(c.State.Value)
}

// under makes a claim about the fixture's block one that leads over a block five heights later.
func (f *fixture) under(t testing.TB, c *Claim) {
	t.Helper()
	s := f.suite
	hashes := append([]keys.Digest{f.chain, f.block.Header.Hash(s)}, numbered(s, 4)...)
	later := f.block.Header
	later.Order.Height, later.Order.Parent, later.Parent, later.HistoryRoot = Height(len(hashes)), keys.Digest{0xcc}, hashes[5], Root(s, hashes)
	proof, err := Prove(s, hashes, uint64(f.block.Header.Order.Height))
	if err != nil {
		t.Fatal(err)
	}
	c.History, c.Certificate = &HistoryClaim{Header: later, Proof: proof}, f.certifyHeader(t, &later, Commit, 1, 2, 3)
}

// later returns a claim two epochs after genesis, in which the members have other numbers.
func (f *fixture) later(t testing.TB) *Claim {
	t.Helper()
	certify := func(h *Header, members []Member) Certificate {
		statement := Statement{Kind: Commit, Epoch: h.Order.Epoch, Height: h.Order.Height, Order: h.Order.Hash(f.suite), Block: h.Hash(f.suite)}
		var votes []Vote
		for i, m := range members[:Quorum(len(members))] {
			at := slices.IndexFunc(f.genesis.Members, func(o Member) bool { return o.Node == m.Node })
			signature, err := f.nodes[at].Sign(statement.Digest(f.suite, f.chain, "main"))
			if err != nil {
				t.Fatal(err)
			}
			votes = append(votes, Vote{Signer: uint32(i), Statement: statement, Signature: signature})
		}
		return NewCertificate(votes)
	}
	c := &Claim{Version: Version}
	members := f.genesis.Members
	for number := range uint64(3) {
		h := f.block.Header
		h.Order.Epoch, h.Order.Height = number, h.Order.Height+Height(number)
		h.NextEpoch = keys.Digest{}
		if number == 2 {
			h.Order.Barrier = false
			c.Header, c.Certificate = h, certify(&h, members)
			break
		}
		next := slices.Clone(members)
		next = append(next[1:], next[0])
		epoch := Epoch{Number: number + 1, Members: next, Params: f.genesis.Params}
		h.Order.Barrier, h.NextEpoch = true, epoch.Hash(f.suite)
		c.Epochs = append(c.Epochs, EpochLink{Header: h, Certificate: certify(&h, members), Epoch: epoch})
		members = next
	}
	return c
}

type keyVector struct {
	Algorithm keys.Algorithm `json:"algorithm"`
	Name      string         `json:"name"`
	Private   octets         `json:"private"`
	Public    octets         `json:"public"`
	Node      keys.Digest    `json:"node"`
	Digest    keys.Digest    `json:"digest"`
	Signature octets         `json:"signature"`
}

func TestGoldenKeys(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		var list []keyVector
		for _, signer := range append(slices.Clone(f.nodes), f.alice, f.bank) {
			digest := keys.Hash(f.suite, "example", signer.Public().Bytes())
			private, _ := signer.Private()
			signature, err := signer.Sign(digest)
			if err != nil {
				t.Fatal(err)
			}
			a := signer.Public().Algorithm()
			list = append(list, keyVector{
				Algorithm: a, Name: a.String(), Private: private, Public: signer.Public().Bytes(), Digest: digest, Signature: signature,
				Node: keys.Digest(identity.NodeIDOf(f.suite, signer.Public())),
			})
		}
		golden(t, f.suite, "keys", list)
		for _, v := range readGolden[[]keyVector](t, f.suite, "keys") {
			public, err := f.suite.ParsePublic(v.Algorithm, v.Public)
			if err != nil || public.Verify(v.Digest, v.Signature) != nil {
				t.Errorf("%s key %x: %v, or its signature is not valid", v.Name, v.Public, err)
			}
		}
	})
}

type txVector struct {
	Encoding octets      `json:"encoding"`
	Body     octets      `json:"body"` // what the id covers
	ID       keys.Digest `json:"id"`
	Leaf     keys.Digest `json:"leaf"`
	Fields   any         `json:"fields"`
}

func TestGoldenTransactions(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		var list []txVector
		for _, tx := range f.txs {
			var signatures []map[string]any
			for _, sig := range tx.Signatures {
				signatures = append(signatures, map[string]any{"algorithm": sig.Algorithm, "key": octets(sig.Key), "signature": octets(sig.Signature)})
			}
			list = append(list, txVector{
				Encoding: tx.Raw, ID: keys.Digest(tx.ID), Leaf: tx.Leaf,
				Body: encoded(t, &txBody{
					Version: tx.Version, Chain: tx.Chain, Group: tx.Group, Sender: tx.Sender, Nonce: tx.Nonce, Expiry: tx.Expiry,
					GasLimit: tx.GasLimit, To: tx.To, Method: tx.Method, Args: tx.Args,
				}),
				Fields: map[string]any{
					"version": tx.Version, "chain": tx.Chain, "group": tx.Group, "sender": tx.Sender, "nonce": octets(tx.Nonce[:]),
					"expiry": tx.Expiry, "gas_limit": tx.GasLimit, "method": tx.Method, "args": octets(tx.Args), "signatures": signatures,
					"to": map[string]any{"address": tx.To.Address, "name": tx.To.Name, "version": tx.To.Version},
				},
			})
		}
		golden(t, f.suite, "transactions", list)
		for i, v := range readGolden[[]txVector](t, f.suite, "transactions") {
			tx, err := DecodeTx(f.suite, v.Encoding)
			if err != nil {
				t.Fatalf("transaction %d: %v", i, err)
			}
			if err := tx.CheckSignatures(f.suite); err != nil || keys.Digest(tx.ID) != v.ID || tx.Leaf != v.Leaf {
				t.Errorf("transaction %d: id %s, leaf %s, %v", i, tx.ID, tx.Leaf, err)
			}
		}
	})
}

type thingVector struct {
	Thing    string      `json:"thing"`
	Encoding octets      `json:"encoding"`
	Digest   keys.Digest `json:"digest"`
}

func TestGoldenDigests(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		s := f.suite
		h := &f.block.Header
		list := []thingVector{
			{"genesis", encoded(t, f.genesis), f.chain},
			{"epoch", encoded(t, f.genesis.Epoch()), f.genesis.Epoch().Hash(s)},
			{"order", encoded(t, &h.Order), h.Order.Hash(s)},
			{"block", encoded(t, h), h.Hash(s)},
		}
		for i := range f.receipts {
			list = append(list, thingVector{"receipt", encoded(t, &f.receipts[i]), f.receipts[i].Hash(s)})
		}
		for kind := Propose; kind <= Attest; kind++ {
			st := Statement{Kind: kind, Epoch: 1, View: 2, Height: 3, Order: keys.Digest{4}, Block: keys.Digest{5}, High: Rank{View: 1, Height: 2}, Seq: 6}
			list = append(list, thingVector{"bft", encoded(t, &st), st.Digest(s, f.chain, "main")})
		}
		newView := NewView{Epoch: 1, View: 2, Votes: []Vote{{Signer: 3, Statement: Statement{Kind: ViewChange}, Signature: make([]byte, 64)}}}
		list = append(list, thingVector{"new-view", encoded(t, &newView), newView.Digest(s)})
		evidence := f.evidence(t, 2, Statement{Kind: Prepare, View: 2, Height: 3, Order: keys.Digest{4}}, Statement{Kind: Prepare, View: 2, Height: 3, Order: keys.Digest{5}})
		list = append(list, thingVector{"evidence", encoded(t, evidence), evidence.Digest(s)})
		for i := range f.changes {
			list = append(list, thingVector{"change", encoded(t, &f.changes[i]), f.changes[i].Hash(s)})
		}
		golden(t, f.suite, "digests", list)
		for _, v := range readGolden[[]thingVector](t, f.suite, "digests") {
			want := keys.Hash(s, v.Thing, v.Encoding)
			if v.Thing == "bft" {
				want = keys.Hash(s, v.Thing, f.chain[:], []byte{4}, []byte("main"), v.Encoding)
			}
			if v.Thing != "change" && v.Digest != want {
				t.Errorf("%s: digest %s, want %s", v.Thing, v.Digest, want)
			}
		}
	})
}

type addressVector struct {
	Kind  string      `json:"kind"` // of a name; empty for an assigned address
	Name  string      `json:"name"`
	Tx    keys.Digest `json:"tx"`
	Index uint32      `json:"index"`
	Want  Address     `json:"address"`
}

func TestGoldenAddresses(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		s := f.suite
		list := []addressVector{
			{Kind: "account", Name: "alice", Want: NamedAddress(s, "account", "alice")},
			{Kind: "contract", Name: "token", Want: NamedAddress(s, "contract", "token")},
		}
		for _, index := range []uint32{0, 1, 0x01020304} {
			list = append(list, addressVector{Tx: keys.Digest{1}, Index: index, Want: AssignedAddress(s, TxID{1}, index)})
		}
		golden(t, f.suite, "addresses", list)
	})
}

type treeVector struct {
	Leaves []keys.Digest `json:"leaves"`
	Root   keys.Digest   `json:"root"`
	Proofs []octets      `json:"proofs"` // of each leaf
}

func TestGoldenTrees(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		s := f.suite
		var list []treeVector
		for n := range 10 {
			v := treeVector{Leaves: numbered(s, n), Root: Root(s, numbered(s, n)), Proofs: []octets{}}
			for i := range n {
				proof, err := Prove(s, v.Leaves, uint64(i))
				if err != nil {
					t.Fatal(err)
				}
				v.Proofs = append(v.Proofs, encoded(t, &proof))
			}
			list = append(list, v)
		}
		golden(t, f.suite, "trees", list)
		for _, v := range readGolden[[]treeVector](t, f.suite, "trees") {
			for i, raw := range v.Proofs {
				var p Proof
				if err := Unmarshal(raw, &p); err != nil {
					t.Fatal(err)
				}
				if err := p.Verify(s, v.Root, v.Leaves[i][:]); err != nil || p.Index != uint64(i) {
					t.Errorf("leaf %d of %d: %v", i, len(v.Leaves), err)
				}
			}
		}
	})
}

type stateVector struct {
	Key     octets      `json:"key"`
	Value   octets      `json:"value"`
	Present bool        `json:"present"`
	Path    keys.Digest `json:"path"`
	Leaf    keys.Digest `json:"leaf"` // zero when absent
	Proof   octets      `json:"proof"`
}

type worldVector struct {
	Root    keys.Digest   `json:"root"`
	Entries []stateVector `json:"entries"`
}

func TestGoldenState(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		s := f.suite
		var list []worldVector
		names := slices.Sorted(maps.Keys(f.world))
		for _, size := range []int{0, 1, 16, 17, 40} {
			world := make(map[string]string)
			for _, name := range names[:size] {
				world[name] = f.world[name]
			}
			tree := newStateTree(s, world)
			v := worldVector{Root: tree.root(s, 0), Entries: []stateVector{}}
			for _, key := range append(slices.Clone(names[:size]), string(f.changes[1].Key)) {
				value, present := world[key]
				proof := tree.prove(s, []byte(key), present)
				e := stateVector{Key: octets(key), Value: octets(value), Present: present, Path: StatePath(s, []byte(key)), Proof: encoded(t, &proof)}
				if present {
					e.Leaf = StateLeaf(s, e.Path, StateValue(s, e.Value))
				}
				v.Entries = append(v.Entries, e)
			}
			list = append(list, v)
		}
		golden(t, f.suite, "state", list)
		for _, v := range readGolden[[]worldVector](t, f.suite, "state") {
			for _, e := range v.Entries {
				var p StateProof
				if err := Unmarshal(e.Proof, &p); err != nil {
					t.Fatal(err)
				}
				if err := p.Verify(s, v.Root, e.Key, e.Value, e.Present); err != nil {
					t.Errorf("key %q of %d: %v", e.Key[AddressSize:], len(v.Entries)-1, err)
				}
			}
		}
	})
}

type claimVector struct {
	Genesis octets         `json:"genesis"`
	Block   octets         `json:"block"` // the one that all claims are about
	Claims  []encodedClaim `json:"claims"`
}

type encodedClaim struct {
	What     string `json:"what"`
	Encoding octets `json:"encoding"`
}

func TestGoldenClaims(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		v := claimVector{Genesis: encoded(t, f.genesis), Block: encoded(t, f.block)}
		claims := f.claims(t)
		for _, what := range slices.Sorted(maps.Keys(claims)) {
			v.Claims = append(v.Claims, encodedClaim{what, encoded(t, claims[what])})
		}
		golden(t, f.suite, "claims", v)
		read := readGolden[claimVector](t, f.suite, "claims")
		var g Genesis
		if err := Unmarshal(read.Genesis, &g); err != nil {
			t.Fatal(err)
		}
		for _, e := range read.Claims {
			c, err := DecodeClaim(e.Encoding)
			if err != nil {
				t.Fatalf("%s: %v", e.What, err)
			}
			if err := c.Verify(f.suite, g.Hash(f.suite), g.Group, g.Finality(), g.Epoch()); err != nil {
				t.Errorf("%s: %v", e.What, err)
			}
		}
		block, err := DecodeBlock(read.Block)
		if err != nil {
			t.Fatal(err)
		}
		if txs, err := block.Decode(f.suite); err != nil || len(txs) != 3 {
			t.Errorf("block of %d transactions, %v", len(txs), err)
		}
	})
}

type refusedVector struct {
	What     string `json:"what"`
	Why      string `json:"why"`
	Encoding octets `json:"encoding"`
}

func TestGoldenRefused(t *testing.T) {
	f := fixtureOf(t, keys.Std())
	good := f.txs[0].Raw
	list := []refusedVector{}
	for _, e := range hostile(t, good) {
		list = append(list, refusedVector{"transaction", e.why, e.raw})
	}
	golden(t, f.suite, "refused", list)
	for _, v := range readGolden[[]refusedVector](t, f.suite, "refused") {
		if _, err := DecodeTx(f.suite, v.Encoding); !errors.Is(err, ErrEncoding) && !errors.Is(err, ErrTx) {
			t.Errorf("%s: %v, want a refusal", v.Why, err)
		}
	}
}
