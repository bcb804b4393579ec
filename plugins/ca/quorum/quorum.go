// Package quorum is a CA provider that asks several others: somebody is who k of them vouch for. It is the program ca-quorum.
//
// A holder who has certificates of several authorities sends them all as one chain: certificates and their issuers, one after
// the other. Each provider is asked about each of these chains and vouches if it vouches for one of them. What counts is that
// k providers vouch for the same key and the same institution; roles are those that k of them vouch for, and the validity is the time at which k do.
//
// It is public by path but promised nothing; plugins/ca has the promise.
package quorum

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
)

// MaxMembers is how many providers may be asked.
const MaxMembers = 16

// Member is one of the providers.
type Member struct {
	Name     string
	Provider ca.Provider
}

// Provider asks its members. Its methods are safe for concurrent use.
type Provider struct {
	k       int
	members []Member
}

var _ ca.Provider = (*Provider)(nil)

// New returns a provider that vouches for whom k of the members vouch.
func New(k int, members []Member) (*Provider, error) {
	if len(members) < 1 || len(members) > MaxMembers || k < 1 || k > len(members) {
		return nil, fmt.Errorf("k is %d of %d providers, want 1 to %d providers and k among them", k, len(members), MaxMembers)
	}
	return &Provider{k: k, members: slices.Clone(members)}, nil
}

// vote is what a member says.
type vote struct {
	holder *ca.Holder
	why    string // no holder
	failed bool   // it cannot tell now
}

// Verify implements ca.Provider. It fails if members that cannot tell now could make the k full.
func (p *Provider) Verify(ctx context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return ca.VerifyResponse{Refusal: refusal}, nil
	}
	chains := split(r.Chain)
	votes := make([]vote, len(p.members))
	var wait sync.WaitGroup
	for i, m := range p.members {
		wait.Go(func() { votes[i] = ask(ctx, m.Provider, r, chains) })
	}
	wait.Wait()

	// Who agrees on the key and the institution counts together.
	groups := make(map[string][]*ca.Holder)
	var order, reasons []string
	failed := 0
	for i, v := range votes {
		if v.holder == nil {
			reasons = append(reasons, p.members[i].Name+": "+v.why)
			if v.failed {
				failed++
			}
			continue
		}
		who := fmt.Sprintf("%s with the key %s:%x", v.holder.Institution, v.holder.Key.Algorithm, v.holder.Key.Bytes)
		if groups[who] == nil {
			order = append(order, who)
		}
		groups[who] = append(groups[who], v.holder)
		reasons = append(reasons, p.members[i].Name+" vouches for "+who)
	}
	var enough []string
	most := 0
	for _, who := range order {
		most = max(most, len(groups[who]))
		if len(groups[who]) >= p.k {
			enough = append(enough, who)
		}
	}
	said := strings.Join(reasons, "; ")
	switch {
	case len(enough) == 1:
		return p.answer(groups[enough[0]]), nil
	case len(enough) > 1:
		return ca.VerifyResponse{Refusal: ca.Refuse(ca.NotVouched, "the providers vouch for different holders: %s", said)}, nil
	case most+failed >= p.k:
		return ca.VerifyResponse{}, fmt.Errorf("%d of %d providers must vouch, %d do and %d cannot tell now: %s", p.k, len(p.members), most, failed, said)
	default:
		return ca.VerifyResponse{Refusal: ca.Refuse(ca.NotVouched, "%d of %d providers must vouch for the same key and institution, and %d do: %s", p.k, len(p.members), most, said)}, nil
	}
}

// ask asks a member about each chain until it vouches for one.
func ask(ctx context.Context, p ca.Provider, r ca.VerifyRequest, chains [][][]byte) vote {
	var reasons []string
	out := vote{}
	for _, chain := range chains {
		r.Chain = chain
		got, err := p.Verify(ctx, r)
		switch {
		case err != nil:
			out.failed = true
			reasons = append(reasons, err.Error())
		case got.Holder != nil:
			return vote{holder: got.Holder}
		case got.Refusal != nil:
			reasons = append(reasons, got.Refusal.Reason)
		default:
			out.failed = true
			reasons = append(reasons, "it answered with neither a holder nor a refusal")
		}
	}
	out.why = strings.Join(reasons, ", and ")
	return out
}

// answer puts together what k of the holders, which agree on key and institution, have in common.
func (p *Provider) answer(holders []*ca.Holder) ca.VerifyResponse {
	first := holders[0]
	out := &ca.Holder{Institution: first.Institution, Agency: first.Agency, Key: first.Key, Serial: first.Serial}
	count := make(map[identity.Role]int)
	var begins, ends []int64
	for _, h := range holders {
		for _, role := range h.Roles {
			if count[role]++; count[role] == p.k {
				out.Roles = append(out.Roles, role)
			}
		}
		begins, ends = append(begins, h.NotBefore), append(ends, h.NotAfter)
		for _, name := range h.Issuers {
			if len(out.Issuers) < ca.MaxChain && !slices.Contains(out.Issuers, name) {
				out.Issuers = append(out.Issuers, name)
			}
		}
		out.Paths = append(out.Paths, h.Paths...)
	}
	slices.SortFunc(out.Paths, identity.Path.Compare)
	out.Paths = slices.Compact(out.Paths)
	out.Paths = out.Paths[:min(len(out.Paths), ca.MaxPaths)]
	slices.Sort(out.Roles)
	slices.Sort(begins)
	slices.SortFunc(ends, func(a, b int64) int { return cmp.Compare(b, a) })
	out.NotBefore, out.NotAfter = begins[p.k-1], ends[p.k-1]
	return ca.VerifyResponse{Holder: out}
}

// split cuts what was sent where a certificate does not name the next as its issuer. What does not parse is left to the members.
func split(all [][]byte) [][][]byte {
	var chains [][][]byte
	for i, der := range all {
		if i > 0 && issues(all[i-1], der) {
			last := len(chains) - 1
			chains[last] = append(chains[last], der)
			continue
		}
		chains = append(chains, [][]byte{der})
	}
	return chains
}

// names is how far a certificate (RFC 5280 §4.1) is read here: the names in it, whatever its algorithms.
type names struct {
	Inner struct {
		Version   int `asn1:"optional,explicit,default:0,tag:0"`
		Serial    *big.Int
		Algorithm pkix.AlgorithmIdentifier
		Issuer    asn1.RawValue
		Validity  asn1.RawValue
		Subject   asn1.RawValue
	}
}

func issues(child, parent []byte) bool {
	var c, p names
	if _, err := asn1.Unmarshal(child, &c); err != nil {
		return true // one chain, of which a provider says what is wrong
	}
	if _, err := asn1.Unmarshal(parent, &p); err != nil {
		return true
	}
	return bytes.Equal(c.Inner.Issuer.FullBytes, p.Inner.Subject.FullBytes)
}

// Enroll, Renew and Revoke are refused: each authority issues for itself.

func only() *ca.Refusal {
	return ca.Refuse(ca.Unsupported, "this provider only asks others who vouches for whom; ask one of the authorities")
}

// Enroll implements ca.Provider.
func (*Provider) Enroll(context.Context, ca.EnrollRequest) (ca.IssueResponse, error) {
	return ca.IssueResponse{Refusal: only()}, nil
}

// Renew implements ca.Provider.
func (*Provider) Renew(context.Context, ca.RenewRequest) (ca.IssueResponse, error) {
	return ca.IssueResponse{Refusal: only()}, nil
}

// Revoke implements ca.Provider.
func (*Provider) Revoke(context.Context, ca.RevokeRequest) (ca.RevokeResponse, error) {
	return ca.RevokeResponse{Refusal: only()}, nil
}

// Revoked returns the lists of all members, and fails unless all of them answer.
func (p *Provider) Revoked(ctx context.Context, r ca.RevokedRequest) (ca.RevokedResponse, error) {
	var out ca.RevokedResponse
	var failed error
	for _, m := range p.members {
		got, err := m.Provider.Revoked(ctx, r)
		if err == nil && got.Refusal != nil {
			err = errors.New(got.Refusal.Reason)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", m.Name, err))
		}
		out.Lists = append(out.Lists, got.Lists...)
	}
	if failed != nil {
		return ca.RevokedResponse{}, failed
	}
	return out, nil
}
