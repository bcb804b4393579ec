// Package catest is the conformance suite for CA providers: what a node relies on in a provider, checked before an institution
// runs it. The author of a provider runs it twice:
//
//	func TestProvider(t *testing.T) { catest.Run(t, provider, fixtures) }
//	func TestProgram(t *testing.T)  { catest.RunProgram(t, catest.Program{Path: "./build/provider", Settings: settings}, fixtures) }
//
// [Run] checks the provider in the test's own process. [RunProgram] starts the finished program as a node does and checks the same
// rules through the wire. Each rule is a subtest with a name; a failure says the rule and what the provider did.
//
// The suite asks about certificates that the fixtures hold: those of the author's own PKI, or what [PKI] makes, which
// writes roots and revocation lists into files that the provider's settings then name. A rule whose fixture is missing is
// skipped, and says what is missing.
//
// It is one of the packages with a compatibility promise: rules may be added in a later release.
package catest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
)

// Fixtures are certificates that the provider has been configured for. Chains are as ca.VerifyRequest takes them.
type Fixtures struct {
	At          time.Time // when Good counts
	Institution string    // of all holders
	Good        [][]byte  // a chain with the holder's certificate and at least that of its issuer
	Root        []byte    // the root that Good leads to
	Purpose     ca.Purpose
	Roles       []identity.Role // all of Good's holder
	Other       ca.Purpose      // what Good does not serve for; empty: it serves for all

	UnknownRoot    [][]byte  // ends at a root that the provider does not trust
	Revoked        [][]byte  // on the current list
	RevokedIssuer  [][]byte  // the issuer is on the current list of the root
	StaleAt        time.Time // Good is valid then, and all that is known of revocations too old; zero: the provider's lists never age
	Expired        [][]byte  // ended before At, the issuer did not
	NotYetValid    [][]byte  // begins after At, the issuer does not
	WrongAlgorithm [][]byte  // the holder's key is of an algorithm that is not in the manifest
	WeakSignature  [][]byte  // signed with SHA-1, or what else does not count for the provider
	WeakKey        [][]byte  // an issuer's key is too small
	PathLength     [][]byte  // an issuer below one that may have no issuers below it
	NotAuthority   [][]byte  // the issuer is no authority
	NameConstraint [][]byte  // the issuer may not issue for the name
	Forged         [][]byte  // names the issuer, and is not signed by it

	// Enroll is a request that the provider grants at At; nil: it only verifies. Verify then
	// vouches for what it issues.
	Enroll *ca.EnrollRequest
	CSR    []byte // another request, of another key, for Renew
}

// subject is a provider under test.
type subject struct {
	ca.Provider
	f Fixtures
}

type rule struct {
	name, says string
	check      func(ctx context.Context, s subject) error
}

// missingError says which fixture a rule lacks.
type missingError string

func (e missingError) Error() string { return "the fixture " + string(e) + " is missing" }

// Run checks a provider.
func Run(t *testing.T, p ca.Provider, f Fixtures) {
	t.Helper()
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			err := r.check(t.Context(), subject{p, f})
			if missing, ok := errors.AsType[missingError](err); ok {
				t.Skip(missing)
			}
			if err != nil {
				t.Errorf("rule %q, %s: %v", r.name, r.says, err)
			}
		})
	}
}

// Program is a provider program.
type Program struct {
	Path     string   // of the file; empty: the test's own binary, executed again
	Args     []string // without the program's name
	Settings []byte
}

// patience is how long a program may take, which is more than a node allows: the machine may be busy.
const patience = 30 * time.Second

// RunProgram checks a provider program, running it as a node does.
func RunProgram(t *testing.T, p Program, f Fixtures) {
	t.Helper()
	h, provider := start(t, p)
	t.Run("manifest", func(t *testing.T) {
		if m := provider.Manifest(); f.Enroll != nil && !m.Issues {
			t.Error("the manifest says that the program does not issue, and there is a request that it should grant")
		}
	})
	Run(t, provider, f)
	t.Run("alive", func(t *testing.T) {
		if st := h.Status()[0]; st.Restarts > 0 || !st.Healthy {
			t.Errorf("the program did not survive the suite: %+v", st)
		}
	})
}

// start runs a provider program until the test ends.
func start(t testing.TB, p Program) (*plugins.Host, *plugins.CA) {
	t.Helper()
	spec := plugins.Spec{Name: "ca", Path: p.Path, Args: p.Args, Config: p.Settings}
	if p.Path != "" {
		path, err := filepath.Abs(p.Path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v; build the program first", err)
		}
		spec.Path, spec.SHA256 = path, sha256.Sum256(data)
	}
	h := plugins.New(plugins.Config{Log: zerolog.Nop(), CATimeout: patience, StartTimeout: patience})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	provider, err := h.CA(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return h, provider
}

// BenchProgram measures a verdict on the good chain by a provider program that runs as for a node. A node asks for one when another one
// connects whose certificates it has no verdict about, and again while they are connected.
func BenchProgram(b *testing.B, p Program, f Fixtures) {
	b.Helper()
	_, provider := start(b, p)
	r := ca.VerifyRequest{Chain: f.Good, Purpose: f.Purpose, At: f.At.UnixMilli()}
	for b.Loop() {
		if v, err := provider.Verify(b.Context(), r); err != nil || v.Refusal != nil {
			b.Fatal(v.Refusal, err)
		}
	}
}

func rules() []rule {
	refused := func(name, says string, want ca.Code, chain func(Fixtures) [][]byte, fixture string) rule {
		return rule{name, says, func(ctx context.Context, s subject) error {
			c := chain(s.f)
			if c == nil {
				return missingError(fixture)
			}
			return s.refuses(ctx, ca.VerifyRequest{Chain: c, Purpose: s.f.Purpose, At: s.f.At.UnixMilli()}, want)
		}}
	}
	return []rule{
		{"good", "a good chain is vouched for, with institution, roles, key, serial and validity", good},
		{"fingerprints", "the paths are from what was asked about to the root that it leads to, by the fingerprints under the suite of the holder's key", fingerprints},
		{"time of the request", "a provider judges by the time of the request and not by its clock: expired after the end, not-yet-valid before the beginning", timeOfRequest},
		{"wrong purpose", "a certificate counts for no purpose whose role it does not have", func(ctx context.Context, s subject) error {
			if s.f.Other == "" {
				return missingError("Other")
			}
			r := s.good()
			r.Purpose = s.f.Other
			return s.refuses(ctx, r, ca.WrongPurpose)
		}},
		refused("expired", "a certificate that has ended is refused though its issuer has not", ca.Expired, func(f Fixtures) [][]byte { return f.Expired }, "Expired"),
		refused("not yet valid", "a certificate that has not begun is refused", ca.NotYetValid, func(f Fixtures) [][]byte { return f.NotYetValid }, "NotYetValid"),
		refused("revoked", "a revoked certificate is refused", ca.Revoked, func(f Fixtures) [][]byte { return f.Revoked }, "Revoked"),
		refused("revoked issuer", "a certificate of a revoked authority is refused", ca.Revoked, func(f Fixtures) [][]byte { return f.RevokedIssuer }, "RevokedIssuer"),
		{"stale list", "when all that is known of revocations is too old, no certificate counts", func(ctx context.Context, s subject) error {
			if s.f.StaleAt.IsZero() {
				return missingError("StaleAt")
			}
			r := s.good()
			r.At = s.f.StaleAt.UnixMilli()
			return s.refuses(ctx, r, ca.StaleList)
		}},
		refused("unknown root", "a chain to a root that is not configured is refused", ca.UnknownRoot, func(f Fixtures) [][]byte { return f.UnknownRoot }, "UnknownRoot"),
		{"wrong order", "a chain whose certificates are not each issued by the next is refused", func(ctx context.Context, s subject) error {
			r := s.good()
			r.Chain = slices.Clone(r.Chain)
			slices.Reverse(r.Chain)
			return s.refuses(ctx, r, ca.WrongOrder, ca.WrongPurpose) // the first one is an authority's
		}},
		{"a certificate twice", "a chain that repeats the holder's certificate is refused", func(ctx context.Context, s subject) error {
			r := s.good()
			r.Chain = slices.Insert(slices.Clone(r.Chain), 0, r.Chain[0])
			return s.refuses(ctx, r, ca.WrongOrder)
		}},
		{"too many certificates", "a chain of more than ca.MaxChain certificates is refused", func(ctx context.Context, s subject) error {
			r := s.good()
			for len(r.Chain) <= ca.MaxChain {
				r.Chain = append(slices.Clone(r.Chain), r.Chain[len(r.Chain)-1])
			}
			return s.refuses(ctx, r, ca.Malformed)
		}},
		{"no certificates", "an empty chain and an empty certificate are refused", func(ctx context.Context, s subject) error {
			for _, chain := range [][][]byte{nil, {{}}, {s.f.Good[0], {}}} {
				if err := s.refuses(ctx, ca.VerifyRequest{Chain: chain, Purpose: s.f.Purpose, At: s.f.At.UnixMilli()}, ca.Malformed); err != nil {
					return err
				}
			}
			return nil
		}},
		{"garbage", "what is no certificate, or is followed by something, is refused", garbage},
		{"changed", "no changed byte of a certificate passes", changed},
		{"another form", "a certificate whose signature is written otherwise is refused, and one with another signature of the same key has the same fingerprint: no freeze or revocation on chain is escaped by it", anotherForm},
		{"megabytes", "a certificate of a megabyte is refused", func(ctx context.Context, s subject) error {
			for _, large := range [][]byte{make([]byte, 1<<20), append(slices.Clone(s.f.Good[0]), make([]byte, 1<<20)...), bytes.Repeat([]byte{0x30, 0x80}, 1<<19)} {
				if err := s.refuses(ctx, ca.VerifyRequest{Chain: [][]byte{large}, Purpose: s.f.Purpose, At: s.f.At.UnixMilli()}, ca.Malformed); err != nil {
					return err
				}
			}
			return nil
		}},
		{"unknown purpose", "a purpose that the contract does not have is refused", func(ctx context.Context, s subject) error {
			r := s.good()
			r.Purpose = "everything"
			return s.refuses(ctx, r, ca.Malformed)
		}},
		refused("forged", "a certificate that its issuer did not sign is refused", ca.WrongOrder, func(f Fixtures) [][]byte { return f.Forged }, "Forged"),
		refused("wrong algorithm", "a key of an algorithm that is not in the manifest is refused", ca.WrongAlgorithm, func(f Fixtures) [][]byte { return f.WrongAlgorithm }, "WrongAlgorithm"),
		refused("weak signature", "a signature by an algorithm that is broken does not count", ca.WrongAlgorithm, func(f Fixtures) [][]byte { return f.WeakSignature }, "WeakSignature"),
		refused("weak key", "what a key signs that is too small does not count", ca.WrongAlgorithm, func(f Fixtures) [][]byte { return f.WeakKey }, "WeakKey"),
		refused("path length", "an issuer below one that may have none below it is refused", ca.Constraint, func(f Fixtures) [][]byte { return f.PathLength }, "PathLength"),
		refused("no authority", "what a holder's certificate issues is refused", ca.Constraint, func(f Fixtures) [][]byte { return f.NotAuthority }, "NotAuthority"),
		refused("name constraint", "a name that the issuer may not issue for is refused", ca.Constraint, func(f Fixtures) [][]byte { return f.NameConstraint }, "NameConstraint"),
		{"the same answer", "the same question has the same answer, also asked by many at once", same},
		{"lists", "what the provider says of its lists is within the limits", func(ctx context.Context, s subject) error {
			r, err := s.Provider.Revoked(ctx, ca.RevokedRequest{At: s.f.At.UnixMilli()})
			if err != nil {
				return err
			}
			if s.f.Revoked != nil && r.Refusal == nil && len(r.Lists) > 0 && !slices.ContainsFunc(r.Lists, func(l ca.List) bool { return len(l.Revoked) > 0 }) {
				return errors.New("no list names a certificate, though one is revoked")
			}
			return nil
		}},
		{"enrolment", "what is issued is vouched for, renewed, and after its revocation refused", enrolment},
		{"enrolment of garbage", "a request for a certificate that does not hold is refused", func(ctx context.Context, s subject) error {
			want := []ca.Code{ca.Malformed}
			r := ca.EnrollRequest{CSR: []byte{0x30, 0}, Institution: "x", At: s.f.At.UnixMilli()}
			if s.f.Enroll == nil {
				want = []ca.Code{ca.Unsupported}
			} else {
				r = *s.f.Enroll
				r.CSR = slices.Clone(r.CSR)
				r.CSR[len(r.CSR)-1] ^= 1 // its signature
			}
			got, err := s.Provider.Enroll(ctx, r)
			return refusedWith(got.Refusal, err, want...)
		}},
		{"unknown serial", "a certificate that the provider did not issue is neither renewed nor revoked", func(ctx context.Context, s subject) error {
			want := ca.UnknownSerial
			if s.f.Enroll == nil {
				want = ca.Unsupported
			}
			for _, serial := range []string{"0123456789abcdef", "../../etc/passwd", "zz"} {
				renewed, err := s.Provider.Renew(ctx, ca.RenewRequest{Serial: serial, At: s.f.At.UnixMilli()})
				if err := refusedWith(renewed.Refusal, err, want); err != nil {
					return fmt.Errorf("renewal of %q: %w", serial, err)
				}
				revoked, err := s.Provider.Revoke(ctx, ca.RevokeRequest{Serial: serial, At: s.f.At.UnixMilli()})
				if err := refusedWith(revoked.Refusal, err, want); err != nil {
					return fmt.Errorf("revocation of %q: %w", serial, err)
				}
			}
			return nil
		}},
	}
}

func (s subject) good() ca.VerifyRequest {
	return ca.VerifyRequest{Chain: s.f.Good, Purpose: s.f.Purpose, At: s.f.At.UnixMilli()}
}

// refuses asks and wants a refusal of one of the codes.
func (s subject) refuses(ctx context.Context, r ca.VerifyRequest, want ...ca.Code) error {
	got, err := s.Provider.Verify(ctx, r)
	if err == nil && got.Holder != nil {
		return fmt.Errorf("it vouches for %+v, want a refusal %v", *got.Holder, want)
	}
	return refusedWith(got.Refusal, err, want...)
}

func refusedWith(r *ca.Refusal, err error, want ...ca.Code) error {
	switch {
	case err != nil:
		return fmt.Errorf("it cannot tell: %w; want a refusal %v", err, want)
	case r == nil:
		return fmt.Errorf("it does it, want a refusal %v", want)
	case !slices.Contains(want, r.Code):
		return fmt.Errorf("it refuses with %s (%s), want %v", r.Code, r.Reason, want)
	case len(r.Reason) < 10:
		return fmt.Errorf("it refuses with the words %q, of which nobody knows what to do", r.Reason)
	}
	return nil
}

func granted(r *ca.Refusal, done bool, err error) error {
	switch {
	case err == nil && r != nil:
		return fmt.Errorf("it refuses with %s: %s", r.Code, r.Reason)
	case err == nil && !done:
		return errors.New("it answers with neither a certificate nor a refusal")
	}
	return err
}

// vouched asks and wants a holder.
func (s subject) vouched(ctx context.Context, r ca.VerifyRequest) (*ca.Holder, error) {
	got, err := s.Provider.Verify(ctx, r)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it cannot tell: %w", err)
	case got.Refusal != nil:
		return nil, fmt.Errorf("it refuses with %s: %s", got.Refusal.Code, got.Refusal.Reason)
	case got.Holder == nil:
		return nil, errors.New("it answers with neither a holder nor a refusal")
	}
	return got.Holder, nil
}

func good(ctx context.Context, s subject) error {
	h, err := s.vouched(ctx, s.good())
	if err != nil {
		return err
	}
	at := s.f.At.UnixMilli()
	switch {
	case h.Institution != s.f.Institution:
		return fmt.Errorf("the institution is %q, want %q", h.Institution, s.f.Institution)
	case !slices.Equal(h.Roles, s.f.Roles):
		return fmt.Errorf("the roles are %q, want %q", h.Roles, s.f.Roles)
	case h.Serial == "":
		return errors.New("there is no serial number")
	case h.NotBefore > at || h.NotAfter < at:
		return fmt.Errorf("it is valid from %d to %d, which does not hold %d", h.NotBefore, h.NotAfter, at)
	case len(h.Issuers) == 0:
		return errors.New("there are no issuers")
	case len(h.Key.Bytes) == 0:
		return errors.New("there is no key")
	}
	return nil
}

func fingerprints(ctx context.Context, s subject) error {
	h, err := s.vouched(ctx, s.good())
	if err != nil {
		return err
	}
	asked := ca.Fingerprints(h.Key.Algorithm, s.f.Good)
	for _, p := range h.Paths {
		if !slices.Contains(asked, p.Leaf) {
			return fmt.Errorf("a path begins with certificate %s, which was not asked about: those are %v", p.Leaf, asked)
		}
	}
	if s.f.Root == nil {
		return missingError("Root")
	}
	want := identity.Path{Leaf: asked[0], Root: ca.Fingerprints(h.Key.Algorithm, [][]byte{s.f.Root})[0]}
	if !slices.Contains(h.Paths, want) {
		return fmt.Errorf("the paths are %v, want %v among them", h.Paths, want)
	}
	return nil
}

func timeOfRequest(ctx context.Context, s subject) error {
	h, err := s.vouched(ctx, s.good())
	if err != nil {
		return err
	}
	late, early := s.good(), s.good()
	late.At = h.NotAfter + 1000
	early.At = h.NotBefore - 1000
	return errors.Join(s.refuses(ctx, late, ca.Expired), s.refuses(ctx, early, ca.NotYetValid))
}

func garbage(ctx context.Context, s subject) error {
	leaf := s.f.Good[0]
	for _, der := range [][]byte{{0}, {0x30}, {0x30, 0x80, 0, 0}, []byte("-----BEGIN CERTIFICATE-----"), leaf[:len(leaf)-1], append(slices.Clone(leaf), 0), bytes.Repeat([]byte{0x30, 0x82, 0xff, 0xff}, 100)} {
		r := s.good()
		r.Chain = slices.Clone(r.Chain)
		r.Chain[0] = der
		if err := s.refuses(ctx, r, ca.Malformed); err != nil {
			return fmt.Errorf("a chain that begins with %.20x…: %w", der, err)
		}
		r.Chain = append(slices.Clone(s.f.Good), der)
		if err := s.refuses(ctx, r, ca.Malformed); err != nil {
			return fmt.Errorf("a chain that ends with %.20x…: %w", der, err)
		}
	}
	return nil
}

// changed flips a bit of each byte of the holder's certificate in turn.
func changed(ctx context.Context, s subject) error {
	leaf := s.f.Good[0]
	for i := range leaf {
		r := s.good()
		r.Chain = slices.Clone(r.Chain)
		r.Chain[0] = slices.Clone(leaf)
		r.Chain[0][i] ^= 1 << (i % 8)
		got, err := s.Provider.Verify(ctx, r)
		if err != nil {
			return fmt.Errorf("byte %d changed: it cannot tell: %w", i, err)
		}
		if got.Holder != nil {
			return fmt.Errorf("byte %d changed: it vouches for %+v", i, *got.Holder)
		}
	}
	return nil
}

// anotherForm asks about what the holder, who cannot sign for the issuer, can make of the certificate.
func anotherForm(ctx context.Context, s subject) error {
	h, err := s.vouched(ctx, s.good())
	if err != nil {
		return err
	}
	ask := func(leaf []byte) ca.VerifyRequest {
		r := s.good()
		r.Chain = append([][]byte{leaf}, r.Chain[1:]...)
		return r
	}
	leaf := s.f.Good[0]
	for _, c := range []struct {
		what string
		make func([]byte) ([]byte, error)
	}{{"unused bits in its signature", UnusedBits}, {"something after its signature", followed}} {
		other, err := c.make(leaf)
		if err != nil {
			return err
		}
		if err := s.refuses(ctx, ask(other), ca.Malformed); err != nil {
			return fmt.Errorf("a certificate with %s: %w", c.what, err)
		}
	}
	other, err := OtherSignature(leaf, s.f.Good[1])
	if other == nil || err != nil {
		return err
	}
	got, err := s.Provider.Verify(ctx, ask(other))
	if err != nil {
		return fmt.Errorf("a certificate with the other signature of ECDSA: it cannot tell: %w", err)
	}
	if got.Holder != nil && !slices.Equal(got.Holder.Paths, h.Paths) {
		return fmt.Errorf("a certificate with the other signature of ECDSA has the paths %v, and had %v", got.Holder.Paths, h.Paths)
	}
	return nil
}

func same(ctx context.Context, s subject) error {
	first, err := s.vouched(ctx, s.good())
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wait.Go(func() {
			h, err := s.vouched(ctx, s.good())
			if err == nil && fmt.Sprint(*h) != fmt.Sprint(*first) {
				err = fmt.Errorf("it says %+v, and said %+v", *h, *first)
			}
			errs[i] = err
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func enrolment(ctx context.Context, s subject) error {
	if s.f.Enroll == nil {
		return missingError("Enroll")
	}
	at := s.f.At.UnixMilli()
	verify := func(issued *ca.Issued) ca.VerifyRequest {
		return ca.VerifyRequest{Chain: issued.Chain, Purpose: s.f.Purpose, At: at}
	}
	answer, err := s.Provider.Enroll(ctx, *s.f.Enroll)
	if err := granted(answer.Refusal, answer.Issued != nil, err); err != nil {
		return fmt.Errorf("the enrolment: %w", err)
	}
	h, err := s.vouched(ctx, verify(answer.Issued))
	if err != nil {
		return fmt.Errorf("what it issued: %w", err)
	}
	if h.Institution != s.f.Enroll.Institution || !slices.Equal(h.Roles, s.f.Enroll.Roles) {
		return fmt.Errorf("it issued for %+v, want %+v", *h, *s.f.Enroll)
	}
	if leaf := ca.Fingerprints(h.Key.Algorithm, answer.Issued.Chain)[0]; len(h.Paths) == 0 || h.Paths[0].Leaf != leaf {
		return fmt.Errorf("the paths of what it issued are %v, want them to begin with %s", h.Paths, leaf)
	}
	if e := answer.Issued.Encryption; e != nil {
		r := verify(answer.Issued)
		r.Chain = append([][]byte{e.Certificate}, r.Chain[1:]...)
		if err := s.refuses(ctx, r, ca.WrongPurpose); err != nil {
			return fmt.Errorf("the certificate for encryption: %w", err)
		}
	}
	renewed, err := s.Provider.Renew(ctx, ca.RenewRequest{Serial: h.Serial, CSR: s.f.CSR, At: at})
	if err := granted(renewed.Refusal, renewed.Issued != nil, err); err != nil {
		return fmt.Errorf("the renewal: %w", err)
	}
	second, err := s.vouched(ctx, verify(renewed.Issued))
	if err != nil {
		return fmt.Errorf("what it renewed: %w", err)
	}
	if second.Serial == h.Serial || second.Institution != h.Institution || !slices.Equal(second.Roles, h.Roles) || (len(s.f.CSR) > 0) == bytes.Equal(second.Key.Bytes, h.Key.Bytes) {
		return fmt.Errorf("it renewed %+v to %+v", *h, *second)
	}
	for range 2 { // revoking again changes nothing
		r, err := s.Provider.Revoke(ctx, ca.RevokeRequest{Serial: h.Serial, Reason: ca.Superseded, At: at})
		if err := granted(r.Refusal, true, err); err != nil {
			return fmt.Errorf("the revocation: %w", err)
		}
	}
	if err := s.refuses(ctx, verify(answer.Issued), ca.Revoked); err != nil {
		return fmt.Errorf("after its revocation: %w", err)
	}
	if r, err := s.Provider.Renew(ctx, ca.RenewRequest{Serial: h.Serial, At: at}); refusedWith(r.Refusal, err, ca.Revoked) != nil {
		return fmt.Errorf("renewal of a revoked certificate: %w", refusedWith(r.Refusal, err, ca.Revoked))
	}
	if _, err := s.vouched(ctx, verify(renewed.Issued)); err != nil {
		return fmt.Errorf("the renewed certificate, after the old one was revoked: %w", err)
	}
	return nil
}
