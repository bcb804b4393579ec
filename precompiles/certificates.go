package precompiles

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on what the group says of certificates.
const (
	MaxAuthorities = 16 // roots that an institution's agencies have at a time; rotation takes two of an agency
	MaxAgencyName  = 64 // bytes
	maxTrusts      = 16 // institutions that the view trusts returns at once
)

// Trust is a row of the table of authorities, keyed by institution: who may vouch for its people and nodes. Only
// motions change it (Reform). Nothing in execution reads a certificate: fingerprints, dates and roles are what the
// motion says, and whoever approves it compares them with the certificates.
type Trust struct {
	_           struct{}    `cbor:",toarray"`
	Version     uint16      // ledger.Version
	Authorities []Authority // sorted by root, 1 to MaxAuthorities
	Policies    []Policy    // sorted by role; for a role without one, any agency is enough
}

// Authority is a root of an agency, which is a certificate authority of an institution. While an agency rotates its
// root it has two, whose times overlap.
type Authority struct {
	_      struct{}    `cbor:",toarray"`
	Agency string      // 1 to MaxAgencyName bytes
	Root   keys.Digest // identity.Fingerprint of the root's certificate
	From   int64       // first block time, Unix ms, at which it counts
	Until  int64       // last block time at which it does
	Roles  []string    // that it may vouch for: sorted, 1 to MaxRoles
}

// Policy says how many of an institution's agencies must vouch for a role. Those count that have a root which is valid
// at block time and may vouch for the role.
type Policy struct {
	_    struct{} `cbor:",toarray"`
	Role string
	Need uint32 // 0: all that count; 1: any of them
}

// TrustedRoot is an authority that a reform adds to an institution, or puts in the place of that with the same root.
type TrustedRoot struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Authority   Authority
}

// DistrustedRoot is an authority that a reform takes from an institution.
type DistrustedRoot struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Root        keys.Digest
}

// InstitutionPolicy is a policy that a reform gives an institution. Need 1 takes that of the role away.
type InstitutionPolicy struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Policy      Policy
}

// InstitutionTrust is a Trust with the institution that it is of.
type InstitutionTrust struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Row         Trust
}

// CertificateStatus says what an institution says of a certificate.
type CertificateStatus uint8

// The statuses of a certificate. One that nothing was said of is active.
const (
	CertificateActive  CertificateStatus = 0
	CertificateFrozen  CertificateStatus = 1 // does not count until it is unfrozen
	CertificateRevoked CertificateStatus = 2 // never counts again
)

// String returns the status in the words of the schema.
func (s CertificateStatus) String() string {
	if names := certificateStatuses(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

func certificateStatuses() []string { return []string{"active", "frozen", "revoked"} }

// Reasons returns the names of the reason codes of RFC 5280 §5.3.1 that a certificate is frozen or revoked for, by code.
// Those that it does not use, or that do not fit, are empty.
func Reasons() []string {
	return []string{
		"unspecified", "key-compromise", "ca-compromise", "affiliation-changed", "superseded", "cessation-of-operation", "certificate-hold", "", "",
		"privilege-withdrawn", "aa-compromise",
	}
}

// Certificate is a row of the table of certificates, keyed by fingerprint and institution: what the institution said of
// it last. Each institution has rows of its own, and those of others mean nothing for its certificates, so nobody can
// freeze what is not theirs.
type Certificate struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Status  CertificateStatus
	Reason  uint8          // code of RFC 5280 §5.3.1; 0 where it is active again
	By      ledger.Address // the account that said so
	Height  ledger.Height  // of the block in which it did
}

// Holding is a row of the table of certificates that accounts are bound to, keyed by fingerprint. They are of one
// institution. Another one that was first, by mistake or not, is asked to bind its accounts to something else; or the
// certificate is issued anew, which gives it another fingerprint.
type Holding struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16   // ledger.Version
	Institution string
	Accounts    uint32 // bound to it now, at least 1
}

// ListedCertificate is a Certificate with its key.
type ListedCertificate struct {
	_           struct{} `cbor:",toarray"`
	Fingerprint keys.Digest
	Institution string
	Row         Certificate
}

// ReadTrust returns who may vouch for an institution.
func ReadTrust(r Reader, institution string) (trust Trust, found bool, err error) {
	return read[Trust](r, trustKey(institution))
}

// ReadCertificate returns what an institution said of a certificate last.
func ReadCertificate(r Reader, institution string, fingerprint keys.Digest) (certificate Certificate, found bool, err error) {
	return read[Certificate](r, certificateKey(fingerprint, institution))
}

func trustKey(institution string) []byte {
	return key(CertificatesAddress, []byte("a"), []byte(institution))
}

func certificateKey(fingerprint keys.Digest, institution string) []byte {
	return key(CertificatesAddress, []byte("c"), fingerprint[:], []byte(institution))
}

func holdingKey(fingerprint keys.Digest) []byte {
	return key(CertificatesAddress, []byte("h"), fingerprint[:])
}

// counts reports whether the authority may vouch for a role at a block time.
func (a *Authority) counts(role string, unixMilli int64) bool {
	_, may := slices.BinarySearch(a.Roles, role)
	return may && a.From <= unixMilli && unixMilli <= a.Until
}

// agencies returns those that may vouch for a role at a block time, sorted.
func (t *Trust) agencies(role string, unixMilli int64) []string {
	var names []string
	for i := range t.Authorities {
		if a := &t.Authorities[i]; a.counts(role, unixMilli) {
			names = append(names, a.Agency)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// need returns how many of so many agencies must vouch for a role, at least 1.
func (t *Trust) need(role string, agencies int) int {
	i := slices.IndexFunc(t.Policies, func(p Policy) bool { return p.Role == role })
	switch {
	case i < 0:
		return 1
	case t.Policies[i].Need == 0:
		return max(1, agencies)
	}
	return int(t.Policies[i].Need)
}

// Credential is what providers vouched for: an institution and a role of whoever has the certificates.
type Credential struct {
	Institution string
	Role        identity.Role
	Paths       []identity.Path // from the certificates to the roots, as providers found them
}

// CheckCredential says why certificates do not count for an institution and role at a state and a block time in Unix
// ms, or returns nil. A refusal is an [*Error] with status denied, whose reason an operator acts on; any other error is
// the reader's. It depends on its arguments alone, so all nodes that ask at one height get one answer.
//
// Of the certificates, those count that the institution has neither frozen nor revoked, each for one agency: the first
// to which its paths lead whose root may vouch for the role. As many agencies must be among them as the institution's
// policy wants; one certificate is no two vouchers, however many roots certify its issuer. For an institution of which
// the group names no authorities, one that counts is enough, and whether it is vouched for, the local provider alone
// decides.
func CheckCredential(r Reader, c *Credential, unixMilli int64) error {
	trust, named, err := ReadTrust(r, c.Institution)
	if err != nil {
		return err
	}
	var vouched, refused []string
	counts := 0
	paths := slices.Clone(c.Paths)
	slices.SortFunc(paths, identity.Path.Compare)
	for len(paths) > 0 {
		leaf := paths[0].Leaf
		n := slices.IndexFunc(paths, func(p identity.Path) bool { return p.Leaf != leaf })
		if n < 0 {
			n = len(paths)
		}
		var why []string
		err := checkCertificate(r, c.Institution, leaf)
		if e, ok := errors.AsType[*Error](err); ok {
			why = append(why, e.Reason)
		} else if err != nil {
			return err
		} else if counts++; named {
			var agency string
			if agency, why = trust.agency(c, paths[:n], unixMilli); agency != "" {
				vouched = append(vouched, agency)
				why = nil
			}
		}
		refused = append(refused, why...)
		paths = paths[n:]
	}
	if !named && counts > 0 {
		return nil
	}
	if !named {
		return denied(DeniedCertificate, "%s", cmp.Or(strings.Join(refused, "; "), "there is no certificate"))
	}
	slices.Sort(vouched)
	vouched = slices.Compact(vouched)
	agencies := trust.agencies(string(c.Role), unixMilli)
	need := trust.need(string(c.Role), len(agencies))
	if len(vouched) >= need {
		return nil
	}
	if len(vouched) > 0 || len(refused) == 0 {
		refused = append(refused, fmt.Sprintf("%d of the agencies %s must vouch for role %s of institution %s, and %d did", need, strings.Join(agencies, ", "), c.Role, c.Institution, len(vouched)))
	}
	return denied(DeniedCertificate, "%s: `fondaco authority show %s` prints what is trusted", strings.Join(refused, "; "), c.Institution)
}

// agency returns the first agency to which paths lead whose root counts, or why none of their roots does.
func (t *Trust) agency(c *Credential, paths []identity.Path, unixMilli int64) (agency string, refused []string) {
	role := string(c.Role)
	for _, p := range paths {
		i := slices.IndexFunc(t.Authorities, func(a Authority) bool { return a.Root == p.Root })
		if i < 0 {
			refused = append(refused, fmt.Sprintf("CA root %s is not trusted for institution %s", p.Root, c.Institution))
			continue
		}
		switch a := &t.Authorities[i]; {
		case a.counts(role, unixMilli):
			return a.Agency, nil
		case slices.Contains(a.Roles, role):
			refused = append(refused, fmt.Sprintf("CA %s, root %s, counts from %s until %s, and block time is %s", a.Agency, p.Root, timeText(a.From), timeText(a.Until), timeText(unixMilli)))
		default:
			refused = append(refused, fmt.Sprintf("CA %s, root %s, is not trusted for role %s of institution %s", a.Agency, p.Root, role, c.Institution))
		}
	}
	return "", refused
}

// checkCertificate says why an institution's certificate does not count, or returns nil.
func checkCertificate(r Reader, institution string, fingerprint keys.Digest) error {
	row, found, err := ReadCertificate(r, institution, fingerprint)
	switch {
	case err != nil:
		return err
	case !found || row.Status == CertificateActive:
		return nil
	case row.Status == CertificateFrozen:
		return denied(DeniedCertificate, "certificate %s of institution %s was frozen at height %d (%s)", fingerprint, institution, row.Height, ReasonName(row.Reason))
	}
	return denied(DeniedCertificate, "certificate %s of institution %s was revoked at height %d (%s)", fingerprint, institution, row.Height, ReasonName(row.Reason))
}

// ReasonName returns the name of a reason code.
func ReasonName(code uint8) string {
	if names := Reasons(); int(code) < len(names) && names[code] != "" {
		return names[code]
	}
	return fmt.Sprintf("reason %d", code)
}

func timeText(unixMilli int64) string { return time.UnixMilli(unixMilli).UTC().Format(time.RFC3339) }

// bindCertificate notes that an account of an institution goes by another certificate than before; nil stands for none.
func bindCertificate(env Env, institution string, before, after *keys.Digest) error {
	if after != nil {
		if err := checkCertificate(env, institution, *after); err != nil {
			if e, ok := errors.AsType[*Error](err); ok && e.Status == ledger.Denied {
				return aborted(AbortCertificate, []any{after[:]}, "%s: name one that counts", e.Reason)
			}
			return err
		}
		held, found, err := read[Holding](env, holdingKey(*after))
		switch {
		case err != nil:
			return err
		case after.IsZero():
			return aborted(AbortCertificate, []any{after[:]}, "the fingerprint is zero: want the hash of the certificate's DER, or none")
		case found && held.Institution != institution:
			return aborted(AbortCertificate, []any{after[:]}, "certificate %s stands for accounts of %s: one certificate is never of two institutions", after, held.Institution)
		}
		held = Holding{Version: ledger.Version, Institution: institution, Accounts: held.Accounts + 1}
		if err := write(env, holdingKey(*after), &held); err != nil {
			return err
		}
	}
	if before == nil {
		return nil
	}
	held, _, err := read[Holding](env, holdingKey(*before))
	if err != nil {
		return err
	}
	if held.Accounts <= 1 {
		return env.Delete(holdingKey(*before))
	}
	held.Accounts--
	return write(env, holdingKey(*before), &held)
}

// trustsAfter returns what a reform makes of the trust of the institutions that it names, or why the group refuses it.
// A row without authorities is to be deleted.
func trustsAfter(r Reader, f *Reform, unixMilli int64) ([]InstitutionTrust, error) {
	var names []string
	for _, t := range f.Trust {
		names = append(names, t.Institution)
	}
	for _, d := range f.Distrust {
		names = append(names, d.Institution)
	}
	for _, p := range f.Policies {
		names = append(names, p.Institution)
	}
	slices.Sort(names)
	var rows []InstitutionTrust
	for _, name := range slices.Compact(names) {
		_, found, err := ReadInstitution(r, name)
		if err != nil {
			return nil, err
		}
		if !found && !slices.ContainsFunc(f.Found, func(o Founding) bool { return o.Name == name }) {
			return nil, aborted(AbortInstitution, []any{name}, "there is no institution %q: found it in the same motion", name)
		}
		trust, _, err := ReadTrust(r, name)
		if err != nil {
			return nil, err
		}
		trust.Version = ledger.Version
		if err := trust.reform(name, f); err != nil {
			return nil, err
		}
		if err := trust.sound(name, unixMilli); err != nil {
			return nil, err
		}
		rows = append(rows, InstitutionTrust{Institution: name, Row: trust})
	}
	return rows, nil
}

// reform applies what a reform says of an institution.
func (t *Trust) reform(institution string, f *Reform) error {
	var named []keys.Digest
	once := func(root keys.Digest) error {
		if slices.Contains(named, root) {
			return refused("the root %s of %s is named twice", root, institution)
		}
		named = append(named, root)
		return nil
	}
	for _, d := range f.Distrust {
		if d.Institution != institution {
			continue
		}
		if err := once(d.Root); err != nil {
			return err
		}
		n := len(t.Authorities)
		t.Authorities = slices.DeleteFunc(t.Authorities, func(a Authority) bool { return a.Root == d.Root })
		if len(t.Authorities) == n {
			return refused("the root %s is not trusted for %s: `fondaco authority show %s` lists those that are", d.Root, institution, institution)
		}
	}
	for i := range f.Trust {
		n := &f.Trust[i].Authority
		if f.Trust[i].Institution != institution {
			continue
		}
		if err := once(n.Root); err != nil {
			return err
		}
		if err := n.validate(); err != nil {
			return err
		}
		at, found := slices.BinarySearchFunc(t.Authorities, n.Root, func(a Authority, root keys.Digest) int { return bytes.Compare(a.Root[:], root[:]) })
		switch {
		case !found:
			t.Authorities = slices.Insert(t.Authorities, at, *n)
		case t.Authorities[at].equal(n):
			return refused("the root %s is trusted for %s so already", n.Root, institution)
		default:
			t.Authorities[at] = *n
		}
	}
	if len(t.Authorities) > MaxAuthorities {
		return refused("%d authorities of %s, at most %d: take those away that ended", len(t.Authorities), institution, MaxAuthorities)
	}
	return t.setPolicies(institution, f)
}

func (t *Trust) setPolicies(institution string, f *Reform) error {
	var named []string
	for _, p := range f.Policies {
		if p.Institution != institution {
			continue
		}
		if slices.Contains(named, p.Policy.Role) {
			return refused("the policy for role %s of %s is named twice", p.Policy.Role, institution)
		}
		named = append(named, p.Policy.Role)
		if !isRole(p.Policy.Role) {
			return refused("%q is no role: want 1 to 32 characters of a-z, 0-9 and -", p.Policy.Role)
		}
		if p.Policy.Need > MaxAuthorities {
			return refused("a policy that wants %d agencies, and an institution has at most %d", p.Policy.Need, MaxAuthorities)
		}
		at, found := slices.BinarySearchFunc(t.Policies, p.Policy.Role, func(o Policy, role string) int { return cmp.Compare(o.Role, role) })
		switch {
		case found && t.Policies[at].Need == p.Policy.Need, !found && p.Policy.Need == 1:
			return refused("the policy for role %s of %s is that already", p.Policy.Role, institution)
		case found && p.Policy.Need == 1:
			t.Policies = slices.Delete(t.Policies, at, at+1)
		case found:
			t.Policies[at] = p.Policy
		default:
			t.Policies = slices.Insert(t.Policies, at, p.Policy)
		}
	}
	if len(t.Policies) > MaxRoles {
		return refused("%d policies of %s, at most %d", len(t.Policies), institution, MaxRoles)
	}
	return nil
}

// validate checks what a motion says of an authority by itself.
func (a *Authority) validate() error {
	switch {
	case a.Agency == "" || len(a.Agency) > MaxAgencyName:
		return refused("an agency's name of %d bytes, want 1 to %d", len(a.Agency), MaxAgencyName)
	case a.Root.IsZero():
		return refused("the agency %s has no root: want the fingerprint of its certificate", a.Agency)
	case a.From < 0 || a.Until < a.From || a.Until == 0:
		return refused("the root %s is valid from %d until %d: want times in Unix ms, and an end behind the beginning", a.Root, a.From, a.Until)
	case len(a.Roles) == 0:
		return refused("the root %s vouches for no role", a.Root)
	}
	if err := checkRoles(a.Roles); err != nil {
		return refused("the roles of root %s: %v", a.Root, err)
	}
	return nil
}

func (a *Authority) equal(b *Authority) bool {
	return a.Agency == b.Agency && a.Root == b.Root && a.From == b.From && a.Until == b.Until && slices.Equal(a.Roles, b.Roles)
}

// sound checks that the institution's policies, and in any case that for nodes, can be met at block time, so that no
// motion locks an institution out. Time may: an institution whose roots all ended gets new ones by another motion.
func (t *Trust) sound(institution string, unixMilli int64) error {
	roles := []string{}
	if len(t.Authorities) > 0 {
		roles = append(roles, string(identity.Node))
	}
	for _, p := range t.Policies {
		roles = append(roles, p.Role)
	}
	for _, role := range roles {
		agencies := t.agencies(role, unixMilli)
		if need := t.need(role, len(agencies)); len(agencies) < need {
			return refused("%d agencies of %s could vouch for role %s at block time %s, and its policy wants %d: trust another root for it, or change the policy, in the same motion",
				len(agencies), institution, role, timeText(unixMilli), need)
		}
	}
	return nil
}

// writeTrusts writes what trustsAfter returned.
func writeTrusts(env Env, rows []InstitutionTrust) error {
	for i := range rows {
		k := trustKey(rows[i].Institution)
		err := error(nil)
		if len(rows[i].Row.Authorities) == 0 {
			err = env.Delete(k)
		} else {
			err = write(env, k, &rows[i].Row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// trustTypes are the types of the schemas that have to do with authorities.
func trustTypes() []ledger.TypeDef {
	return []ledger.TypeDef{
		{Name: "Authority", Fields: []ledger.Field{
			{Name: "agency", Type: "str"},
			{Name: "root", Type: "bytes"},
			{Name: "from", Type: "i64"},
			{Name: "until", Type: "i64"},
			{Name: "roles", Type: "list<str>"},
		}},
		{Name: "Policy", Fields: []ledger.Field{{Name: "role", Type: "str"}, {Name: "need", Type: "u32"}}},
	}
}

func newCertificates() Contract {
	var statuses []ledger.Variant
	for _, s := range certificateStatuses() {
		statuses = append(statuses, ledger.Variant{Name: s})
	}
	version, institution := ledger.Field{Name: "version", Type: "u16"}, ledger.Field{Name: "institution", Type: "str"}
	fingerprint, reason := ledger.Field{Name: "fingerprint", Type: "bytes"}, ledger.Field{Name: "reason", Type: "u8"}
	return &system{
		address: CertificatesAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"trusts":   query(trusts),
			"trust":    query(trustOf),
			"policy":   query(policyOf),
			"status":   query(certificateStatus),
			"statuses": query(certificates),
			"holding":  query(holding),
			"freeze":   command(freezeCertificate),
			"unfreeze": command(unfreezeCertificate),
			"revoke":   command(revokeCertificate),
		},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "certificates", Version: "1", Profile: "strict",
			Doc: "Which certificate authorities may vouch for which institution and role, and what institutions say of their certificates. " +
				"Certificates are named by fingerprints: hashes of their DER under the chain's suite. Motions of the contract members change authorities and policies.",
			Types: append(
				trustTypes(),
				ledger.TypeDef{Name: "Trust", Fields: []ledger.Field{version, {Name: "authorities", Type: "list<Authority>"}, {Name: "policies", Type: "list<Policy>"}}},
				ledger.TypeDef{Name: "InstitutionTrust", Fields: []ledger.Field{institution, {Name: "row", Type: "Trust"}}},
				ledger.TypeDef{Name: "Standing", Fields: []ledger.Field{{Name: "need", Type: "u32"}, {Name: "agencies", Type: "list<str>"}}},
				ledger.TypeDef{Name: "Status", Variants: statuses},
				ledger.TypeDef{Name: "Certificate", Fields: []ledger.Field{version, {Name: "status", Type: "Status"}, reason, {Name: "by", Type: "addr"}, {Name: "height", Type: "u64"}}},
				ledger.TypeDef{Name: "Holding", Fields: []ledger.Field{version, institution, {Name: "accounts", Type: "u32"}}},
				ledger.TypeDef{Name: "ListedCertificate", Fields: []ledger.Field{fingerprint, institution, {Name: "row", Type: "Certificate"}}},
			),
			Methods: []ledger.Method{
				{
					Name: "trusts", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "after", Type: "str"}}, Return: "list<InstitutionTrust>",
					Doc: "Returns up to 16 institutions that have authorities, in order of their names, beginning after one.",
				},
				{Name: "trust", Kind: ledger.MethodView, Args: []ledger.Field{institution}, Return: "opt<Trust>"},
				{
					Name: "policy", Kind: ledger.MethodView, Args: []ledger.Field{institution, {Name: "role", Type: "str"}}, Return: "opt<Standing>",
					Doc: "Returns which agencies may vouch for a role at block time and how many of them must; nothing for an institution without authorities.",
				},
				{
					Name: "status", Kind: ledger.MethodView, Args: []ledger.Field{fingerprint}, Return: "list<ListedCertificate>",
					Doc: "Returns what up to 64 institutions say of a certificate. What counts is what its own says; one of which that says nothing is active.",
				},
				{
					Name: "statuses", Kind: ledger.MethodView, Args: []ledger.Field{fingerprint, institution}, Return: "list<ListedCertificate>",
					Doc: "Returns up to 64 entries in order of fingerprint and institution, beginning after those.",
				},
				{
					Name: "holding", Kind: ledger.MethodView, Args: []ledger.Field{fingerprint}, Return: "opt<Holding>",
					Doc: "Returns how many accounts of which institution are bound to a certificate.",
				},
				{
					Name: "freeze", Kind: ledger.MethodTx, Args: []ledger.Field{fingerprint, reason},
					Doc: "Stops a certificate of the caller's institution from counting. The caller is its registrar or institution-admin. The reason is a code of RFC 5280, 5.3.1.",
				},
				{Name: "unfreeze", Kind: ledger.MethodTx, Args: []ledger.Field{fingerprint}, Doc: "Lifts what freeze did."},
				{Name: "revoke", Kind: ledger.MethodTx, Args: []ledger.Field{fingerprint, reason}, Doc: "As freeze, for ever."},
			},
			Events: []ledger.EventDef{
				{Topic: "frozen", Fields: []ledger.Field{institution, fingerprint, reason}, Indexed: []string{"institution"}},
				{Topic: "unfrozen", Fields: []ledger.Field{institution, fingerprint, reason}, Indexed: []string{"institution"}},
				{Topic: "revoked", Fields: []ledger.Field{institution, fingerprint, reason}, Indexed: []string{"institution"}},
			},
			Errors: abortDefs(AbortArguments, AbortUnchanged, AbortCertificate),
			State: []ledger.StateDef{
				{Prefix: "a", Key: []ledger.Type{"str"}, Value: "Trust"},
				{Prefix: "c", Key: []ledger.Type{"bytes"}, Value: "Certificate", Doc: "fingerprint; name of the institution that says so"},
				{Prefix: "h", Key: []ledger.Type{"bytes"}, Value: "Holding"},
			},
		},
	}
}

// TrustsArgs are the arguments of the certificates method trusts. After is an institution, or empty.
type TrustsArgs struct {
	_     struct{} `cbor:",toarray"`
	After string
}

func trusts(env Env, a TrustsArgs) ([]InstitutionTrust, error) {
	if err := checkInstitutionName(a.After); err != nil {
		return nil, err
	}
	prefix := trustKey("")
	found := []InstitutionTrust{}
	err := env.Range(prefix, trustKey(a.After), maxTrusts, func(k, v []byte) error {
		t := InstitutionTrust{Institution: string(k[len(prefix):])}
		if err := ledger.Unmarshal(v, &t.Row); err != nil {
			return fmt.Errorf("state under %x: %w", k, err)
		}
		found = append(found, t)
		return nil
	})
	return found, err
}

// TrustArgs are the arguments of the certificates method trust.
type TrustArgs struct {
	_           struct{} `cbor:",toarray"`
	Institution string
}

func trustOf(env Env, a TrustArgs) (*Trust, error) {
	if err := checkInstitutionName(a.Institution); err != nil {
		return nil, err
	}
	trust, found, err := ReadTrust(env, a.Institution)
	if err != nil || !found {
		return nil, err
	}
	return &trust, nil
}

// PolicyArgs are the arguments of the certificates method policy.
type PolicyArgs struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Role        string
}

// Standing says how many of which agencies must vouch.
type Standing struct {
	_        struct{} `cbor:",toarray"`
	Need     uint32
	Agencies []string // sorted
}

func policyOf(env Env, a PolicyArgs) (*Standing, error) {
	trust, err := trustOf(env, TrustArgs{Institution: a.Institution})
	if err != nil || trust == nil {
		return nil, err
	}
	agencies := trust.agencies(a.Role, env.Order().UnixMilli)
	return &Standing{Need: uint32(trust.need(a.Role, len(agencies))), Agencies: agencies}, nil
}

func checkInstitutionName(name string) error {
	if len(name) > MaxInstitutionName {
		return aborted(AbortArguments, nil, "a name of %d bytes, at most %d", len(name), MaxInstitutionName)
	}
	return nil
}

// CertificateArgs are the arguments of certificates methods that take a certificate alone.
type CertificateArgs struct {
	_           struct{} `cbor:",toarray"`
	Fingerprint keys.Digest
}

func certificateStatus(env Env, a CertificateArgs) ([]ListedCertificate, error) {
	return rangeCertificates(env, certificateKey(a.Fingerprint, ""), nil)
}

// CertificatesArgs are the arguments of the certificates method statuses. Without either, it begins with the first.
type CertificatesArgs struct {
	_           struct{} `cbor:",toarray"`
	Fingerprint keys.Digest
	Institution string
}

func certificates(env Env, a CertificatesArgs) ([]ListedCertificate, error) {
	if err := checkInstitutionName(a.Institution); err != nil {
		return nil, err
	}
	return rangeCertificates(env, key(CertificatesAddress, []byte("c")), certificateKey(a.Fingerprint, a.Institution))
}

func holding(env Env, a CertificateArgs) (*Holding, error) {
	held, found, err := read[Holding](env, holdingKey(a.Fingerprint))
	if err != nil || !found {
		return nil, err
	}
	return &held, nil
}

func rangeCertificates(env Env, prefix, after []byte) ([]ListedCertificate, error) {
	begin := len(key(CertificatesAddress, []byte("c")))
	found := []ListedCertificate{}
	err := env.Range(prefix, after, maxFound, func(k, v []byte) error {
		var c ListedCertificate
		if len(k) < begin+len(c.Fingerprint) {
			return fmt.Errorf("state key %x does not end in a fingerprint and an institution", k)
		}
		c.Fingerprint = keys.Digest(k[begin : begin+len(c.Fingerprint)])
		c.Institution = string(k[begin+len(c.Fingerprint):])
		if err := ledger.Unmarshal(v, &c.Row); err != nil {
			return fmt.Errorf("state under %x: %w", k, err)
		}
		found = append(found, c)
		return nil
	})
	return found, err
}

// StatusArgs are the arguments of the certificates methods freeze and revoke.
type StatusArgs struct {
	_           struct{} `cbor:",toarray"`
	Fingerprint keys.Digest
	Reason      uint8
}

func freezeCertificate(env Env, a StatusArgs) error {
	return setCertificate(env, a, CertificateFrozen, "frozen")
}

func revokeCertificate(env Env, a StatusArgs) error {
	if names := Reasons(); int(a.Reason) < len(names) && names[a.Reason] == "certificate-hold" {
		return aborted(AbortArguments, nil, "certificate-hold is a reason to freeze: what is revoked stays so")
	}
	return setCertificate(env, a, CertificateRevoked, "revoked")
}

func unfreezeCertificate(env Env, a CertificateArgs) error {
	return setCertificate(env, StatusArgs{Fingerprint: a.Fingerprint}, CertificateActive, "unfrozen")
}

func setCertificate(env Env, a StatusArgs, status CertificateStatus, topic string) error {
	caller, err := callerAccount(env)
	if err != nil {
		return err
	}
	names := Reasons()
	switch {
	case !caller.HasAny(string(identity.Registrar), string(identity.InstitutionAdmin)):
		return denied(DeniedRole, "only a registrar or institution-admin says what is of certificates of its institution")
	case a.Fingerprint.IsZero():
		return aborted(AbortArguments, nil, "the fingerprint is zero: want the hash of the certificate's DER")
	case int(a.Reason) >= len(names) || names[a.Reason] == "":
		return aborted(AbortArguments, nil, "reason %d: want a code of RFC 5280 §5.3.1, 0 to 6, 9 or 10", a.Reason)
	}
	if status != CertificateActive && caller.Certificate != nil && *caller.Certificate == a.Fingerprint {
		return aborted(AbortCertificate, []any{a.Fingerprint[:]}, "the caller itself goes by certificate %s: bind its account to another one first, or send this from another account", a.Fingerprint)
	}
	row, _, err := ReadCertificate(env, caller.Institution, a.Fingerprint)
	switch {
	case err != nil:
		return err
	case row.Status == CertificateRevoked:
		return aborted(AbortUnchanged, nil, "certificate %s was revoked at height %d, for ever", a.Fingerprint, row.Height)
	case row.Status == status:
		return aborted(AbortUnchanged, nil, "certificate %s is %s for %s already", a.Fingerprint, status, caller.Institution)
	}
	row = Certificate{Version: ledger.Version, Status: status, Reason: a.Reason, By: env.Caller(), Height: env.Order().Height}
	if err := write(env, certificateKey(a.Fingerprint, caller.Institution), &row); err != nil {
		return err
	}
	return emit(env, topic, caller.Institution, a.Fingerprint[:], a.Reason)
}
