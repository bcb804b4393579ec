// Package quorum is a CA provider that asks several others: somebody is who k of them vouch for. It is the program ca-quorum.
//
// A holder who has certificates of several authorities sends them all as one chain: certificates and their issuers, one after
// the other. Each provider is asked about each of these chains and vouches if it vouches for one of them. What counts is that
// k providers vouch for the same key and the same institution; roles are those that k of them vouch for, and the validity is the time at which k do.
//
// A provider that is slow or down is not waited for once k agree. With k of no more than half of the providers, two camps could each
// be enough: if both are heard in time the holder is refused, and else the first that is enough decides.
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
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/internal/wire"
	"github.com/fondaco/fondaco/state/identity"
)

// MaxMembers is how many providers may be asked.
const MaxMembers = 16

// Defaults of Config.
const (
	DefaultLimit  = 7 * time.Second       // less than what a node allows for the answer of all
	DefaultLinger = 50 * time.Millisecond // more than the answers of programs on one machine differ
)

// Config says who is asked. K and Members are required.
type Config struct {
	K       int
	Members []Member
	Limit   time.Duration // for members to answer, all at the same time; zero: DefaultLimit
	// Linger is how long those are waited for that have not answered when K agree, so that the roles of a holder do not depend
	// on who was quickest. Zero: DefaultLinger.
	Linger time.Duration
}

// Member is one of the providers.
type Member struct {
	Name     string
	Provider Asked
}

// Asked is what of a provider is used here.
type Asked interface {
	Verify(context.Context, ca.VerifyRequest) (ca.VerifyResponse, error)
	Revoked(context.Context, ca.RevokedRequest) (ca.RevokedResponse, error)
}

// Provider asks its members. Its methods are safe for concurrent use.
type Provider struct{ Config }

var _ ca.Provider = (*Provider)(nil)

// New returns a provider that vouches for whom K of the members vouch. It asks nobody yet.
func New(c Config) (*Provider, error) {
	if len(c.Members) < 1 || len(c.Members) > MaxMembers || c.K < 1 || c.K > len(c.Members) {
		return nil, fmt.Errorf("k is %d of %d providers, want 1 to %d providers and k among them", c.K, len(c.Members), MaxMembers)
	}
	c.Members = slices.Clone(c.Members)
	for i, m := range c.Members {
		if slices.ContainsFunc(c.Members[:i], func(other Member) bool { return other.Name == m.Name }) {
			return nil, fmt.Errorf("two providers are called %q: give each a name of its own", m.Name)
		}
	}
	c.Limit, c.Linger = cmp.Or(c.Limit, DefaultLimit), cmp.Or(c.Linger, DefaultLinger)
	return &Provider{c}, nil
}

// vote is what a member says.
type vote struct {
	holder *ca.Holder
	why    string // no holder
	failed bool   // it cannot tell now
	stale  bool   // what it knows of revocations is too old
}

// Verify implements ca.Provider. All members are asked at the same time. The answer comes as soon as K agree, or as soon as those who have not
// answered could not change it any more. It is an error if members that cannot tell now could make the K full, and the refusal is
// StaleList if members whose lists are too old could.
func (p *Provider) Verify(ctx context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return ca.VerifyResponse{Refusal: refusal}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.Limit)
	defer cancel() // nobody waits any more for who has not answered
	chains := split(r.Chain)
	type answer struct {
		member int
		vote   vote
	}
	answers := make(chan answer, len(p.Members))
	for i, m := range p.Members {
		go func() { answers <- answer{i, ask(ctx, m.Provider, r, chains)} }()
	}
	votes := make([]*vote, len(p.Members))
	var linger <-chan time.Time
	for {
		select {
		case a := <-answers:
			votes[a.member] = &a.vote
		case <-ctx.Done():
			for i := range votes {
				if votes[i] == nil {
					votes[i] = &vote{failed: true, why: "it did not answer in time"}
				}
			}
		case <-linger:
			return p.answer(p.count(votes).enough[0]), nil
		}
		c := p.count(votes)
		switch {
		case len(c.enough) == 1 && c.waiting > 0:
			if linger == nil {
				timer := time.NewTimer(p.Linger)
				defer timer.Stop()
				linger = timer.C
			}
		case len(c.enough) == 1:
			return p.answer(c.enough[0]), nil
		case len(c.enough) > 1:
			return ca.VerifyResponse{Refusal: ca.Refuse(ca.NotVouched, "the providers vouch for different holders: %s", p.words(votes))}, nil
		case c.most+c.waiting < p.K && c.most+c.failed >= p.K:
			return ca.VerifyResponse{}, fmt.Errorf("%d of %d providers must vouch, %d do and %d cannot tell now: %s", p.K, len(votes), c.most, c.failed, p.words(votes))
		case c.waiting == 0 && c.most+c.failed+c.stale >= p.K:
			return ca.VerifyResponse{Refusal: ca.Refuse(ca.StaleList, "%d of %d providers must vouch, %d do and %d know of revocations only what is too old: %s", p.K, len(votes), c.most, c.stale, p.words(votes))}, nil
		case c.most+c.waiting+c.failed+c.stale < p.K:
			return ca.VerifyResponse{Refusal: ca.Refuse(ca.NotVouched, "%d of %d providers must vouch for the same key and institution, and %d do: %s", p.K, len(votes), c.most, p.words(votes))}, nil
		}
	}
}

// count is how the votes stand.
type count struct {
	enough                       [][]*ca.Holder // each what at least K say of the same key and institution
	most, failed, stale, waiting int            // most: of those who agree
}

func (p *Provider) count(votes []*vote) count {
	var c count
	camps := make(map[string][]*ca.Holder)
	var order []string
	for _, v := range votes {
		switch {
		case v == nil:
			c.waiting++
		case v.holder != nil:
			who := whom(v.holder, len(v.holder.Key.Bytes))
			if camps[who] == nil {
				order = append(order, who)
			}
			camps[who] = append(camps[who], v.holder)
		case v.failed:
			c.failed++
		case v.stale:
			c.stale++
		}
	}
	for _, who := range order {
		c.most = max(c.most, len(camps[who]))
		if len(camps[who]) >= p.K {
			c.enough = append(c.enough, camps[who])
		}
	}
	return c
}

// whom names what members have to agree on, with so many bytes of the key.
func whom(h *ca.Holder, n int) string {
	return fmt.Sprintf("%s with the key %s:%x", h.Institution, h.Key.Algorithm, h.Key.Bytes[:min(n, len(h.Key.Bytes))])
}

// words tells what each member said, those who do not vouch first. All have the same share of what a refusal holds.
func (p *Provider) words(votes []*vote) string {
	share := max(ca.MaxReason*3/4/len(votes), 48)
	var no, yes []string
	for i, v := range votes {
		name := p.Members[i].Name
		switch {
		case v == nil:
			no = append(no, name+": it has not answered yet")
		case v.holder == nil:
			no = append(no, wire.Truncate(name+": "+v.why, share))
		default:
			yes = append(yes, wire.Truncate(name+" vouches for "+whom(v.holder, 8), share))
		}
	}
	return strings.Join(append(no, yes...), "; ")
}

// ask asks a member about each chain until it vouches for one. That it does not know the root of a chain is told only if it has nothing
// to say of any other: that chain is for another member.
func ask(ctx context.Context, p Asked, r ca.VerifyRequest, chains [][][]byte) vote {
	var reasons, foreign []string
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
		case got.Refusal != nil && got.Refusal.Code == ca.UnknownRoot:
			foreign = append(foreign, got.Refusal.Reason)
		case got.Refusal != nil:
			out.stale = out.stale || got.Refusal.Code == ca.StaleList
			reasons = append(reasons, got.Refusal.Reason)
		default:
			out.failed = true
			reasons = append(reasons, "it answered with neither a holder nor a refusal")
		}
	}
	if reasons == nil {
		reasons = foreign
	}
	out.why = strings.Join(slices.Compact(reasons), ", and ")
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
			if count[role]++; count[role] == p.K {
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
	out.NotBefore, out.NotAfter = begins[p.K-1], ends[p.K-1]
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

// Revoked returns the lists of the members that answer, as far as they fit into one answer ([ca.Fit]), and fails if fewer than K do: Verify goes by as many.
func (p *Provider) Revoked(ctx context.Context, r ca.RevokedRequest) (ca.RevokedResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Limit)
	defer cancel()
	lists, failed := make([][]ca.List, len(p.Members)), make([]error, len(p.Members))
	var wait sync.WaitGroup
	for i, m := range p.Members {
		wait.Go(func() {
			got, err := m.Provider.Revoked(ctx, r)
			if err == nil && got.Refusal != nil {
				err = got.Refusal
			}
			if err != nil {
				failed[i] = fmt.Errorf("%s: %w", m.Name, err)
			}
			lists[i] = got.Lists
		})
	}
	wait.Wait()
	if n := len(slices.DeleteFunc(slices.Clone(failed), func(err error) bool { return err != nil })); n < p.K {
		return ca.RevokedResponse{}, fmt.Errorf("%d of %d providers tell of their lists, and %d must vouch: %w", n, len(p.Members), p.K, errors.Join(failed...))
	}
	return ca.RevokedResponse{Lists: ca.Fit(slices.Concat(lists...))}, nil
}
