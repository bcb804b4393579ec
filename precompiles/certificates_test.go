package precompiles

import (
	"fmt"
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
	return InstitutionPolicy{Institution: institution, Policy: Policy{Role: role, Need: n}}
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
	wantRefusal(t, a.vouched(1_000_001, 1), "counts from 1970-01-01T00:00:01Z until 1970-01-01T00:16:40Z, and block time is")
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
	wantRefusal(t, CheckCredential(a, cross, now), "certificate "+certificate(98).String()+" of institution bank-1 was frozen at height 7 (unspecified); 2 of the agencies")

	// All of them: a root that a motion takes away does not count any more, nor does its agency.
	a.pass(Reform{Policies: []InstitutionPolicy{need("bank-1", "node", 0)}})
	wantRefusal(t, a.vouched(now, 1, 4), "3 of the agencies")
	wantError(t, a.vouched(now, 1, 3, 4), ledger.OK, 0)
	a.pass(Reform{Distrust: []DistrustedRoot{{Institution: "bank-1", Root: certificate(3)}}})
	wantError(t, a.vouched(now, 1, 4), ledger.OK, 0)
	wantError(t, a.vouched(1_000_001, 2), ledger.OK, 0) // three ended with its root, and only one counts

	// Views.
	out, err := a.call(newCertificates(), "policy", PolicyArgs{Institution: "bank-1", Role: "node"})
	wantError(t, err, ledger.OK, 0)
	var standing *Standing
	if err := ledger.Unmarshal(out, &standing); err != nil || standing.Need != 2 || !slices.Equal(standing.Agencies, []string{"one", "three"}) {
		t.Errorf("policy = %+v, %v", standing, err)
	}
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
		wantError(t, a.by(by, "approve", MotionArgs{ID: id}), ledger.OK, 0)
	}
	account := a.account(t, name("bank-0"))
	wantError(t, MayActivate(a, a.Suite(), &account, mustMarshal(t, MotionArgs{ID: id}), 1_000_001), ledger.Aborted, AbortReform)
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
	wantError(t, by("admin", "freeze", hold), ledger.Aborted, AbortUnchanged)
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
	accepted := 0
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
		if !found {
			continue
		}
		check := []string{"node"}
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
	if accepted < 100 {
		t.Errorf("%d motions were accepted, too few to tell", accepted)
	}
}

func TestAccountCertificates(t *testing.T) {
	w := newWorld(t)
	call := func(caller string, c Contract, method string, args any) error {
		w.caller = name(caller)
		_, err := w.call(c, method, args)
		return err
	}
	certify := func(caller, account string, n byte) error {
		leaf := certificate(n)
		return call(caller, newAccounts(), "certify", CertifyArgs{Account: name(account), Certificate: &leaf})
	}
	none := func(caller, account string) error {
		return call(caller, newAccounts(), "certify", CertifyArgs{Account: name(account)})
	}
	say := func(caller, method string, n byte) error {
		return call(caller, newCertificates(), method, StatusArgs{Fingerprint: certificate(n)})
	}
	maySend := func(account string) error {
		a := w.account(t, name(account))
		return a.MaySend(w)
	}

	// A person has two accounts and one certificate: one at registration, the other later.
	leaf := certificate(1)
	w.caller = name("registrar")
	out, err := w.call(newAccounts(), "register", RegisterArgs{Institution: "alpha", Accounts: []NewAccount{
		{Threshold: 1, Keys: []AccountKey{bound(newKey(t, 50))}, Certificate: &leaf}, {Threshold: 1, Keys: []AccountKey{bound(newKey(t, 51))}},
	}})
	wantError(t, err, ledger.OK, 0)
	var made []ledger.Address
	if err := ledger.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	wantError(t, certify("registrar", "user", 1), ledger.OK, 0)
	wantError(t, certify("registrar", "user", 1), ledger.Aborted, AbortUnchanged)
	if a := w.account(t, made[0]); a.Certificate == nil || *a.Certificate != leaf {
		t.Errorf("the account goes by %v, want %s", a.Certificate, leaf)
	}
	if a := w.account(t, made[1]); a.Certificate != nil {
		t.Errorf("the other account goes by %s", a.Certificate)
	}

	// Nobody else binds it, and no other institution has it.
	wantError(t, certify("user", "user", 2), ledger.Denied, DeniedRole)
	wantError(t, certify("stranger", "user", 2), ledger.Denied, DeniedInstitution)
	wantError(t, certify("registrar", "nobody", 2), ledger.Aborted, AbortMissing)
	wantError(t, certify("registrar", "user", 0), ledger.OK, 0)
	wantError(t, certify("registrar", "user", 1), ledger.OK, 0)
	wantError(t, certify("stranger", "regulator", 1), ledger.Aborted, AbortCertificate)
	zero := keys.Digest{}
	wantError(t, call("admin", newAccounts(), "certify", CertifyArgs{Account: name("user"), Certificate: &zero}), ledger.Aborted, AbortCertificate)

	// While it is frozen, the account sends nothing and its state stays; what another institution says is no matter.
	wantError(t, say("stranger", "revoke", 1), ledger.OK, 0)
	wantError(t, maySend("user"), ledger.OK, 0)
	wantError(t, say("admin", "freeze", 1), ledger.OK, 0)
	wantRefusal(t, maySend("user"), "was frozen at height 7")
	wantError(t, call("user", newAccounts(), "bind", BindArgs{Keys: []AccountKey{bound(newKey(t, 60))}, Threshold: 1}), ledger.Denied, DeniedCertificate)
	wantError(t, certify("registrar", "registrar", 1), ledger.Aborted, AbortCertificate)
	wantError(t, call("admin", newCertificates(), "unfreeze", CertificateArgs{Fingerprint: certificate(1)}), ledger.OK, 0)
	wantError(t, maySend("user"), ledger.OK, 0)

	// Once revoked it stays so; another certificate, or none, restores the account.
	wantError(t, say("admin", "revoke", 1), ledger.OK, 0)
	wantRefusal(t, maySend("user"), "was revoked at height 7")
	wantError(t, certify("registrar", "user", 2), ledger.OK, 0)
	wantError(t, maySend("user"), ledger.OK, 0)
	wantError(t, none("registrar", "user"), ledger.OK, 0)
	wantError(t, none("registrar", "user"), ledger.Aborted, AbortUnchanged)
	if keysOf := w.account(t, name("user")).Keys; len(keysOf) != 1 {
		t.Errorf("the account has %d keys, want the one it had", len(keysOf))
	}

	// Who says so does not saw at its own branch.
	wantError(t, certify("registrar", "admin", 3), ledger.OK, 0)
	wantError(t, say("admin", "revoke", 3), ledger.Aborted, AbortCertificate)
	wantError(t, say("registrar", "revoke", 3), ledger.OK, 0)
	wantError(t, say("admin", "freeze", 2), ledger.Denied, DeniedCertificate)

	// Nobody holds what the last account let go.
	wantError(t, certify("stranger", "regulator", 2), ledger.OK, 0)
}

// TestCertificatesAtRandom binds accounts of two institutions to few certificates at random: never does one stand for both,
// and what the chain counts is what the accounts say.
func TestCertificatesAtRandom(t *testing.T) {
	const seed = 9
	random := rand.New(rand.NewPCG(seed, seed))
	w := newWorld(t)
	callers, accounts := []string{"registrar", "stranger"}, []ledger.Address{name("user"), name("regulator"), name("committee")}
	for range 2_000 {
		w.caller = name(callers[random.IntN(2)])
		leaf := &keys.Digest{byte(random.IntN(5)), 0xce}
		if random.IntN(3) == 0 {
			leaf = nil
		}
		c, method, args := newAccounts(), "certify", any(CertifyArgs{Account: accounts[random.IntN(len(accounts))], Certificate: leaf})
		switch n := random.IntN(60); {
		case n < 20 && len(accounts) < 40:
			method, args = "register", RegisterArgs{Institution: []string{"alpha", "beta"}[random.IntN(2)], Accounts: []NewAccount{
				{Threshold: 1, Keys: []AccountKey{bound(newKey(t, 50))}, Certificate: leaf}, {Threshold: 1, Keys: []AccountKey{bound(newKey(t, 51))}, Certificate: leaf},
			}}
		case n < 22 && leaf != nil:
			c, method, args = newCertificates(), "freeze", StatusArgs{Fingerprint: *leaf}
		case n < 30 && leaf != nil:
			c, method, args = newCertificates(), "unfreeze", CertificateArgs{Fingerprint: *leaf}
		}
		out, err := w.call(c, method, args)
		if err == nil && method == "register" {
			var made []ledger.Address
			if err := ledger.Unmarshal(out, &made); err != nil {
				t.Fatal(err)
			}
			accounts = append(accounts, made...)
		}
		want := map[keys.Digest]Holding{}
		for _, address := range accounts {
			a := w.account(t, address)
			if a.Certificate == nil {
				continue
			}
			h, known := want[*a.Certificate]
			if known && h.Institution != a.Institution {
				t.Fatalf("seed %d: certificate %s stands for accounts of %s and of %s after %s %+v", seed, a.Certificate, h.Institution, a.Institution, method, args)
			}
			want[*a.Certificate] = Holding{Version: ledger.Version, Institution: a.Institution, Accounts: h.Accounts + 1}
		}
		for n := range byte(5) {
			if got, _, err := read[Holding](w, holdingKey(certificate(n))); err != nil || got != want[certificate(n)] {
				t.Fatalf("seed %d: certificate %d is held by %+v, %v; want %+v", seed, n, got, err, want[certificate(n)])
			}
		}
	}
	if len(accounts) < 20 {
		t.Errorf("%d accounts, too few to tell", len(accounts))
	}
}
