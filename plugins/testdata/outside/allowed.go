package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Provider vouches for the certificates on a list. Its settings are the path of the file, which is read anew for each
// question, so that a line that is added or removed counts at once. A line is the fingerprint of a certificate, as
// `fondaco certificate status FILE` prints it, an institution and roles:
//
//	0x9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 bank-a node,operator
type Provider struct{ path string }

// Configure takes the settings.
func (p *Provider) Configure(_ context.Context, settings []byte) error {
	p.path = strings.TrimSpace(string(settings))
	_, err := os.Stat(p.path)
	return err
}

// Verify looks for the holder's certificate on the list. An error means that the list cannot be read: nobody is refused for that.
func (p *Provider) Verify(_ context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	if no := r.Check(); no != nil {
		return ca.VerifyResponse{Refusal: no}, nil
	}
	list, err := os.ReadFile(p.path)
	if err != nil {
		return ca.VerifyResponse{}, err
	}
	holder, no := judge(string(list), r)
	return ca.VerifyResponse{Holder: holder, Refusal: no}, nil
}

func judge(list string, r ca.VerifyRequest) (*ca.Holder, *ca.Refusal) {
	var chain []*x509.Certificate
	for i, der := range r.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, ca.Refuse(ca.Malformed, "certificate %d of the chain is not the DER of an X.509 certificate: %v", i+1, err)
		}
		chain = append(chain, c)
	}
	for i, c := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(c); err != nil || !bytes.Equal(chain[i].RawIssuer, c.RawSubject) {
			return nil, ca.Refuse(ca.WrongOrder, "certificate %d of the chain is not issued by the one behind it: send the holder's first, then that of its issuer", i+1)
		}
	}
	leaf, last := chain[0], chain[len(chain)-1]
	key, ok := leaf.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, ca.Refuse(ca.WrongAlgorithm, "the key of %s is not one of Ed25519: make one", leaf.Subject)
	}
	at := time.UnixMilli(r.At)
	switch {
	case at.Before(leaf.NotBefore):
		return nil, ca.Refuse(ca.NotYetValid, "the certificate of %s is valid from %s: check the clock, or wait", leaf.Subject, leaf.NotBefore)
	case !at.Before(leaf.NotAfter):
		return nil, ca.Refuse(ca.Expired, "the certificate of %s expired on %s: have it renewed", leaf.Subject, leaf.NotAfter)
	}
	fingerprint := identity.Fingerprint(keys.Std(), leaf.Raw)
	for line := range strings.Lines(list) {
		words := strings.Fields(line)
		if len(words) != 3 || words[0] != fingerprint.String() {
			continue
		}
		holder := &ca.Holder{
			Institution: words[1], Key: ledger.Key{Algorithm: keys.Ed25519, Bytes: key}, Serial: hex.EncodeToString(leaf.SerialNumber.Bytes()),
			NotBefore: leaf.NotBefore.UnixMilli(), NotAfter: leaf.NotAfter.UnixMilli(),
			// Nothing above the list is trusted: the way ends at the last certificate that was sent.
			Paths: []identity.Path{{Leaf: fingerprint, Root: identity.Fingerprint(keys.Std(), last.Raw)}},
		}
		for _, issuer := range chain[1:] {
			holder.Issuers = append(holder.Issuers, issuer.Subject.String())
		}
		for role := range strings.SplitSeq(words[2], ",") {
			holder.Roles = append(holder.Roles, identity.Role(role))
		}
		slices.Sort(holder.Roles)
		if want := r.Purpose.Role(); !slices.Contains(holder.Roles, want) {
			return nil, ca.Refuse(ca.WrongPurpose, "the certificate of %s is listed for the roles %q, and not for %s: have the line changed", leaf.Subject, holder.Roles, want)
		}
		return holder, nil
	}
	return nil, ca.Refuse(ca.UnknownRoot, "the certificate of %s is not on the list: have a line added with %s", leaf.Subject, fingerprint)
}

// The provider issues nothing, and has no revocation lists: whose line is removed does not count any more.

func unsupported() *ca.Refusal {
	return ca.Refuse(ca.Unsupported, "this provider only looks at its list: change the file")
}

// Enroll refuses.
func (*Provider) Enroll(context.Context, ca.EnrollRequest) (ca.IssueResponse, error) {
	return ca.IssueResponse{Refusal: unsupported()}, nil
}

// Renew refuses.
func (*Provider) Renew(context.Context, ca.RenewRequest) (ca.IssueResponse, error) {
	return ca.IssueResponse{Refusal: unsupported()}, nil
}

// Revoke refuses.
func (*Provider) Revoke(context.Context, ca.RevokeRequest) (ca.RevokeResponse, error) {
	return ca.RevokeResponse{Refusal: unsupported()}, nil
}

// Revoked has no lists.
func (*Provider) Revoked(context.Context, ca.RevokedRequest) (ca.RevokedResponse, error) {
	return ca.RevokedResponse{}, nil
}
