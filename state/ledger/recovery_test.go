package ledger

import (
	"errors"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
)

// recovered returns a claim two epochs after genesis, the first of which ended with a block that two of four members
// signed as survivors, and that block's hash.
func (f *fixture) recovered(t testing.TB, survivors ...uint32) (*Claim, keys.Digest) {
	t.Helper()
	c := f.later(t)
	link := &c.Epochs[0]
	link.Certificate = f.survive(t, &link.Header, survivors...)
	return c, link.Header.Hash(f.suite)
}

// survive makes members of epoch 0 sign that the chain goes on with a block.
func (f *fixture) survive(t testing.TB, h *Header, survivors ...uint32) Certificate {
	t.Helper()
	statement := RecoverStatement(f.suite, h)
	var votes []Vote
	for _, m := range survivors {
		signature, err := f.nodes[m].Sign(statement.Digest(f.suite, f.chain, "main"))
		if err != nil {
			t.Fatal(err)
		}
		votes = append(votes, Vote{Signer: m, Statement: statement, Signature: signature})
	}
	return NewCertificate(votes)
}

type recoveryVector struct {
	Genesis  octets      `json:"genesis"`
	Accepted keys.Digest `json:"accepted"`
	Claim    octets      `json:"claim"`
}

func TestGoldenRecovery(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		c, accepted := f.recovered(t, 1, 3)
		golden(t, f.suite, "recovery", recoveryVector{Genesis: encoded(t, f.genesis), Accepted: accepted, Claim: encoded(t, c)})
		v := readGolden[recoveryVector](t, f.suite, "recovery")
		var g Genesis
		if err := Unmarshal(v.Genesis, &g); err != nil {
			t.Fatal(err)
		}
		claim, err := DecodeClaim(v.Claim)
		if err != nil {
			t.Fatal(err)
		}
		if err := claim.Verify(f.suite, g.Hash(f.suite), g.Group, g.Finality(), g.Epoch(), v.Accepted); err != nil {
			t.Error(err)
		}
		if err := claim.Verify(f.suite, g.Hash(f.suite), g.Group, g.Finality(), g.Epoch()); !errors.Is(err, ErrRecovery) {
			t.Errorf("without the verifier's word: %v, want ErrRecovery", err)
		}
	})
}

// What survivors sign counts by the verifier's word alone, takes an honest one among them, and stands for nothing else.
func TestRecovers(t *testing.T) {
	f := newFixture(t)
	s, h := f.suite, &f.block.Header
	members, err := f.genesis.Epoch().PublicKeys(s)
	if err != nil {
		t.Fatal(err)
	}
	hash := h.Hash(s)
	two := f.survive(t, h, 1, 3)
	if err := two.Finalizes(s, h, Commit, members, keys.Digest{1}, hash); err != nil {
		t.Error(err)
	}
	other := *h
	other.GasUsed++
	one, votes := f.survive(t, h, 2), f.certify(t, Commit, 1, 3)
	for why, got := range map[string]struct{ err, want error }{
		"without a word":             {two.Finalizes(s, h, Commit, members), ErrRecovery},
		"with a word on another":     {two.Finalizes(s, h, Commit, members, keys.Digest{1}), ErrRecovery},
		"one of four":                {one.Finalizes(s, h, Commit, members, hash), ErrCertificate},
		"another block":              {two.Finalizes(s, &other, Commit, members, other.Hash(s)), ErrCertificate},
		"two votes for a commit":     {votes.Finalizes(s, h, Commit, members, hash), ErrCertificate},
		"votes are no recovery":      {f.block.Certificate.Recovers(s, h, members), ErrCertificate},
		"a claim without a quorum":   {claimOf(f.recovered(t, 1)).Verify(s, f.chain, "main", Commit, f.genesis.Epoch(), hash), ErrClaim},
		"a claim, with a wrong word": {claimOf(f.recovered(t, 1, 3)).Verify(s, f.chain, "main", Commit, f.genesis.Epoch(), hash), ErrRecovery},
	} {
		if !errors.Is(got.err, got.want) {
			t.Errorf("%s: %v, want %v", why, got.err, got.want)
		}
	}
	for n, want := range map[int]int{1: 1, 3: 1, 4: 2, 7: 3, 10: 4} {
		if got := Recover.Quorum(n); got != want {
			t.Errorf("Recover.Quorum(%d) = %d, want %d", n, got, want)
		}
	}
}

func claimOf(c *Claim, _ keys.Digest) *Claim { return c }
