package precompiles

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// certificate is the fingerprint of the n-th certificate of the tests.
func certificate(n byte) keys.Digest { return keys.Digest{n, 0xce} }

// trusted is a root of an agency that may vouch for nodes and users of an institution, and counts at the time of the tests.
func trusted(institution, agency string, root byte) TrustedRoot {
	return TrustedRoot{Institution: institution, Authority: Authority{
		Agency: agency, Root: certificate(root), From: 1_000, Until: 1_000_000, Roles: []string{"node", "user"},
	}}
}

func need(institution, role string, n uint32) InstitutionPolicy {
	return InstitutionPolicy{Institution: institution, Policy: VouchPolicy{Role: role, Need: n}}
}

// path leads from the certificate that an authority issued in the tests to its root.
func path(root byte) identity.Path {
	return identity.Path{Leaf: certificate(100 + root), Root: certificate(root)}
}

// vouched says what the chain says of a node of bank-1 that has certificates of the authorities with these roots.
func (a *assembly) vouched(unixMilli int64, roots ...byte) error {
	c := &Credential{Institution: "bank-1", Role: "node"}
	for _, r := range roots {
		c.Paths = append(c.Paths, path(r))
	}
	return CheckCredential(a, c, unixMilli)
}

// said calls a method of the certificates as an institution's account.
func (a *assembly) said(caller, method string, args any) error {
	a.caller = name(caller)
	_, err := a.call(newCertificates(), method, args)
	return err
}

// wantRefusal checks that a refusal is denied for a reason that says so.
func wantRefusal(t *testing.T, err error, says string) {
	t.Helper()
	wantError(t, err, ledger.Denied, DeniedCertificate)
	if !strings.Contains(err.Error(), says) {
		t.Errorf("refused with %q, which does not say %q", err, says)
	}
}

func TestTrust(t *testing.T) {
	a := newAssembly(t, 4)
	const now = 5_000
	wantError(t, a.vouched(now, 7), ledger.OK, 0) // the group names no authority of bank-1: the provider decides

	a.pass(Reform{Trust: []TrustedRoot{trusted("bank-1", "one", 1)}})
	wantError(t, a.vouched(now, 1), ledger.OK, 0)
	wantRefusal(t, a.vouched(now, 7), "CA root "+certificate(7).String()+" is not trusted for institution bank-1")
	wantRefusal(t, a.vouched(now), "1 of the agencies one must vouch for role node of institution bank-1, and 0 did")
	wantRefusal(t, a.vouched(1_000_001, 1), "counts from 1970-01-01T00:00:01Z until 1970-01-01T00:16:40Z, and it is")
	wantError(t, a.vouched(1_000_000, 1), ledger.OK, 0)
	wantRefusal(t, CheckCredential(a, &Credential{Institution: "bank-1", Role: "regulator", Paths: []identity.Path{path(1)}}, now),
		"CA one, root "+certificate(1).String()+", is not trusted for role regulator of institution bank-1")
	wantError(t, CheckCredential(a, &Credential{Institution: "bank-2", Role: "node", Paths: []identity.Path{path(7)}}, now), ledger.OK, 0)
	wantRefusal(t, CheckCredential(a, &Credential{Institution: "bank-2", Role: "node"}, now), "there is no certificate")

	// Rotation: the agency has two roots for a while. They are one agency, whatever a policy counts.
	next := trusted("bank-1", "one", 2)
	next.Authority.Until = 2_000_000
	a.pass(Reform{Trust: []TrustedRoot{next}})
	wantError(t, a.vouched(now, 1), ledger.OK, 0)
	wantError(t, a.vouched(1_000_001, 2), ledger.OK, 0)
	_, err := a.propose(Reform{Policies: []InstitutionPolicy{need("bank-1", "node", 2)}})
	wantError(t, err, ledger.Aborted, AbortReform)

	// Two of three agencies.
	a.pass(Reform{
		Trust:    []TrustedRoot{trusted("bank-1", "two", 3), trusted("bank-1", "three", 4)},
		Policies: []InstitutionPolicy{need("bank-1", "node", 2)},
	})
	wantRefusal(t, a.vouched(now, 1, 2), "2 of the agencies one, three, two must vouch for role node of institution bank-1, and 1 did")
	wantError(t, a.vouched(now, 1, 4), ledger.OK, 0)
	wantError(t, a.vouched(now, 7, 3, 2), ledger.OK, 0)

	// One certificate is one voucher, though roots of two agencies certify its issuer.
	cross := &Credential{Institution: "bank-1", Role: "node", Paths: []identity.Path{
		{Leaf: certificate(99), Root: certificate(1)}, {Leaf: certificate(99), Root: certificate(4)}, {Leaf: certificate(99), Root: certificate(7)},
	}}
	wantRefusal(t, CheckCredential(a, cross, now), "2 of the agencies one, three, two must vouch for role node of institution bank-1, and 1 did")
	cross.Paths = append(cross.Paths, identity.Path{Leaf: certificate(98), Root: certificate(3)})
	wantError(t, CheckCredential(a, cross, now), ledger.OK, 0)
	wantError(t, a.said("bank-1", "freeze", StatusArgs{Fingerprint: certificate(98)}), ledger.OK, 0)
	wantRefusal(t, CheckCredential(a, cross, now), "certificate "+certificate(98).String()+" of institution bank-1 was frozen at height 7 (unspecified): a registrar or institution-admin of it can unfreeze it; 2 of the agencies")

	// All of them: a root that a motion takes away does not count any more, nor does its agency.
	a.pass(Reform{Policies: []InstitutionPolicy{need("bank-1", "node", 0)}})
	wantRefusal(t, a.vouched(now, 1, 4), "3 of the agencies")
	wantError(t, a.vouched(now, 1, 3, 4), ledger.OK, 0)
	a.pass(Reform{Distrust: []DistrustedRoot{{Institution: "bank-1", Root: certificate(3)}}})
	wantError(t, a.vouched(now, 1, 4), ledger.OK, 0)

	// The end of a root lowers nothing: three could vouch and cannot any more, so nobody is vouched for until a motion says what becomes of it.
	wantRefusal(t, a.vouched(1_000_001, 2), "2 of the agencies one, three must vouch for role node of institution bank-1, and 1 did; the last root of three ended, and a motion")
	wantRefusal(t, a.vouched(1_000_001, 2, 4), "CA three, root "+certificate(4).String()+", counts from")

	// Views.
	out, err := a.call(newCertificates(), "policy", PolicyArgs{Institution: "bank-1", Role: "node"})
	wantError(t, err, ledger.OK, 0)
	var standing *Standing
	if err := ledger.Unmarshal(out, &standing); err != nil || standing.Need != 2 || !slices.Equal(standing.Agencies, []string{"one", "three"}) {
		t.Errorf("policy = %+v, %v", standing, err)
	}
	a.order.UnixMilli = 1_000_001
	out, err = a.call(newCertificates(), "policy", PolicyArgs{Institution: "bank-1", Role: "node"})
	wantError(t, err, ledger.OK, 0)
	if err := ledger.Unmarshal(out, &standing); err != nil || standing.Need != 2 || !slices.Equal(standing.Agencies, []string{"one"}) {
		t.Errorf("policy after the end of three = %+v, %v", standing, err)
	}
	a.order.UnixMilli = now
	a.pass(Reform{Trust: []TrustedRoot{trusted("bank-2", "x", 1)}}) // another institution may have the same authority
	out, err = a.call(newCertificates(), "trusts", TrustsArgs{After: "bank-1"})
	wantError(t, err, ledger.OK, 0)
	var list []InstitutionTrust
	if err := ledger.Unmarshal(out, &list); err != nil || len(list) != 1 || list[0].Institution != "bank-2" || len(list[0].Row.Authorities) != 1 {
		t.Errorf("trusts after bank-1 = %+v, %v", list, err)
	}

	// All at once takes the group's word back.
	a.pass(Reform{Distrust: []DistrustedRoot{{Institution: "bank-2", Root: certificate(1)}}})
	if _, found, err := ReadTrust(a, "bank-2"); found || err != nil {
		t.Errorf("bank-2 has a row: %t, %v", found, err)
	}
}

func TestRefusedTrust(t *testing.T) {
	a := newAssembly(t, 4)
	a.pass(Reform{
		Trust:    []TrustedRoot{trusted("bank-1", "one", 1), trusted("bank-1", "two", 2)},
		Policies: []InstitutionPolicy{need("bank-1", "node", 2)},
	})
	with := func(change func(*Authority)) Reform {
		root := trusted("bank-2", "x", 9)
		change(&root.Authority)
		return Reform{Trust: []TrustedRoot{root}}
	}
	var many []TrustedRoot
	for i := range byte(MaxReform + 1) {
		many = append(many, trusted("bank-2", "x", 10+i))
	}
	for _, c := range []struct {
		story  string
		reform Reform
		code   uint32
	}{
		{"an unknown institution", Reform{Trust: []TrustedRoot{trusted("bank-9", "x", 9)}}, AbortInstitution},
		{"the root that is", Reform{Trust: []TrustedRoot{trusted("bank-1", "one", 1)}}, AbortReform},
		{"a root twice", Reform{Trust: []TrustedRoot{trusted("bank-2", "x", 9), trusted("bank-2", "y", 9)}}, AbortReform},
		{"a root both ways", Reform{Trust: []TrustedRoot{trusted("bank-1", "x", 1)}, Distrust: []DistrustedRoot{{Institution: "bank-1", Root: certificate(1)}}}, AbortReform},
		{"an unknown root goes", Reform{Distrust: []DistrustedRoot{{Institution: "bank-1", Root: certificate(9)}}}, AbortReform},
		{"too long a list", Reform{Trust: many}, AbortReform},
		{"no agency", with(func(a *Authority) { a.Agency = "" }), AbortReform},
		{"an agency with a long name", with(func(a *Authority) { a.Agency = strings.Repeat("x", MaxAgencyName+1) }), AbortReform},
		{"no root", with(func(a *Authority) { a.Root = keys.Digest{} }), AbortReform},
		{"no end", with(func(a *Authority) { a.Until = 0 }), AbortReform},
		{"an end before the beginning", with(func(a *Authority) { a.From = a.Until + 1 }), AbortReform},
		{"no role", with(func(a *Authority) { a.Roles = nil }), AbortReform},
		{"a role that is none", with(func(a *Authority) { a.Roles = []string{"Node"} }), AbortReform},
		{"unsorted roles", with(func(a *Authority) { a.Roles = []string{"user", "node"} }), AbortReform},
		{"nobody for nodes", with(func(a *Authority) { a.Roles = []string{"user"} }), AbortReform},
		{"nobody for nodes yet", with(func(a *Authority) { a.From = 5_001 }), AbortReform},
		{"nobody for nodes any more", with(func(a *Authority) { a.Until = 4_999 }), AbortReform},
		{"fewer agencies than the policy wants", Reform{Distrust: []DistrustedRoot{{Institution: "bank-1", Root: certificate(1)}}}, AbortReform},
		{"a policy of more agencies than there are", Reform{Policies: []InstitutionPolicy{need("bank-1", "user", 3)}}, AbortReform},
		{"a policy without agencies", Reform{Policies: []InstitutionPolicy{need("bank-2", "node", 0)}}, AbortReform},
		{"the policy that is", Reform{Policies: []InstitutionPolicy{need("bank-1", "node", 2)}}, AbortReform},
		{"the policy that is by default", Reform{Policies: []InstitutionPolicy{need("bank-1", "user", 1)}}, AbortReform},
		{"a policy twice", Reform{Policies: []InstitutionPolicy{need("bank-1", "user", 2), need("bank-1", "user", 0)}}, AbortReform},
		{"a policy for no role", Reform{Policies: []InstitutionPolicy{need("bank-1", "NODE", 0)}}, AbortReform},
		{"a policy beyond all bounds", Reform{Policies: []InstitutionPolicy{need("bank-1", "node", MaxAuthorities+1)}}, AbortReform},
	} {
		_, err := a.propose(c.reform)
		t.Run(c.story, func(t *testing.T) { wantError(t, err, ledger.Aborted, c.code) })
	}
	// What could be carried out when it was proposed may not be any more: the root ended meanwhile.
	id, err := a.propose(Reform{Trust: []TrustedRoot{trusted("bank-2", "x", 9)}})
	wantError(t, err, ledger.OK, 0)
	for _, by := range []string{"bank-1", "bank-2"} {
		wantError(t, a.by(by, "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	}
	account := a.account(t, name("bank-0"))
	wantError(t, MayActivate(a, a.Suite(), &account, mustMarshal(t, MotionArgs{ID: id}), 1_000_001, 8), ledger.Aborted, AbortReform)
	a.order.UnixMilli = 1_000_001
	wantError(t, a.by("bank-0", "activate", MotionArgs{ID: id}), ledger.Aborted, AbortReform)
}

func TestCertificateStatus(t *testing.T) {
	w := newWorld(t)
	c := newCertificates()
	by := func(caller, method string, args any) error {
		w.caller = name(caller)
		_, err := w.call(c, method, args)
		return err
	}
	leaf := &Credential{Institution: "alpha", Role: "node", Paths: []identity.Path{{Leaf: certificate(1)}}}
	one := CertificateArgs{Fingerprint: certificate(1)}
	hold := StatusArgs{Fingerprint: certificate(1), Reason: 6}
	for _, nobody := range []string{"user", "regulator", "committee"} {
		wantError(t, by(nobody, "freeze", hold), ledger.Denied, DeniedRole)
	}
	wantError(t, by("nobody", "freeze", hold), ledger.Denied, DeniedAccount)
	for _, bad := range []StatusArgs{{Reason: 1}, {Fingerprint: certificate(1), Reason: 7}, {Fingerprint: certificate(1), Reason: 8}, {Fingerprint: certificate(1), Reason: 11}} {
		wantError(t, by("admin", "freeze", bad), ledger.Aborted, AbortArguments)
	}
	wantError(t, by("registrar", "unfreeze", one), ledger.Aborted, AbortUnchanged)
	wantError(t, by("registrar", "freeze", hold), ledger.OK, 0)
	wantError(t, by("registrar", "freeze", hold), ledger.Aborted, AbortUnchanged)
	wantRefusal(t, CheckCredential(w, leaf, 0), "certificate "+certificate(1).String()+" of institution alpha was frozen at height 7 (certificate-hold)")
	wantError(t, by("admin", "unfreeze", one), ledger.OK, 0)
	wantError(t, CheckCredential(w, leaf, 0), ledger.OK, 0)

	// What another institution says of the certificate is no matter, and does not stand in the way.
	wantError(t, by("stranger", "revoke", StatusArgs{Fingerprint: certificate(1), Reason: 1}), ledger.OK, 0)
	wantError(t, CheckCredential(w, leaf, 0), ledger.OK, 0)
	w.order.Height = 9
	wantError(t, by("admin", "revoke", hold), ledger.Aborted, AbortArguments) // a hold is not for ever
	wantError(t, by("admin", "revoke", StatusArgs{Fingerprint: certificate(1), Reason: 1}), ledger.OK, 0)
	wantRefusal(t, CheckCredential(w, leaf, 0), "was revoked at height 9 (key-compromise)")
	wantError(t, by("admin", "unfreeze", one), ledger.Aborted, AbortUnchanged)
	wantError(t, by("admin", "freeze", hold), ledger.Aborted, AbortUnchanged)
	wantError(t, by("admin", "revoke", StatusArgs{Fingerprint: certificate(1), Reason: 4}), ledger.Aborted, AbortUnchanged)
	if want := []string{"frozen", "unfrozen", "revoked", "revoked"}; !slices.Equal(w.events, want) {
		t.Errorf("events %v, want %v", w.events, want)
	}

	wantError(t, by("registrar", "freeze", StatusArgs{Fingerprint: certificate(0), Reason: 6}), ledger.OK, 0)
	list := func(method string, args any) (said []string) {
		t.Helper()
		out, err := w.call(c, method, args)
		wantError(t, err, ledger.OK, 0)
		var found []ListedCertificate
		if err := ledger.Unmarshal(out, &found); err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			said = append(said, fmt.Sprintf("%d %s %s", f.Fingerprint[0], f.Institution, f.Row.Status))
		}
		return said
	}
	if got, want := list("status", one), []string{"1 alpha revoked", "1 beta revoked"}; !slices.Equal(got, want) {
		t.Errorf("status = %q, want %q", got, want)
	}
	if got, want := list("statuses", CertificatesArgs{}), []string{"0 alpha frozen", "1 alpha revoked", "1 beta revoked"}; !slices.Equal(got, want) {
		t.Errorf("statuses = %q, want %q", got, want)
	}
	if got, want := list("statuses", CertificatesArgs{Fingerprint: certificate(1), Institution: "alpha"}), []string{"1 beta revoked"}; !slices.Equal(got, want) {
		t.Errorf("statuses after alpha's = %q, want %q", got, want)
	}
}

// TestTrustAtRandom makes motions at random: whatever the group accepts, the institution can be vouched for, for its
// nodes and wherever it has a policy, by some of its authorities at the time of the motion.
func TestTrustAtRandom(t *testing.T) {
	const seed = 6
	random := rand.New(rand.NewPCG(seed, seed))
	roles := [][]string{{"node"}, {"user"}, {"node", "user"}}
	a := newAssembly(t, 1)
	accepted, named := 0, 0
	for range 3_000 {
		a.order.UnixMilli += random.Int64N(50)
		var f Reform
		for range random.IntN(3) {
			root := trusted("bank-0", string(rune('a'+random.IntN(3))), byte(1+random.IntN(6)))
			root.Authority.From = a.order.UnixMilli - 100 + random.Int64N(200)
			root.Authority.Until = root.Authority.From + random.Int64N(2_000)
			root.Authority.Roles = roles[random.IntN(len(roles))]
			f.Trust = append(f.Trust, root)
		}
		for range random.IntN(2) {
			f.Distrust = append(f.Distrust, DistrustedRoot{Institution: "bank-0", Root: certificate(byte(1 + random.IntN(6)))})
		}
		if random.IntN(10) == 0 {
			f.RealNames = append(f.RealNames, InstitutionNames{Institution: "bank-0", Required: random.IntN(2) == 0})
		}
		for range random.IntN(2) {
			f.Policies = append(f.Policies, need("bank-0", roles[random.IntN(2)][0], random.Uint32N(5)))
		}
		id, err := a.propose(f)
		if err != nil {
			continue
		}
		accepted++
		wantError(t, a.by("bank-0", "activate", MotionArgs{ID: id}), ledger.OK, 0)
		a.endEpoch()
		trust, found, err := ReadTrust(a, "bank-0")
		if err != nil {
			t.Fatal(err)
		}
		if required, err := realNames(a, "bank-0"); required != trust.RealNames || err != nil {
			t.Fatalf("after %d motions of seed %d, %+v: real names %t, and the row says %t; %v", accepted, seed, f, required, trust.RealNames, err)
		}
		if trust.RealNames {
			named++
		}
		if !found {
			continue
		}
		check := []string{"node"}
		if trust.RealNames {
			check = append(check, "user")
		}
		for _, p := range trust.Policies {
			check = append(check, p.Role)
		}
		all := &Credential{Institution: "bank-0"}
		for _, authority := range trust.Authorities {
			all.Paths = append(all.Paths, path(authority.Root[0]))
		}
		if len(all.Paths) == 0 {
			t.Fatal("a row without authorities")
		}
		for _, role := range check {
			all.Role = identity.Role(role)
			if err := CheckCredential(a, all, a.order.UnixMilli); err != nil {
				t.Fatalf("after %d motions of seed %d, %+v, nobody can vouch for role %s: %v", accepted, seed, f, role, err)
			}
		}
	}
	if accepted < 100 || named < 10 {
		t.Errorf("%d motions were accepted, with real names after %d, too few to tell", accepted, named)
	}
}

// binding is one to certificate n that no root is named for.
func binding(n byte) *Binding {
	return &Binding{Paths: []identity.Path{{Leaf: certificate(n)}}, Until: 1_000_000}
}

// contract is something that is called without governing.
var contract = ledger.Target{Address: ledger.Address{1}}

// office calls as accounts of the world, by their names.
type office struct {
	*world
	t *testing.T
}

func (o office) do(caller string, c Contract, method string, args any) error {
	o.caller = name(caller)
	_, err := o.call(c, method, args)
	return err
}

// certify binds an account to certificate n; 0: to none.
func (o office) certify(caller, account string, n byte) error {
	args := CertifyArgs{Account: name(account)}
	if n > 0 {
		args.Certificate = binding(n)
	}
	return o.do(caller, newAccounts(), "certify", args)
}

// say freezes or revokes certificate n, or whatever the method does.
func (o office) say(caller, method string, n byte) error {
	if method == "unfreeze" {
		return o.do(caller, newCertificates(), method, CertificateArgs{Fingerprint: certificate(n)})
	}
	return o.do(caller, newCertificates(), method, StatusArgs{Fingerprint: certificate(n)})
}

func (o office) maySend(account string, to ledger.Target) error {
	o.t.Helper()
	a := o.account(o.t, name(account))
	return a.MaySend(o, name(account), to, "transfer", o.order.UnixMilli)
}

// bound returns who of an institution goes by certificate n, by the view.
func (o office) bound(n byte, institution string) (list []ledger.Address) {
	o.t.Helper()
	out, err := o.call(newCertificates(), "bound", BoundArgs{Fingerprint: certificate(n), Institution: institution})
	if err == nil {
		err = ledger.Unmarshal(out, &list)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return list
}

func TestAccountCertificates(t *testing.T) {
	w := office{newWorld(t), t}

	// A person has two accounts and one certificate: one at registration, the other later.
	w.caller = name("registrar")
	out, err := w.call(newAccounts(), "register", RegisterArgs{Institution: "alpha", Accounts: []NewAccount{
		{Threshold: 1, Keys: []AccountKey{bound(newKey(t, 50))}, Certificate: binding(1)}, {Threshold: 1, Keys: []AccountKey{bound(newKey(t, 51))}},
	}})
	wantError(t, err, ledger.OK, 0)
	var made []ledger.Address
	if err := ledger.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.certify("registrar", "user", 1), ledger.OK, 0)
	wantError(t, w.certify("registrar", "user", 1), ledger.Aborted, AbortUnchanged)
	if a := w.account(t, made[0]); !a.Certificate.equal(binding(1)) {
		t.Errorf("the account goes by %+v", a.Certificate)
	}
	if a := w.account(t, made[1]); a.Certificate != nil {
		t.Errorf("the other account goes by %+v", a.Certificate)
	}

	// An institution that binds its account to the same one first, or later, keeps nobody out.
	wantError(t, w.certify("regulator", "regulator", 2), ledger.OK, 0)
	wantError(t, w.certify("registrar", "user", 2), ledger.OK, 0)
	wantError(t, w.certify("registrar", "user", 1), ledger.OK, 0)
	wantError(t, w.certify("regulator", "regulator", 1), ledger.OK, 0)
	want := []ledger.Address{made[0], name("user")}
	slices.SortFunc(want, func(a, b ledger.Address) int { return bytes.Compare(a[:], b[:]) })
	if got := w.bound(1, "alpha"); !slices.Equal(got, want) {
		t.Errorf("bound to certificate 1: %v, want %v", got, want)
	}
	if got := w.bound(1, "beta"); !slices.Equal(got, []ledger.Address{name("regulator")}) {
		t.Errorf("of beta, bound to certificate 1: %v", got)
	}
	if got := append(w.bound(2, "alpha"), w.bound(2, "beta")...); len(got) > 0 {
		t.Errorf("bound to certificate 2: %v", got)
	}

	// While it is frozen, the account sends nothing and its state stays; what another institution says is no matter.
	wantError(t, w.say("stranger", "revoke", 1), ledger.OK, 0)
	wantError(t, w.maySend("user", contract), ledger.OK, 0)
	wantRefusal(t, w.maySend("regulator", contract), "of institution beta was revoked")
	wantError(t, w.say("admin", "freeze", 1), ledger.OK, 0)
	wantRefusal(t, w.maySend("user", contract), "was frozen at height 7")
	wantError(t, w.do("user", newAccounts(), "bind", BindArgs{Keys: []AccountKey{bound(newKey(t, 60))}, Threshold: 1}), ledger.Denied, DeniedCertificate)
	wantError(t, w.certify("admin", "registrar", 1), ledger.Aborted, AbortCertificate)
	wantError(t, w.say("admin", "unfreeze", 1), ledger.OK, 0)
	wantError(t, w.maySend("user", contract), ledger.OK, 0)

	// Once revoked it stays so; another certificate, or none, restores the account.
	wantError(t, w.say("admin", "revoke", 1), ledger.OK, 0)
	wantRefusal(t, w.maySend("user", contract), "was revoked at height 7")
	wantError(t, w.certify("registrar", "user", 2), ledger.OK, 0)
	wantError(t, w.maySend("user", contract), ledger.OK, 0)
	wantError(t, w.certify("registrar", "user", 0), ledger.OK, 0)
	wantError(t, w.certify("registrar", "user", 0), ledger.Aborted, AbortUnchanged)
	if keysOf := w.account(t, name("user")).Keys; len(keysOf) != 1 {
		t.Errorf("the account has %d keys, want the one it had", len(keysOf))
	}

	// When it has ended, the account sends nothing either.
	wantError(t, w.certify("registrar", "user", 3), ledger.OK, 0)
	w.order.UnixMilli = 1_000_000
	wantError(t, w.maySend("user", contract), ledger.OK, 0)
	w.order.UnixMilli++
	wantRefusal(t, w.maySend("user", contract), "counted until 1970-01-01T00:16:40Z, and block time is")
	wantError(t, w.certify("registrar", "registrar", 4), ledger.Denied, DeniedRole)
	wantError(t, w.certify("registrar", "user", 4), ledger.Aborted, AbortCertificate)
}

// TestWhoCertifies has everybody bind everybody.
func TestWhoCertifies(t *testing.T) {
	may := map[string][]string{ // who binds whom
		"admin": {"admin", "registrar", "user"}, "registrar": {"user"}, "stranger": {"stranger"}, "regulator": {"regulator"}, "committee": {"committee"},
	}
	everybody := []string{"admin", "registrar", "user", "stranger", "regulator", "committee"}
	for _, caller := range everybody {
		for _, account := range everybody {
			t.Run(caller+" binds "+account, func(t *testing.T) {
				w := office{newWorld(t), t}
				err := w.certify(caller, account, 1)
				e, _ := errors.AsType[*Error](err)
				if slices.Contains(may[caller], account) {
					wantError(t, err, ledger.OK, 0)
				} else if e == nil || e.Status != ledger.Denied || e.Code != DeniedRole && e.Code != DeniedInstitution {
					t.Errorf("got %v, want a refusal for the role or the institution", err)
				}
			})
		}
	}
	t.Run("nobody", func(t *testing.T) {
		w := office{newWorld(t), t}
		wantError(t, w.certify("nobody", "user", 1), ledger.Denied, DeniedAccount)
		wantError(t, w.certify("admin", "nobody", 1), ledger.Aborted, AbortMissing)
	})
	for _, c := range []struct {
		story  string
		change func(*Binding)
		code   uint32
	}{
		{"no path", func(b *Binding) { b.Paths = nil }, AbortArguments},
		{"more paths than authorities", func(b *Binding) {
			for n := range byte(MaxAuthorities) {
				b.Paths = append(b.Paths, identity.Path{Leaf: certificate(n + 2)})
			}
		}, AbortArguments},
		{"no fingerprint", func(b *Binding) { b.Paths[0].Leaf = keys.Digest{} }, AbortCertificate},
		{"a path twice", func(b *Binding) { b.Paths = append(b.Paths, b.Paths[0]) }, AbortArguments},
		{"a root for one of two", func(b *Binding) {
			b.Paths = append(b.Paths, identity.Path{Leaf: certificate(2), Root: certificate(3)})
		}, AbortArguments},
		{"ended", func(b *Binding) { b.Until = 4_999 }, AbortCertificate},
		{"for a key that is not the account's", func(b *Binding) { b.Key = new(newKey(t, 60)) }, AbortCertificate},
		{"two of which one is frozen", func(b *Binding) {
			b.Paths = append(b.Paths, identity.Path{Leaf: certificate(9)})
		}, AbortCertificate},
	} {
		t.Run(c.story, func(t *testing.T) {
			w := office{newWorld(t), t}
			wantError(t, w.say("admin", "freeze", 9), ledger.OK, 0)
			args := CertifyArgs{Account: name("user"), Certificate: binding(1)}
			c.change(args.Certificate)
			wantError(t, w.do("registrar", newAccounts(), "certify", args), ledger.Aborted, c.code)
		})
	}
}

// TestWhoIsStopped says of certificates by which everybody goes what registrar and admin may, and sees who is stopped.
func TestWhoIsStopped(t *testing.T) {
	governing := ledger.Target{Address: AccessAddress}
	named := ledger.Target{Address: AccessAddress, Name: "access"} // who is called by a name may change
	stopped := func(t *testing.T, w office, account string, calls, governs bool) {
		t.Helper()
		if err := w.maySend(account, contract); (err != nil) != calls {
			t.Errorf("%s calls a contract: %v, want it stopped: %t", account, err, calls)
		}
		if err := w.maySend(account, ledger.Target{Address: ContractsAddress}); (err != nil) != calls {
			t.Errorf("%s deploys a contract: %v, want it stopped: %t", account, err, calls)
		}
		if err := w.maySend(account, named); (err != nil) != calls {
			t.Errorf("%s calls a name: %v, want it stopped: %t", account, err, calls)
		}
		if err := w.maySend(account, governing); (err != nil) != governs {
			t.Errorf("%s governs: %v, want it stopped: %t", account, err, governs)
		}
	}
	// All of alpha: admin and deputy have the role institution-admin, member the role committee.
	begin := func(t *testing.T) office {
		w := office{newWorld(t), t}
		for _, made := range []struct {
			name  string
			roles []string
		}{{"deputy", []string{"institution-admin"}}, {"member", []string{"committee", "institution-admin"}}} {
			a := &Account{Version: ledger.Version, Institution: "alpha", Threshold: 1, Roles: made.roles, Keys: []AccountKey{bound(newKey(t, 70))}}
			if err := putAccount(w, name(made.name), a, nil); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, w.certify("registrar", "user", 1), ledger.OK, 0)
		wantError(t, w.certify("admin", "deputy", 2), ledger.OK, 0)
		wantError(t, w.certify("member", "member", 3), ledger.OK, 0)
		wantError(t, w.certify("admin", "registrar", 4), ledger.OK, 0)
		return w
	}
	for _, method := range []string{"freeze", "revoke"} {
		t.Run("a registrar does "+method, func(t *testing.T) {
			w := begin(t)
			for n := byte(1); n <= 3; n++ {
				wantError(t, w.say("registrar", method, n), ledger.OK, 0)
			}
			stopped(t, w, "user", true, true)
			stopped(t, w, "deputy", true, false)
			stopped(t, w, "member", true, false)
			wantError(t, w.say("registrar", method, 4), ledger.Aborted, AbortCertificate) // its own

			// An admin says so too, which weighs more; the registrar changes it no more.
			wantError(t, w.say("deputy", method, 2), ledger.Aborted, AbortCertificate) // its own
			wantError(t, w.say("admin", method, 2), ledger.OK, 0)
			wantError(t, w.say("admin", method, 2), ledger.Aborted, AbortUnchanged)
			stopped(t, w, "deputy", true, true)
			if method == "freeze" {
				wantError(t, w.say("registrar", "unfreeze", 2), ledger.Denied, DeniedRole)
				wantError(t, w.say("registrar", "revoke", 2), ledger.Denied, DeniedRole)
				wantError(t, w.say("admin", "unfreeze", 2), ledger.OK, 0)
				stopped(t, w, "deputy", false, false)
			}
		})
		t.Run("an admin does "+method, func(t *testing.T) {
			w := begin(t)
			for n := byte(1); n <= 4; n++ {
				wantError(t, w.say("admin", method, n), ledger.OK, 0)
			}
			stopped(t, w, "user", true, true)
			stopped(t, w, "registrar", true, true)
			stopped(t, w, "deputy", true, true)
			stopped(t, w, "member", true, false)
			stopped(t, w, "admin", false, false)
			wantError(t, w.say("deputy", "unfreeze", 2), ledger.Denied, DeniedCertificate)
		})
	}
	t.Run("time", func(t *testing.T) {
		w := begin(t)
		w.order.UnixMilli = 1_000_001
		stopped(t, w, "user", true, true)
		stopped(t, w, "registrar", true, true)
		stopped(t, w, "deputy", true, false)
		stopped(t, w, "member", true, false)
		args := CertifyArgs{Account: name("deputy"), Certificate: binding(5)}
		args.Certificate.Until = 2_000_000
		wantError(t, w.do("deputy", newAccounts(), "certify", args), ledger.OK, 0) // it binds itself to the next
		stopped(t, w, "deputy", false, false)
	})
	t.Run("a freeze of the account", func(t *testing.T) {
		w := begin(t)
		by := func(caller, account string) error {
			return w.do(caller, newAccess(), "freeze", FreezeArgs{Account: name(account), Reason: "suspicion"})
		}
		wantError(t, by("admin", "admin"), ledger.Denied, DeniedRole)
		wantError(t, by("admin", "member"), ledger.Denied, DeniedRole)
		wantError(t, by("regulator", "member"), ledger.OK, 0)
		stopped(t, w, "member", true, true)
		wantError(t, w.maySend("member", ledger.Target{Address: GovernanceAddress}), ledger.OK, 0)
		wantError(t, w.do("admin", newAccess(), "revoke", RoleArgs{Account: name("admin"), Role: "institution-admin"}), ledger.Aborted, AbortRole)
		wantError(t, w.do("admin", newAccess(), "revoke", RoleArgs{Account: name("deputy"), Role: "institution-admin"}), ledger.OK, 0)
	})
}

// TestRegulatorsCertificate is the story of a regulator whose certificate ends, and of whose next one an admin says that it is revoked. It goes on governing, and
// binds itself to another; a registrar says nothing of what it goes by. A recovery leaves no certificate that the holder of the old key chose.
func TestRegulatorsCertificate(t *testing.T) {
	w := office{newWorld(t), t}
	clerk := &Account{Version: ledger.Version, Institution: "beta", Threshold: 1, Roles: []string{"registrar"}, Keys: []AccountKey{bound(newKey(t, 80))}}
	if err := putAccount(w, name("clerk"), clerk, nil); err != nil {
		t.Fatal(err)
	}
	governs := func() {
		t.Helper()
		for _, to := range []ledger.Address{GovernanceAddress, AccessAddress, AccountsAddress} {
			wantError(t, w.maySend("regulator", ledger.Target{Address: to}), ledger.OK, 0)
		}
	}
	binds := func(n byte) error {
		b := binding(n)
		b.Until = w.order.UnixMilli + 1_000_000
		return w.do("regulator", newAccounts(), "certify", CertifyArgs{Account: name("regulator"), Certificate: b})
	}
	wantError(t, binds(1), ledger.OK, 0)
	w.order.UnixMilli += 1_000_001
	wantRefusal(t, w.maySend("regulator", contract), "counted until")
	governs()
	wantError(t, w.do("regulator", newAccess(), "freeze", FreezeArgs{Account: name("user"), Reason: "suspicion"}), ledger.OK, 0)
	wantError(t, w.certify("stranger", "regulator", 2), ledger.Denied, DeniedRole) // an admin of beta
	wantError(t, binds(2), ledger.OK, 0)
	wantError(t, w.maySend("regulator", contract), ledger.OK, 0)

	for _, method := range []string{"freeze", "revoke"} {
		wantError(t, w.say("clerk", method, 2), ledger.Denied, DeniedRole)
		wantError(t, w.say("clerk", method, 1), ledger.OK, 0) // which it goes by no more
	}
	wantError(t, w.say("registrar", "revoke", 2), ledger.OK, 0) // of alpha, whose word means nothing in beta
	wantError(t, w.maySend("regulator", contract), ledger.OK, 0)
	wantError(t, w.say("stranger", "revoke", 2), ledger.OK, 0)
	wantRefusal(t, w.maySend("regulator", contract), "was revoked")
	governs()
	wantError(t, binds(3), ledger.OK, 0)
	wantError(t, w.maySend("regulator", contract), ledger.OK, 0)

	wantError(t, w.do("registrar", newAccounts(), "certify", CertifyArgs{Account: name("user"), Certificate: &Binding{Paths: binding(4).Paths, Until: 1 << 50}}), ledger.OK, 0)
	for _, who := range []string{"regulator", "user"} {
		w.caller = GovernanceAddress
		_, err := w.call(newAccounts(), "recover", lost(who, newKey(t, 81)))
		wantError(t, err, ledger.OK, 0)
	}
	w.order.UnixMilli += DefaultWindow.Milliseconds() + 1
	for who, keeps := range map[string]bool{"regulator": false, "user": true} {
		wantError(t, w.do("stranger", newAccounts(), "settle", RecoveryArgs{Account: name(who), Number: 1}), ledger.OK, 0)
		if a := w.account(t, name(who)); (a.Certificate != nil) != keeps {
			t.Errorf("after the recovery %s goes by %+v", who, a.Certificate)
		}
	}
	if got := w.bound(3, "beta"); len(got) > 0 {
		t.Errorf("bound to certificate 3: %v", got)
	}
	wantError(t, binds(5), ledger.OK, 0)
}

// TestBoundRoots binds accounts of an institution that has authorities, and changes these.
func TestBoundRoots(t *testing.T) {
	a := newAssembly(t, 4)
	w := office{a.world, t}
	with := func(roots ...byte) CertifyArgs {
		b := &Binding{Until: 900_000}
		for _, r := range roots {
			b.Paths = append(b.Paths, path(r))
		}
		return CertifyArgs{Account: name("user"), Certificate: b}
	}
	certify := func(args CertifyArgs) error { return w.do("bank-0", newAccounts(), "certify", args) }

	wantError(t, certify(CertifyArgs{Account: name("user"), Certificate: binding(50)}), ledger.OK, 0)
	a.pass(Reform{Trust: []TrustedRoot{trusted("bank-0", "one", 1), trusted("bank-0", "two", 2)}})
	wantError(t, w.maySend("user", contract), ledger.OK, 0) // a motion about nodes does not stop users
	err := certify(CertifyArgs{Account: name("user"), Certificate: binding(51)})
	wantError(t, err, ledger.Aborted, AbortCertificate)
	if !strings.Contains(err.Error(), "no CA root is named for certificate "+certificate(51).String()) {
		t.Errorf("refused with %v", err)
	}
	wantError(t, certify(with(3)), ledger.Aborted, AbortCertificate)
	wantError(t, certify(with(1)), ledger.OK, 0)
	wantError(t, w.maySend("user", contract), ledger.OK, 0)

	// Two of two, one of which is frozen, then ends.
	a.pass(Reform{Policies: []InstitutionPolicy{need("bank-0", "user", 2)}})
	wantRefusal(t, w.maySend("user", contract), "2 of the agencies one, two must vouch for role user of institution bank-0, and 1 did")
	wantError(t, certify(with(1, 2)), ledger.OK, 0)
	wantError(t, w.maySend("user", contract), ledger.OK, 0)
	wantError(t, w.say("bank-0", "freeze", 102), ledger.OK, 0)
	wantRefusal(t, w.maySend("user", contract), "certificate "+certificate(102).String()+" of institution bank-0 was frozen at height")
	a.pass(Reform{Policies: []InstitutionPolicy{need("bank-0", "user", 1)}})
	wantError(t, w.maySend("user", contract), ledger.OK, 0)
	a.pass(Reform{Distrust: []DistrustedRoot{{Institution: "bank-0", Root: certificate(1)}}})
	wantRefusal(t, w.maySend("user", contract), "CA root "+certificate(1).String()+" is not trusted")
}

// TestRolesOfCertificates has an institution say that both its agencies vouch for who deploys, and one for who audits code: an account
// that has such a role calls nothing until as many do. Who governs goes on governing.
func TestRolesOfCertificates(t *testing.T) {
	a := newAssembly(t, 4)
	w := office{a.world, t}
	certify := func(account string, roots ...byte) error {
		b := &Binding{Until: 900_000}
		for _, r := range roots {
			b.Paths = append(b.Paths, path(r))
		}
		return w.do("bank-0", newAccounts(), "certify", CertifyArgs{Account: name(account), Certificate: b})
	}
	role := func(method, account, role string) error {
		return w.do("bank-0", newAccess(), method, RoleArgs{Account: name(account), Role: role})
	}
	says := func(err error, words string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("refused with %v, which does not say %q", err, words)
		}
	}
	deploys := ledger.Target{Address: ContractsAddress}
	one, two, three := trusted("bank-0", "one", 1), trusted("bank-0", "two", 2), trusted("bank-0", "three", 3)
	a.pass(Reform{Trust: []TrustedRoot{one, two, three}})
	wantError(t, role("grant", "user", "deployer"), ledger.OK, 0)
	wantError(t, certify("user", 1), ledger.OK, 0)
	wantError(t, w.maySend("user", deploys), ledger.OK, 0) // nothing is said of deployers

	one.Authority.Roles, two.Authority.Roles = []string{"deployer", "node", "user"}, []string{"deployer", "node", "user"}
	a.pass(Reform{Trust: []TrustedRoot{one, two}, Policies: []InstitutionPolicy{need("bank-0", "deployer", 0)}})
	wantRefusal(t, w.maySend("user", deploys), "2 of the agencies one, two must vouch for role deployer of institution bank-0, and 1 did")
	wantRefusal(t, w.maySend("user", contract), "role deployer")
	account, key := w.account(t, name("user")), newKey(t, 900)
	wantRefusal(t, account.MayAsk(w, name("user"), key, w.order.UnixMilli), "role deployer")
	err := certify("user", 1, 3)
	wantError(t, err, ledger.Aborted, AbortCertificate)
	says(err, "CA three, root "+certificate(3).String()+", is not trusted for role deployer")
	wantError(t, certify("user", 1, 2), ledger.OK, 0)
	wantError(t, w.maySend("user", deploys), ledger.OK, 0)
	account = w.account(t, name("user"))
	wantError(t, account.MayAsk(w, name("user"), key, w.order.UnixMilli), ledger.OK, 0)

	// The role comes and goes. It is given only with certificates that do for it, or to an account that has none.
	wantError(t, role("revoke", "user", "deployer"), ledger.OK, 0)
	wantError(t, certify("user", 1), ledger.OK, 0)
	err = role("grant", "user", "deployer")
	wantError(t, err, ledger.Aborted, AbortRole)
	says(err, "2 of the agencies one, two must vouch for role deployer")
	wantError(t, role("grant", "user", "owner"), ledger.OK, 0) // of which nothing is said
	wantError(t, w.maySend("user", contract), ledger.OK, 0)
	wantError(t, certify("user", 1, 2), ledger.OK, 0)
	wantError(t, role("grant", "user", "deployer"), ledger.OK, 0)
	wantError(t, w.maySend("user", deploys), ledger.OK, 0)

	// bank-0 has the role committee, too: without enough that vouch for its other one it calls no contract, and governs all the same.
	wantError(t, certify("bank-0", 1), ledger.OK, 0)
	wantError(t, w.maySend("bank-0", contract), ledger.OK, 0)
	one.Authority.Roles = []string{"deployer", "institution-admin", "node", "user"}
	two.Authority.Roles = []string{"deployer", "institution-admin", "node", "user"}
	a.pass(Reform{Trust: []TrustedRoot{one, two}, Policies: []InstitutionPolicy{need("bank-0", "institution-admin", 2)}})
	wantRefusal(t, w.maySend("bank-0", contract), "role institution-admin")
	wantError(t, w.maySend("bank-0", ledger.Target{Address: AccountsAddress}), ledger.OK, 0)
	wantError(t, certify("bank-0", 1, 2), ledger.OK, 0) // it binds itself
	wantError(t, w.maySend("bank-0", contract), ledger.OK, 0)
}

// TestRealNames has an institution's accounts sign with the keys of their certificates.
func TestRealNames(t *testing.T) {
	a := newAssembly(t, 4)
	w := office{a.world, t}
	_, err := a.propose(Reform{RealNames: []InstitutionNames{{Institution: "bank-0", Required: true}}})
	wantError(t, err, ledger.Aborted, AbortReform) // nobody vouches for users
	_, err = a.propose(Reform{RealNames: []InstitutionNames{{Institution: "bank-0"}}})
	wantError(t, err, ledger.Aborted, AbortReform) // that is so
	names := []InstitutionNames{{Institution: "bank-0", Required: true}}
	_, err = a.propose(Reform{Trust: []TrustedRoot{trusted("bank-0", "one", 1)}, RealNames: slices.Repeat(names, 2)})
	wantError(t, err, ledger.Aborted, AbortReform)

	key, other := newKey(t, 900), newKey(t, 901)
	wantError(t, w.do("user", newAccounts(), "bind", BindArgs{Keys: []AccountKey{bound(other)}, Threshold: 1}), ledger.OK, 0)
	authorize := func(to ledger.Target, by ...ledger.Key) error {
		account := w.account(t, name("user"))
		var signatures []ledger.Signature
		for _, k := range by {
			signatures = append(signatures, ledger.Signature{Algorithm: k.Algorithm, Key: k.Bytes})
		}
		return account.Authorize(w, name("user"), to, "transfer", signatures, w.order.UnixMilli)
	}
	wantError(t, authorize(contract, key), ledger.OK, 0)
	a.pass(Reform{Trust: []TrustedRoot{trusted("bank-0", "one", 1)}, RealNames: names})
	wantRefusal(t, authorize(contract, key), "this one goes by none")
	wantError(t, authorize(ledger.Target{Address: AccountsAddress}, key), ledger.OK, 0)
	wantError(t, w.maySend("bank-0", ledger.Target{Address: MembersAddress}), ledger.OK, 0)

	args := CertifyArgs{Account: name("user"), Certificate: &Binding{Paths: []identity.Path{path(1)}, Until: 900_000}}
	wantError(t, w.do("bank-0", newAccounts(), "certify", args), ledger.OK, 0)
	wantRefusal(t, authorize(contract, key), "is for none of its keys")
	args.Certificate.Key = &key
	wantError(t, w.do("bank-0", newAccounts(), "certify", args), ledger.OK, 0)
	wantError(t, authorize(contract, key), ledger.OK, 0)
	wantError(t, authorize(contract, other, key), ledger.OK, 0)
	wantRefusal(t, authorize(contract, other), "did not sign")
	wantError(t, authorize(ledger.Target{Address: AccountsAddress}, other), ledger.OK, 0)

	a.pass(Reform{RealNames: []InstitutionNames{{Institution: "bank-0"}}})
	wantRefusal(t, authorize(contract, other), "did not sign") // the registrar said so
	wantError(t, w.do("bank-0", newAccounts(), "certify", CertifyArgs{Account: name("user")}), ledger.OK, 0)
	wantError(t, authorize(contract, other), ledger.OK, 0)
}

// TestCertificatesAtRandom has people of two institutions bind accounts, speak of certificates and change roles at random:
// whatever they do, the index of certificates has the accounts that go by them and no others, everybody with the role
// committee may govern, and so may one institution-admin of each institution at least.
func TestCertificatesAtRandom(t *testing.T) {
	const seed = 9
	random := rand.New(rand.NewPCG(seed, seed))
	w := office{newWorld(t), t}
	wantError(t, w.do("admin", newAccess(), "grant", RoleArgs{Account: name("user"), Role: "institution-admin"}), ledger.OK, 0)
	callers, accounts := []string{"registrar", "stranger", "admin", "user"}, []ledger.Address{name("user"), name("regulator"), name("committee"), name("admin"), name("registrar"), name("stranger")}
	governing := ledger.Target{Address: AccessAddress}
	done := map[string]int{}
	for range 1_500 {
		w.order.UnixMilli += random.Int64N(5)
		caller := callers[random.IntN(len(callers))]
		account := accounts[random.IntN(len(accounts))]
		leaf := certificate(byte(random.IntN(250)))
		b := &Binding{Paths: []identity.Path{{Leaf: leaf}}, Until: w.order.UnixMilli + random.Int64N(3_000)}
		if random.IntN(3) == 0 {
			b = nil
		}
		c, method, args := newAccounts(), "certify", any(CertifyArgs{Account: account, Certificate: b})
		switch random.IntN(10) {
		case 0:
			if len(accounts) < 40 {
				method, args = "register", RegisterArgs{Institution: []string{"alpha", "beta"}[random.IntN(2)], Accounts: []NewAccount{
					{Threshold: 1, Keys: []AccountKey{bound(newKey(t, 50))}, Certificate: b}, {Threshold: 1, Keys: []AccountKey{bound(newKey(t, 51))}, Certificate: b},
				}}
			}
		case 1, 2:
			c, method, args = newCertificates(), []string{"freeze", "revoke"}[random.IntN(2)], StatusArgs{Fingerprint: leaf}
			if a := w.account(t, account); a.Certificate != nil { // what matters to somebody
				args = StatusArgs{Fingerprint: a.Certificate.Paths[0].Leaf}
			}
		case 3:
			c, method, args = newCertificates(), "unfreeze", CertificateArgs{Fingerprint: leaf}
			if a := w.account(t, account); a.Certificate != nil {
				args = CertificateArgs{Fingerprint: a.Certificate.Paths[0].Leaf}
			}
		case 4:
			c, method, args = newAccess(), []string{"grant", "revoke"}[random.IntN(2)], RoleArgs{Account: account, Role: []string{"institution-admin", "registrar"}[random.IntN(2)]}
		case 5:
			c, method, args = newAccess(), []string{"freeze", "unfreeze"}[random.IntN(2)], AddressArgs{Address: account}
		}
		w.caller = name(caller)
		out, err := w.call(c, method, args)
		if err == nil {
			done[method]++
		}
		if err == nil && method == "register" {
			var made []ledger.Address
			if err := ledger.Unmarshal(out, &made); err != nil {
				t.Fatal(err)
			}
			accounts = append(accounts, made...)
		}
		want, indexed, able := map[string]bool{}, map[string]bool{}, map[string]int{}
		for _, address := range accounts {
			a := w.account(t, address)
			for _, leaf := range a.Certificate.leaves() {
				want[string(boundKey(leaf, a.Institution, address))] = true
			}
			may := a.MaySend(w, address, governing, "propose", w.order.UnixMilli) == nil
			if a.Has(identity.Committee) && !may {
				t.Fatalf("seed %d: after %s %+v of %s, a member of the committee may not govern", seed, method, args, caller)
			}
			if a.Has(identity.InstitutionAdmin) && may {
				able[a.Institution]++
			}
		}
		if able["alpha"] == 0 || able["beta"] == 0 {
			t.Fatalf("seed %d: after %s %+v of %s, institution-admins who may govern: %v", seed, method, args, caller, able)
		}
		for k := range w.state {
			if strings.HasPrefix(k, string(key(CertificatesAddress, []byte("h")))) {
				indexed[k] = true
			}
		}
		if !maps.Equal(indexed, want) {
			t.Fatalf("seed %d: after %s %+v of %s, the index has %d entries and accounts go by %d", seed, method, args, caller, len(indexed), len(want))
		}
	}
	for _, method := range []string{"certify", "register", "freeze", "revoke", "unfreeze", "grant"} {
		if done[method] < 5 {
			t.Errorf("%s was done %d times, too few to tell", method, done[method])
		}
	}
}
