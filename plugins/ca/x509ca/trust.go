package x509ca

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
)

// trust is a Trust with the files that it names.
type trust struct {
	Trust
	lib           library
	roots         *file[[]*certificate]
	intermediates *file[[]*certificate] // nil: none
	revocation    *revocation           // nil: nothing is ever revoked
}

func newTrust(lib library, t Trust, fetching fetching, warn func(string)) (*trust, error) {
	out := &trust{Trust: t, lib: lib}
	var err error
	out.roots, err = newFile(t.Roots, warn, func(data []byte) ([]*certificate, error) { return parseAuthorities(lib, data) })
	if err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	if t.Intermediates != "" {
		out.intermediates, err = newFile(t.Intermediates, warn, func(data []byte) ([]*certificate, error) { return parseCertificates(lib, data) })
		if err != nil {
			return nil, fmt.Errorf("intermediates: %w", err)
		}
	}
	if t.Revocation != "none" {
		out.revocation, err = newRevocation(lib, t, fetching, warn)
	}
	return out, err
}

// parseAuthorities reads certificates at which chains may end.
func parseAuthorities(lib library, data []byte) ([]*certificate, error) {
	all, err := parseCertificates(lib, data)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if !c.authority {
			return nil, fmt.Errorf("%s is no certificate authority: its certificate issues no others", c.name())
		}
		if c.weakKey != nil {
			return nil, fmt.Errorf("the certificate of %s does not count: %w", c.name(), c.weakKey)
		}
	}
	return all, nil
}

// between returns the certificates with which chains are completed.
func (t *trust) between() []*certificate {
	if t.intermediates == nil {
		return nil
	}
	all, _ := t.intermediates.current()
	return all
}

// timeText is how messages write times.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// parseChain reads a chain and checks what does not depend on whom the provider trusts.
func parseChain(lib library, ders [][]byte, at time.Time) ([]*certificate, *ca.Refusal) {
	var chain []*certificate
	for i, der := range ders {
		c, err := lib.parse(der)
		if err != nil {
			return nil, ca.Refuse(ca.Malformed, "certificate %d of the chain is not the DER of an X.509 certificate: %v", i+1, err)
		}
		if c.weakKey != nil { // before anything is checked with it
			return nil, ca.Refuse(ca.WrongAlgorithm, "the certificate of %s does not count: %v", c.name(), c.weakKey)
		}
		chain = append(chain, c)
	}
	for i, c := range chain {
		last := i == len(chain)-1
		if c.weak != nil && !(last && c.selfIssued()) { // nobody relies on what a root says of itself
			return nil, ca.Refuse(ca.WrongAlgorithm, "the certificate of %s does not count: %v", c.name(), c.weak)
		}
		if r := checkTime(c, at); r != nil {
			return nil, r
		}
		if last {
			break
		}
		issuer := chain[i+1]
		if !bytes.Equal(c.rawIssuer, issuer.rawSubject) {
			return nil, ca.Refuse(ca.WrongOrder, "certificate %d of the chain, of %s, is not issued by the one behind it, of %s: send the holder's first, then that of its issuer, up to the root", i+1, c.name(), issuer.name())
		}
		if err := lib.checkIssued(c, issuer); err != nil {
			code := lib.explain(err)
			if code == ca.UnknownRoot {
				code = ca.WrongOrder
			}
			return nil, ca.Refuse(code, "the certificate of %s is not validly issued by %s: %v", c.name(), issuer.name(), err)
		}
	}
	leaf := chain[0]
	switch {
	case leaf.keyErr != nil:
		return nil, ca.Refuse(ca.WrongAlgorithm, "the certificate of %s cannot be used on this chain: %v", leaf.name(), leaf.keyErr)
	case leaf.authority:
		return nil, ca.Refuse(ca.WrongPurpose, "the certificate of %s is one of an authority, which issues others; use one that it issued", leaf.name())
	case leaf.encrypts():
		return nil, ca.Refuse(ca.WrongPurpose, "the certificate of %s is not for signing (key usage); of a pair of certificates use the one for signing", leaf.name())
	}
	return chain, nil
}

func checkTime(c *certificate, at time.Time) *ca.Refusal {
	if at.Before(c.notBefore) {
		return ca.Refuse(ca.NotYetValid, "the certificate of %s is valid from %s, and it is %s: check the clock, or wait", c.name(), timeText(c.notBefore), timeText(at))
	}
	if at.After(c.notAfter) {
		return ca.Refuse(ca.Expired, "the certificate of %s expired on %s, and it is %s: have it renewed", c.name(), timeText(c.notAfter), timeText(at))
	}
	return nil
}

// verify says whom the chain vouches for under this trust.
func (t *trust) verify(ctx context.Context, chain []*certificate, purpose ca.Purpose, at time.Time) (*ca.Holder, *ca.Refusal, error) {
	leaf := chain[0]
	roots, changed := t.roots.current()
	paths, err := t.lib.verify(leaf, append(slices.Clone(chain[1:]), t.between()...), roots, at)
	if err != nil {
		code := t.lib.explain(err)
		if code == ca.UnknownRoot {
			last, more := chain[len(chain)-1], ""
			if changed != nil {
				more = fmt.Sprintf("; the file of roots has changed since, and does not count: %v", changed)
			}
			return nil, ca.Refuse(code, "%s, issued by %s, leads to no root that is trusted here: send the certificates between it and the root, or have the root added to this node's CA settings%s", leaf.name(), nameText(last.issuer), more), nil
		}
		return nil, ca.Refuse(code, "the chain of %s does not hold: %v", leaf.name(), err), nil
	}
	// Any way to a root is as good as another: what differs is which authorities must not have been revoked, and how long
	// they last. A chain of blocks may name any of the roots, so all are told, and the validity is that of the longest.
	var best *ca.Holder
	var refusal *ca.Refusal
	var failed error
	for _, path := range paths {
		holder, r, err := t.judge(ctx, path, purpose, at)
		switch {
		case r != nil || err != nil:
			refusal, failed = cmp.Or(refusal, r), errors.Join(failed, err)
		case best == nil:
			best = holder
		default:
			all := append(best.Paths, holder.Paths...)
			if holder.NotAfter > best.NotAfter {
				best = holder
			}
			slices.SortFunc(all, identity.Path.Compare)
			all = slices.Compact(all)
			best.Paths = all[:min(len(all), ca.MaxPaths)]
		}
	}
	switch {
	case best != nil:
		return best, nil, nil
	case failed != nil:
		return nil, nil, failed
	}
	return nil, refusal, nil
}

// judge applies the settings to a way from the holder to a root whose signatures, times and constraints hold.
func (t *trust) judge(ctx context.Context, path []*certificate, purpose ca.Purpose, at time.Time) (*ca.Holder, *ca.Refusal, error) {
	leaf := path[0]
	suite := t.lib.suite()
	holder := &ca.Holder{
		Key: leaf.key, Serial: leaf.serial, NotBefore: leaf.notBefore.UnixMilli(), NotAfter: leaf.notAfter.UnixMilli(),
		Paths: []identity.Path{{Leaf: identity.Fingerprint(suite, leaf.raw), Root: identity.Fingerprint(suite, path[len(path)-1].raw)}},
	}
	if len(path) > ca.MaxChain+1 {
		return nil, ca.Refuse(ca.Constraint, "the chain of %s has %d certificates up to the root, want at most %d", leaf.name(), len(path), ca.MaxChain+1), nil
	}
	for i, c := range path {
		weak := c.weakKey
		if i < len(path)-1 { // nobody relies on what a root says of itself
			weak = cmp.Or(c.weak, weak)
		}
		if weak != nil {
			return nil, ca.Refuse(ca.WrongAlgorithm, "the certificate of %s does not count: %v", c.name(), weak), nil
		}
		holder.NotBefore = max(holder.NotBefore, c.notBefore.UnixMilli())
		holder.NotAfter = min(holder.NotAfter, c.notAfter.UnixMilli())
		if i > 0 {
			holder.Issuers = append(holder.Issuers, c.name())
		}
	}
	if r := t.describe(holder, leaf, path[1]); r != nil {
		return nil, r, nil
	}
	if want := purpose.Role(); !slices.Contains(holder.Roles, want) {
		return nil, ca.Refuse(ca.WrongPurpose, "the certificate of %s has the roles %q, and not %q, which the purpose %s needs: have one issued with the role", leaf.name(), holder.Roles, want, purpose), nil
	}
	if t.revocation != nil {
		for i := len(path) - 2; i >= 0; i-- { // from the root on, so that nothing is believed of an authority that was revoked
			if r, err := t.revocation.check(ctx, path[i], path[i+1], i == 0, at); r != nil || err != nil {
				return nil, r, err
			}
		}
	}
	return holder, nil, nil
}

// lists returns the newest revocation lists, of those authorities that a valid way from a root leads to.
func (t *trust) lists(at time.Time) []ca.List {
	if t.revocation == nil {
		return nil
	}
	roots, _ := t.roots.current()
	between := t.between()
	for _, root := range roots {
		if checkTime(root, at) == nil {
			t.revocation.newest(root, at)
		}
	}
	for _, c := range between {
		paths, err := t.lib.verify(c, between, roots, at)
		if err != nil {
			continue
		}
		for _, path := range paths {
			t.revocation.follow(path, at)
		}
	}
	return t.revocation.lists()
}

// describe fills in who the holder is.
func (t *trust) describe(holder *ca.Holder, leaf, issuer *certificate) *ca.Refusal {
	holder.Institution = t.Institution
	if holder.Institution == "" {
		if len(leaf.subject.Organization) != 1 {
			return ca.Refuse(ca.Unnamed, "the certificate of %s names %d organizations (O), want 1, the institution", leaf.name(), len(leaf.subject.Organization))
		}
		holder.Institution = leaf.subject.Organization[0]
		if err := checkName(holder.Institution); err != nil {
			return ca.Refuse(ca.Unnamed, "the organization (O) in the certificate of %s: %v", leaf.name(), err)
		}
	}
	if len(t.Institutions) > 0 && !slices.Contains(t.Institutions, holder.Institution) {
		return ca.Refuse(ca.Constraint, "CA %s is not trusted for institution %q, only for %q", issuer.name(), holder.Institution, t.Institutions)
	}
	units := leaf.subject.OrganizationalUnit
	if len(units) > 0 {
		holder.Agency = units[0]
		if err := checkName(holder.Agency); err != nil {
			return ca.Refuse(ca.Unnamed, "the unit (OU) in the certificate of %s: %v", leaf.name(), err)
		}
	}
	var roles []identity.Role
	for _, r := range leaf.roles {
		roles = append(roles, identity.Role(r))
	}
	for _, g := range t.Grant {
		if (g.Issuer == "" || g.Issuer == issuer.subject.CommonName) && (g.Unit == "" || slices.Contains(units, g.Unit)) {
			roles = append(roles, g.Roles...)
		}
	}
	slices.Sort(roles)
	roles = slices.Compact(roles)
	if len(roles) > ca.MaxRoles || slices.ContainsFunc(roles, func(r identity.Role) bool { return r == "" || len(r) > ca.MaxRole }) {
		return ca.Refuse(ca.Malformed, "the certificate of %s has %d roles, want at most %d of 1 to %d bytes", leaf.name(), len(roles), ca.MaxRoles, ca.MaxRole)
	}
	for _, r := range roles {
		if len(t.Roles) > 0 && !slices.Contains(t.Roles, r) {
			return ca.Refuse(ca.Constraint, "CA %s is not trusted for role %s, only for %s", issuer.name(), r, joinRoles(t.Roles))
		}
	}
	holder.Roles = roles
	return nil
}

func joinRoles(roles []identity.Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}
