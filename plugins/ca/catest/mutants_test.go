package catest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// wrong is a provider that answers all questions of a kind in the same way.
type wrong struct {
	verified ca.VerifyResponse
	issued   ca.IssueResponse
	revoked  ca.RevokeResponse
	lists    ca.RevokedResponse
	err      error
}

func (w wrong) Verify(context.Context, ca.VerifyRequest) (ca.VerifyResponse, error) {
	return w.verified, w.err
}

func (w wrong) Enroll(context.Context, ca.EnrollRequest) (ca.IssueResponse, error) {
	return w.issued, w.err
}

func (w wrong) Renew(context.Context, ca.RenewRequest) (ca.IssueResponse, error) {
	return w.issued, w.err
}

func (w wrong) Revoke(context.Context, ca.RevokeRequest) (ca.RevokeResponse, error) {
	return w.revoked, w.err
}

func (w wrong) Revoked(context.Context, ca.RevokedRequest) (ca.RevokedResponse, error) {
	return w.lists, w.err
}

// TestMutants runs the rules on providers that are wrong, and wants each rule to notice.
func TestMutants(t *testing.T) {
	noon := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	f := NewPKI(t, Standard(keys.P256), noon).Fixtures()
	f.Enroll = &ca.EnrollRequest{CSR: []byte{1}, Institution: Institution, Roles: []identity.Role{"node"}, At: noon.UnixMilli()}
	holder := &ca.Holder{
		Institution: Institution, Roles: f.Roles, Key: ledger.Key{Algorithm: keys.P256, Bytes: []byte{2}}, Serial: "01", NotBefore: noon.UnixMilli() - 1, NotAfter: noon.UnixMilli() + 1,
		Issuers: []string{"CN=Corfu Issuing CA"},
	}
	by := func(s keys.Suite, leaf, root []byte) ca.VerifyResponse {
		h := *holder
		h.Paths = []identity.Path{{Leaf: identity.Fingerprint(s, leaf), Root: identity.Fingerprint(s, root)}}
		return ca.VerifyResponse{Holder: &h}
	}
	vouches := []string{"good", "the same answer"}
	issued := &ca.Issued{Chain: f.Good}
	for _, m := range []struct {
		name     string
		provider wrong
		passes   []string // rules that it keeps all the same
	}{
		{"vouches for all and issues all", wrong{verified: by(keys.Std(), f.Good[0], f.Root), issued: ca.IssueResponse{Issued: issued}}, append(vouches, "fingerprints")},
		{"tells of no paths", wrong{verified: ca.VerifyResponse{Holder: holder}, issued: ca.IssueResponse{Issued: issued}}, vouches},
		{"takes the issuer's fingerprint for the root's", wrong{verified: by(keys.Std(), f.Good[0], f.Good[1]), issued: ca.IssueResponse{Issued: issued}}, vouches},
		{"takes the root's for the certificate's", wrong{verified: by(keys.Std(), f.Root, f.Root), issued: ca.IssueResponse{Issued: issued}}, vouches},
		{"hashes by the other suite", wrong{verified: by(keys.GM(), f.Good[0], f.Root), issued: ca.IssueResponse{Issued: issued}}, vouches},
		{"refuses all for one reason", wrong{
			verified: ca.VerifyResponse{Refusal: ca.Refuse("strange", "this is never trusted")}, issued: ca.IssueResponse{Refusal: ca.Refuse("strange", "this is never issued")},
			revoked: ca.RevokeResponse{Refusal: ca.Refuse("strange", "this is never revoked")}, lists: ca.RevokedResponse{Lists: []ca.List{{Issuer: "x"}}},
		}, []string{"changed"}},
		{"cannot tell", wrong{err: errors.New("no answer")}, nil},
		{"says nothing", wrong{lists: ca.RevokedResponse{Lists: []ca.List{{Issuer: "x"}}}}, []string{"changed"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			for _, r := range rules() {
				err := r.check(t.Context(), subject{m.provider, f})
				if missing, ok := errors.AsType[missingError](err); ok {
					t.Errorf("rule %q: %v", r.name, missing)
					continue
				}
				keeps := slices.Contains(m.passes, r.name) || m.name != "cannot tell" && r.name == "lists" && len(m.provider.lists.Lists) == 0
				if (err == nil) != keeps {
					t.Errorf("rule %q: %v, want it to pass: %t", r.name, err, keeps)
				}
			}
		})
	}
}
