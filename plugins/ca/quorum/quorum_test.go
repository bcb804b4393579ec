package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// says is a provider that answers the same to all, after a while.
type says struct {
	holder *ca.Holder
	err    error
	stale  bool
	after  time.Duration // less than zero: never
}

func (s says) wait(ctx context.Context) error {
	var late <-chan time.Time
	if s.after >= 0 {
		late = time.After(s.after)
	}
	select {
	case <-late:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s says) Verify(ctx context.Context, _ ca.VerifyRequest) (ca.VerifyResponse, error) {
	err := s.wait(ctx)
	switch {
	case err != nil || s.holder != nil:
		return ca.VerifyResponse{Holder: s.holder}, err
	case s.stale:
		return ca.VerifyResponse{Refusal: ca.Refuse(ca.StaleList, "its list is old")}, nil
	}
	return ca.VerifyResponse{Refusal: ca.Refuse(ca.Revoked, "it was revoked")}, nil
}

func (s says) Revoked(ctx context.Context, _ ca.RevokedRequest) (ca.RevokedResponse, error) {
	if err := s.wait(ctx); err != nil {
		return ca.RevokedResponse{}, err
	}
	return ca.RevokedResponse{Lists: []ca.List{{Issuer: s.holder.Issuers[0]}}}, nil
}

func (s says) late(after time.Duration) says {
	s.after = after
	return s
}

func vouches(institution string, key byte, begin, end int64, roles ...identity.Role) says {
	return says{holder: &ca.Holder{
		Institution: institution, Roles: roles, Key: ledger.Key{Algorithm: keys.Ed25519, Bytes: []byte{key}}, Serial: "01", NotBefore: begin, NotAfter: end, Issuers: []string{institution + " CA"},
		Paths: []identity.Path{{Leaf: keys.Digest{key, byte(begin)}, Root: keys.Digest{institution[0]}}},
	}}
}

func TestVerify(t *testing.T) {
	corfu := vouches("Corfu", 1, 10, 100, "node", "user")
	later := vouches("Corfu", 1, 20, 90, "node", "operator")
	longer := vouches("Corfu", 1, 5, 200, "node", "operator", "user")
	zante := vouches("Zante", 1, 10, 100, "node")
	otherKey := vouches("Corfu", 2, 10, 100, "node")
	no, down, old := says{}, says{err: errors.New("no answer")}, says{stale: true}
	never := corfu.late(-1)
	for _, c := range []struct {
		name    string
		k       int
		members []says
		want    string
		took    time.Duration
	}{
		{"all agree", 2, []says{corfu, later}, "Corfu [node] 20-90", 0},
		{"two of three, one refuses", 2, []says{corfu, no, later}, "Corfu [node] 20-90", 0},
		{"roles and times that two of three vouch for", 2, []says{corfu, later, longer}, "Corfu [node operator user] 10-100", 0},
		{"two of three, one is down", 2, []says{down, corfu, later}, "Corfu [node] 20-90", 0},
		{"two of three, one hangs", 2, []says{never, corfu, later}, "Corfu [node] 20-90", DefaultLinger},
		{"two of three, one is a little later", 2, []says{corfu, longer.late(DefaultLinger / 2), later}, "Corfu [node operator user] 10-100", DefaultLinger / 2},
		{"two of three, one is much later", 2, []says{corfu, longer.late(time.Second), later.late(100 * time.Millisecond)}, "Corfu [node] 20-90", 100*time.Millisecond + DefaultLinger},
		{"too few", 2, []says{corfu, no.late(time.Millisecond), no.late(time.Millisecond)}, "not-vouched: 2 of 3 providers must vouch for the same key and institution, and 1 do: p1: it was revoked; p2: it was revoked; p0 vouches for Corfu with the key ed25519:01", time.Millisecond},
		{"too few, whatever the last would say", 2, []says{no, no, corfu.late(time.Second)}, "not-vouched: 2 of 3 providers must vouch for the same key and institution, and 0 do: p0: it was revoked; p1: it was revoked; p2: it has not answered yet", 0},
		{"too few, and the last hangs", 2, []says{corfu, no, never}, "error: 2 of 3 providers must vouch, 1 do and 1 cannot tell now: p1: it was revoked; p2: it did not answer in time; p0 vouches", DefaultLimit},
		{"too few for now, whatever the last would say", 2, []says{down, down, never}, "error: 2 of 3 providers must vouch, 0 do and 2 cannot tell now: p0: no answer; p1: no answer; p2: it has not answered yet", 0},
		{"another institution", 2, []says{corfu, zante}, "not-vouched: 2 of 2", 0},
		{"another key", 2, []says{corfu, otherKey}, "not-vouched: 2 of 2", 0},
		{"the disagreement of one does not matter", 2, []says{corfu, later, zante}, "Corfu [node] 20-90", 0},
		{"two camps", 1, []says{corfu, zante}, "not-vouched: the providers vouch for different holders: p0 vouches for Corfu", 0},
		{"two camps, the second too late", 1, []says{corfu, zante.late(time.Second)}, "Corfu [node user] 10-100", DefaultLinger},
		{"one that is down could tip it", 2, []says{corfu, down, no}, "error: 2 of 3 providers must vouch, 1 do and 1 cannot tell now: p1: no answer; p2: it was revoked; p0 vouches for Corfu with the key ed25519:01", 0},
		{"one that is down could not tip it", 3, []says{corfu, down, no}, "not-vouched: 3 of 3", 0},
		{"one with an old list could tip it", 2, []says{corfu, old, no}, "stale-list: 2 of 3 providers must vouch, 1 do and 1 know of revocations only what is too old: p1: its list is old; p2: it was revoked; p0 vouches", 0},
		{"one with an old list could not tip it", 2, []says{old, no, no}, "not-vouched: 2 of 3", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := asking(t, c.k, c.members)
				began := time.Now()
				got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: [][]byte{{1}}, Purpose: ca.Node})
				took := time.Since(began)
				text := ""
				switch {
				case err != nil:
					text = "error: " + err.Error()
				case got.Refusal != nil:
					text = string(got.Refusal.Code) + ": " + got.Refusal.Reason
				default:
					text = fmt.Sprintf("%s %s %d-%d", got.Holder.Institution, got.Holder.Roles, got.Holder.NotBefore, got.Holder.NotAfter)
				}
				if !strings.HasPrefix(text, c.want) || took != c.took {
					t.Errorf("after %s: %s\nwant, after %s: %s", took, text, c.took, c.want)
				}
			})
		})
	}
	t.Run("the paths of all who vouch for the holder", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := asking(t, 2, []says{later, zante, corfu, corfu, otherKey, no})
			got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: [][]byte{{1}}, Purpose: ca.Node})
			if err != nil || got.Holder == nil || !slices.Equal(got.Holder.Paths, append(corfu.holder.Paths, later.holder.Paths...)) {
				t.Errorf("Verify = %+v, %v", got.Holder, err)
			}
		})
	})
	for _, c := range []struct {
		k       int
		members []Member
		says    string
	}{
		{0, []Member{{Name: "a"}, {Name: "b"}}, "k is 0 of 2"},
		{3, []Member{{Name: "a"}, {Name: "b"}}, "k is 3 of 2"},
		{1, []Member{{Name: "a"}, {Name: "a"}}, `two providers are called "a"`},
	} {
		if _, err := New(Config{K: c.k, Members: c.members}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("New: %v, want it to say %q", err, c.says)
		}
	}
}

func asking(t *testing.T, k int, of []says) *Provider {
	t.Helper()
	var members []Member
	for i, s := range of {
		members = append(members, Member{fmt.Sprintf("p%d", i), s})
	}
	p, err := New(Config{K: k, Members: members})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWords tells that the refusal of many has room for what each of them said.
func TestWords(t *testing.T) {
	var members []says
	for range MaxMembers {
		members = append(members, says{err: errors.New(strings.Repeat("a long story ", 100))})
	}
	p := asking(t, MaxMembers, members)
	_, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: [][]byte{{1}}, Purpose: ca.Node})
	if err == nil {
		t.Fatal("it vouches")
	}
	for i := range members {
		if !strings.Contains(err.Error(), fmt.Sprintf("p%d: a long story", i)) && !strings.Contains(err.Error(), fmt.Sprintf("p%d: it has not answered yet", i)) {
			t.Errorf("p%d is missing in %s", i, err)
		}
	}
	if len(err.Error()) > ca.MaxReason {
		t.Errorf("the words have %d bytes", len(err.Error()))
	}
}

// knows is a provider that refuses one chain, and does not know the roots of others.
type knows struct{ chain []byte }

func (k knows) Verify(_ context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	if slices.Equal(r.Chain[0], k.chain) {
		return ca.VerifyResponse{Refusal: ca.Refuse(ca.Expired, "it expired")}, nil
	}
	return ca.VerifyResponse{Refusal: ca.Refuse(ca.UnknownRoot, "who is that")}, nil
}

func (knows) Revoked(context.Context, ca.RevokedRequest) (ca.RevokedResponse, error) {
	return ca.RevokedResponse{}, nil
}

// TestReason tells which of a member's reasons are told: those of the chains that it knows, and each once.
func TestReason(t *testing.T) {
	mine, other, third := []byte("mine"), []byte("other"), []byte("third")
	for _, c := range []struct {
		asked  Asked
		chains [][][]byte
		want   string
	}{
		{knows{mine}, [][][]byte{{other}, {mine}, {third}}, "it expired"},
		{knows{mine}, [][][]byte{{other}, {third}}, "who is that"},
		{says{err: errors.New("no answer")}, [][][]byte{{other}, {third}}, "no answer"},
		{says{}, [][][]byte{{other}, {third}}, "it was revoked"},
	} {
		if got := ask(t.Context(), c.asked, ca.VerifyRequest{}, c.chains); got.why != c.want || got.holder != nil {
			t.Errorf("ask = %+v, want the reason %q", got, c.want)
		}
	}
}

// TestRevoked tells that the lists of those who are up are there while as many are up as must vouch.
func TestRevoked(t *testing.T) {
	corfu, zante := vouches("Corfu", 1, 10, 100), vouches("Zante", 1, 10, 100)
	synctest.Test(t, func(t *testing.T) {
		got, err := asking(t, 2, []says{corfu, zante.late(-1), zante}).Revoked(t.Context(), ca.RevokedRequest{})
		if err != nil || len(got.Lists) != 2 || got.Lists[0].Issuer != "Corfu CA" || got.Lists[1].Issuer != "Zante CA" {
			t.Errorf("Revoked = %+v, %v", got, err)
		}
		_, err = asking(t, 2, []says{corfu, zante.late(-1), {err: errors.New("no answer")}}).Revoked(t.Context(), ca.RevokedRequest{})
		if err == nil || !strings.Contains(err.Error(), "1 of 3 providers tell of their lists, and 2 must vouch: p1: context deadline exceeded\np2: no answer") {
			t.Errorf("Revoked: %v", err)
		}
	})
}

// shows is a provider with one list.
type shows struct {
	Asked
	lists []ca.List
}

func (s shows) Revoked(context.Context, ca.RevokedRequest) (ca.RevokedResponse, error) {
	return ca.RevokedResponse{Lists: s.lists}, nil
}

// TestLargeLists has members show lists that are too large for one answer: the largest is left out of it, but for its dates.
func TestLargeLists(t *testing.T) {
	var members []Member
	for name, size := range map[string]int{"corfu": 5 << 20, "zante": 6 << 20} {
		members = append(members, Member{name, shows{lists: []ca.List{{Issuer: name, Issued: 1, Signed: make([]byte, size), Revoked: []ca.Entry{{Serial: "1"}}}}}})
	}
	p, err := New(Config{K: 2, Members: members})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Revoked(t.Context(), ca.RevokedRequest{})
	if err != nil || len(got.Lists) != 2 {
		t.Fatalf("Revoked = %d lists, %v", len(got.Lists), err)
	}
	for _, l := range got.Lists {
		if whole := len(l.Signed) == 5<<20 && len(l.Revoked) == 1; l.Issued != 1 || whole != (l.Issuer == "corfu") || !whole && len(l.Signed)+len(l.Revoked) > 0 {
			t.Errorf("the list of %s has %d bytes and %d certificates", l.Issuer, len(l.Signed), len(l.Revoked))
		}
	}
}

// TestManyLists has members show more lists than an answer has: it says how many it lacks.
func TestManyLists(t *testing.T) {
	var members []Member
	for _, name := range []string{"corfu", "zante"} {
		members = append(members, Member{name, shows{lists: slices.Repeat([]ca.List{{Issuer: name}}, 20)}})
	}
	p, err := New(Config{K: 2, Members: members})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Revoked(t.Context(), ca.RevokedRequest{})
	if err != nil || len(got.Lists) != ca.MaxLists || !strings.HasPrefix(got.Lists[ca.MaxLists-1].Fault, "8 more lists count and are not shown") {
		t.Errorf("Revoked = %+v, %v", got, err)
	}
}

// TestConformance runs the suite on two providers of which both must vouch.
func TestConformance(t *testing.T) {
	noon := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	pki := catest.NewPKI(t, catest.Standard(keys.P256), noon)
	member := func(name string) Member {
		p := x509ca.New(keys.Std())
		if err := p.Configure(t.Context(), fmt.Appendf(nil, "[[trust]]\nroots = %q\ncrl = [\"%s\"]\n", pki.Path(catest.RootFile), strings.Join(pki.Lists, `", "`))); err != nil {
			t.Fatal(err)
		}
		return Member{name, p}
	}
	p, err := New(Config{K: 2, Members: []Member{member("a"), member("b")}})
	if err != nil {
		t.Fatal(err)
	}
	f := pki.Fixtures()
	t.Run("what both vouch for", func(t *testing.T) {
		got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: f.Good, Purpose: f.Purpose, At: f.At.UnixMilli()})
		root := identity.Path{Leaf: identity.Fingerprint(keys.Std(), f.Good[0]), Root: identity.Fingerprint(keys.Std(), f.Root)}
		if err != nil || got.Holder == nil || !slices.Equal(got.Holder.Roles, f.Roles) || !slices.Equal(got.Holder.Paths, []identity.Path{root}) {
			t.Errorf("Verify = %+v, %v", got, err)
		}
	})
	for name, chain := range map[string][][]byte{
		"expired": f.Expired, "revoked": f.Revoked, "unknown root": f.UnknownRoot, "forged": f.Forged, "path length": f.PathLength, "name constraint": f.NameConstraint,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: chain, Purpose: f.Purpose, At: f.At.UnixMilli()})
			if err != nil || got.Refusal == nil || got.Refusal.Code != ca.NotVouched {
				t.Errorf("Verify = %+v, %v", got, err)
			}
		})
	}
}

// TestSplit tells how certificates of several authorities travel together.
func TestSplit(t *testing.T) {
	noon := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	a := catest.NewPKI(t, catest.Standard(keys.P256), noon).Fixtures().Good
	both := append(slices.Clone(a), a...)
	if got := split(both); len(got) != 2 || len(got[0]) != len(a) || len(got[1]) != len(a) {
		t.Errorf("split = %d chains", len(got))
	}
	if got := split(append(slices.Clone(a), []byte{0})); len(got) != 1 {
		t.Errorf("what does not parse is cut off: %d chains", len(got))
	}
}
