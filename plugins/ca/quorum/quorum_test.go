package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// says is a provider that answers the same to all.
type says struct {
	ca.Provider
	holder *ca.Holder
	err    error
}

func (s says) Verify(context.Context, ca.VerifyRequest) (ca.VerifyResponse, error) {
	if s.err != nil || s.holder != nil {
		return ca.VerifyResponse{Holder: s.holder}, s.err
	}
	return ca.VerifyResponse{Refusal: ca.Refuse(ca.Revoked, "it was revoked")}, nil
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
	no, down := says{}, says{err: errors.New("no answer")}
	for _, c := range []struct {
		name    string
		k       int
		members []says
		want    string
	}{
		{"all agree", 2, []says{corfu, later}, "Corfu [node] 20-90"},
		{"two of three, one refuses", 2, []says{corfu, no, later}, "Corfu [node] 20-90"},
		{"roles and times that two of three vouch for", 2, []says{corfu, later, longer}, "Corfu [node operator user] 10-100"},
		{"two of three, one is down", 2, []says{down, corfu, later}, "Corfu [node] 20-90"},
		{"too few", 2, []says{corfu, no, no}, "not-vouched: 2 of 3 providers must vouch for the same key and institution, and 1 do: p0 vouches for Corfu with the key ed25519:01; p1: it was revoked; p2: it was revoked"},
		{"another institution", 2, []says{corfu, zante}, "not-vouched: 2 of 2"},
		{"another key", 2, []says{corfu, otherKey}, "not-vouched: 2 of 2"},
		{"the disagreement of one does not matter", 2, []says{corfu, later, zante}, "Corfu [node] 20-90"},
		{"two camps", 1, []says{corfu, zante}, "not-vouched: the providers vouch for different holders: p0 vouches for Corfu"},
		{"one that is down could tip it", 2, []says{corfu, down, no}, "error: 2 of 3 providers must vouch, 1 do and 1 cannot tell now: p0 vouches for Corfu with the key ed25519:01; p1: no answer; p2: it was revoked"},
		{"one that is down could not tip it", 3, []says{corfu, down, no}, "not-vouched: 3 of 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var members []Member
			for i, s := range c.members {
				members = append(members, Member{fmt.Sprintf("p%d", i), s})
			}
			p, err := New(c.k, members)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: [][]byte{{1}}, Purpose: ca.Node})
			text := ""
			switch {
			case err != nil:
				text = "error: " + err.Error()
			case got.Refusal != nil:
				text = string(got.Refusal.Code) + ": " + got.Refusal.Reason
			default:
				text = fmt.Sprintf("%s %s %d-%d", got.Holder.Institution, got.Holder.Roles, got.Holder.NotBefore, got.Holder.NotAfter)
			}
			if !strings.HasPrefix(text, c.want) {
				t.Errorf("%s\nwant: %s", text, c.want)
			}
		})
	}
	t.Run("the paths of all who vouch for the holder", func(t *testing.T) {
		p, err := New(2, []Member{{"a", later}, {"b", zante}, {"c", corfu}, {"d", corfu}, {"e", otherKey}, {"f", no}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: [][]byte{{1}}, Purpose: ca.Node})
		if err != nil || got.Holder == nil || !slices.Equal(got.Holder.Paths, append(corfu.holder.Paths, later.holder.Paths...)) {
			t.Errorf("Verify = %+v, %v", got.Holder, err)
		}
	})
	for _, k := range []int{0, 3} {
		if _, err := New(k, make([]Member, 2)); err == nil {
			t.Errorf("New takes %d of 2", k)
		}
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
	p, err := New(2, []Member{member("a"), member("b")})
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
