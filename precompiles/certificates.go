package precompiles

import (
	"bytes"
	"cmp"
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
	_           struct{}      `cbor:",toarray"`
	Version     uint16        // ledger.Version
	Authorities []Authority   // sorted by root, 1 to MaxAuthorities
	Policies    []VouchPolicy // sorted by role; for a role without one, any agency is enough
	// RealNames says that accounts of the institution call contracts only under a certificate for one of the keys that
	// signed. Without it, an account that goes by no certificate may call all the same.
	RealNames bool
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

// VouchPolicy says how many of an institution's agencies must vouch for a role: of its nodes, of its accounts that go by
// certificates and have the role (all for user), and of its people who ask nodes under certificates. Those can that have a root which is valid
// at block time and may vouch for the role. The end of a root never lowers how many must: only motions do.
type VouchPolicy struct {
	_    struct{} `cbor:",toarray"`
	Role string
	Need uint32 // 0: all whose roots for the role have begun, also those whose last one ended; 1: any
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
	Policy      VouchPolicy
}

// InstitutionNames says whether a reform has an institution's accounts go by real names (Trust.RealNames).
type InstitutionNames struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Required    bool
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
//
// # Who says what, and what it does to accounts
//
// Registrars and institution-admins speak for their institution, but not of a certificate that their own account goes
// by, nor registrars of one that an account with the role regulator goes by. What an institution-admin froze, no
// registrar changes; what a registrar said, an institution-admin may say again, to give it more weight.
//
// Accounts go by certificates to which they were bound (Binding). While these do not count, an account calls no
// contract, whatever its roles. An account that governs must not be stopped so easily, or a registrar could lock out
// those above, and nobody would be left to let them in again. So it depends on the account's roles who binds it, and
// what keeps it from calling the system contracts, but for those that deploy and that name code:
//
//	roles of the account     bound by                          stopped by
//	committee, or regulator  itself                            nothing
//	institution-admin        an institution-admin, itself too  an institution-admin that froze or revoked a certificate
//	others than user         an institution-admin              certificates that do not count: frozen, revoked, ended,
//	user, or none            a registrar, too                  or vouched for by too few that the group trusts
//
// The first row that fits counts. Vouched for is the role user, and each role that was conferred on the account and that the
// institution's Trust names in a policy or of an authority: where any is not, the account calls nothing. When an account of the first is recovered, it goes by no certificates any more: whoever
// had the old keys chose them.
//
// So whoever stops an institution-admin is another one, which may still call: by its certificates an institution never
// loses the last. Time and motions end certificates too, and stop no institution-admin from binding the next. What
// members agree on by motions, no certificate keeps them from. To ask a node in an account's name takes certificates that
// count, whatever the roles (Account.MayAsk): who binds itself does that first.
type Certificate struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Status  CertificateStatus
	Reason  uint8          // code of RFC 5280 §5.3.1; 0 where it is active again
	By      ledger.Address // the account that said so
	Admin   bool           // it did so as an institution-admin
	Height  ledger.Height  // of the block in which it did
}

// Binding says by which certificates an account goes, as who bound it read them. The chain cannot tell whether they are
// the person's, nor whether they are issued under the roots that are named. An account of another institution may be
// bound to the same ones: it can be no proof of anything, and must not keep the rightful holder out.
type Binding struct {
	_ struct{} `cbor:",toarray"`
	// Paths are 1 to MaxAuthorities, sorted and without duplicates. All roots are zero, or none: then the group must name
	// them as authorities that may vouch for the role user, as many as its policy wants, and likewise for each role of the
	// account that it judges by certificates (Trust.Judges). Without roots they count only
	// for an institution that has no authorities, and go on counting when it gets some.
	Paths []identity.Path
	Until int64       // last block time, Unix ms, at which they count
	Key   *ledger.Key // that they are for, a key of the account, which must be among those that sign calls of contracts; nil: none
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
	return read[Trust](r, TrustStateKey(institution))
}

// ReadCertificate returns what an institution said of a certificate last.
func ReadCertificate(r Reader, institution string, fingerprint keys.Digest) (certificate Certificate, found bool, err error) {
	return read[Certificate](r, certificateKey(fingerprint, institution))
}

// TrustKeeper is a Reader that keeps the rows that it decoded, which takes longer than all else that is asked of an account.
type TrustKeeper interface {
	Reader
	// Trust is ReadTrust; nil: not found. The row is shared and must not be changed.
	Trust(institution string) (*Trust, error)
}

// trustIn returns who may vouch for an institution; nil: the group names nobody. It must not be changed.
func trustIn(r Reader, institution string) (*Trust, error) {
	if k, ok := r.(TrustKeeper); ok {
		return k.Trust(institution)
	}
	trust, found, err := ReadTrust(r, institution)
	if err != nil || !found {
		return nil, err
	}
	return &trust, nil
}

// TrustStateKey returns the state key of who may vouch for an institution.
func TrustStateKey(institution string) []byte {
	return key(CertificatesAddress, []byte("a"), []byte(institution))
}

// namesKey is there for an institution whose row says Trust.RealNames.
func namesKey(institution string) []byte {
	return key(CertificatesAddress, []byte("n"), []byte(institution))
}

func certificateKey(fingerprint keys.Digest, institution string) []byte {
	return key(CertificatesAddress, []byte("c"), fingerprint[:], []byte(institution))
}

// boundKey is that of an account of an institution that goes by a certificate.
func boundKey(fingerprint keys.Digest, institution string, account ledger.Address) []byte {
	return key(CertificatesAddress, []byte("h"), fingerprint[:], []byte{byte(len(institution))}, []byte(institution), account[:])
}

// counts reports whether the authority may vouch for a role at a time.
func (a *Authority) counts(role string, unixMilli int64) bool {
	_, may := slices.BinarySearch(a.Roles, role)
	return may && a.From <= unixMilli && unixMilli <= a.Until
}

// agencies returns those that may vouch for a role at a time, sorted.
func (t *Trust) agencies(role string, unixMilli int64) []string {
	return t.agenciesWith(func(a *Authority) bool { return a.counts(role, unixMilli) })
}

// begun returns the agencies that may vouch for a role at a block time, and those that could before and have no root any
// more that is valid, sorted.
func (t *Trust) begun(role string, unixMilli int64) []string {
	return t.agenciesWith(func(a *Authority) bool { return slices.Contains(a.Roles, role) && a.From <= unixMilli })
}

func (t *Trust) agenciesWith(is func(*Authority) bool) []string {
	var names []string
	for i := range t.Authorities {
		if a := &t.Authorities[i]; is(a) {
			names = append(names, a.Agency)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// need returns how many agencies must vouch for a role at a time, at least 1.
func (t *Trust) need(role string, unixMilli int64) int {
	i := slices.IndexFunc(t.Policies, func(p VouchPolicy) bool { return p.Role == role })
	switch {
	case i < 0:
		return 1
	case t.Policies[i].Need == 0:
		return max(1, len(t.begun(role, unixMilli)))
	}
	return int(t.Policies[i].Need)
}

// Credential is what providers vouched for: an institution and a role of whoever has the certificates.
type Credential struct {
	Institution string
	Role        identity.Role
	Paths       []identity.Path // from the certificates to the roots, as providers found them
}

// CheckCredential says why certificates do not count for an institution and role at a state and a time in Unix ms, or returns nil.
// A refusal is an [*Error] with status denied, whose reason an operator acts on; any other error is the reader's. It
// depends on its arguments alone. In execution the time is block time, so all nodes get one answer. For connections it is
// the later of block time and the node's clock, since block time stands still while there is nothing to do.
//
// Of the certificates, those count that the institution has neither frozen nor revoked, each for one agency: the first
// to which its paths lead whose root may vouch for the role. As many agencies must be among them as the institution's
// policy wants; one certificate is no two vouchers, however many roots certify its issuer. For an institution of which
// the group names no authorities, one that counts is enough, and whether it is vouched for, the local provider alone
// decides.
func CheckCredential(r Reader, c *Credential, unixMilli int64) error {
	trust, err := trustIn(r, c.Institution)
	if err != nil {
		return err
	}
	live, refused, err := standing(r, c.Institution, c.Paths)
	if err != nil {
		return err
	}
	return trust.check(c.Institution, c.Role, live, refused, unixMilli)
}

// standing returns the paths, sorted, from certificates that their institution has neither frozen nor revoked, and why the
// others do not count.
func standing(r Reader, institution string, paths []identity.Path) (live []identity.Path, refused []string, err error) {
	live = slices.Clone(paths)
	slices.SortFunc(live, identity.Path.Compare)
	var last keys.Digest
	counts := false
	n := 0
	for i, p := range live {
		if i == 0 || p.Leaf != last {
			err := checkCertificate(r, institution, p.Leaf)
			if e, ok := refusal(err); ok {
				refused = append(refused, e.Reason)
			} else if err != nil {
				return nil, nil, err
			}
			last, counts = p.Leaf, err == nil
		}
		if counts {
			live[n] = p
			n++
		}
	}
	return live[:n], refused, nil
}

// check says why paths, which standing returned with why others do not count, do not do for a role, or returns nil. Without a
// trust one path is enough.
func (t *Trust) check(institution string, role identity.Role, live []identity.Path, refused []string, unixMilli int64) error {
	if t == nil {
		if len(live) > 0 {
			return nil
		}
		return denied(DeniedCertificate, "%s", cmp.Or(strings.Join(refused, "; "), "there is no certificate"))
	}
	refused = slices.Clone(refused)
	var vouched []string
	for len(live) > 0 {
		leaf, n := live[0].Leaf, 1
		for n < len(live) && live[n].Leaf == leaf {
			n++
		}
		agency, why := t.agency(institution, role, live[:n], unixMilli)
		if agency != "" {
			vouched = append(vouched, agency)
		}
		refused = append(refused, why...)
		live = live[n:]
	}
	slices.Sort(vouched)
	vouched = slices.Compact(vouched)
	need := t.need(string(role), unixMilli)
	if len(vouched) >= need {
		return nil
	}
	if len(vouched) > 0 || len(refused) == 0 {
		valid, begun := t.agencies(string(role), unixMilli), t.begun(string(role), unixMilli)
		refused = append(refused, fmt.Sprintf("%d of the agencies %s must vouch for role %s of institution %s, and %d did", need, strings.Join(begun, ", "), role, institution, len(vouched)))
		if ended := slices.DeleteFunc(begun, func(name string) bool { return slices.Contains(valid, name) }); need > len(valid) && len(ended) > 0 {
			refused = append(refused, fmt.Sprintf("the last root of %s ended, and a motion trusts the next one, or takes this one away", strings.Join(ended, ", ")))
		}
	}
	return denied(DeniedCertificate, "%s: `fondaco authority show %s` prints what is trusted", strings.Join(refused, "; "), institution)
}

// Judges reports whether a role of an account takes certificates that are vouched for: an authority may vouch for it, or a
// policy names it. Of a nil Trust it is false. The role node is of no use to an account.
func (t *Trust) Judges(role string) bool {
	return t != nil && role != string(identity.Node) &&
		(slices.ContainsFunc(t.Policies, func(p VouchPolicy) bool { return p.Role == role }) ||
			slices.ContainsFunc(t.Authorities, func(a Authority) bool { return slices.Contains(a.Roles, role) }))
}

// agency returns the first agency to which paths lead whose root counts, or why none of their roots does.
func (t *Trust) agency(institution string, role identity.Role, paths []identity.Path, unixMilli int64) (agency string, refused []string) {
	for _, p := range paths {
		i := slices.IndexFunc(t.Authorities, func(a Authority) bool { return a.Root == p.Root })
		if p.Root.IsZero() {
			refused = append(refused, fmt.Sprintf("no CA root is named for certificate %s, and institution %s has authorities", p.Leaf, institution))
			continue
		}
		if i < 0 {
			refused = append(refused, fmt.Sprintf("CA root %s is not trusted for institution %s", p.Root, institution))
			continue
		}
		switch a := &t.Authorities[i]; {
		case a.counts(string(role), unixMilli):
			return a.Agency, nil // what other roots lack is no matter
		case slices.Contains(a.Roles, string(role)):
			refused = append(refused, fmt.Sprintf("CA %s, root %s, counts from %s until %s, and it is %s", a.Agency, p.Root, timeText(a.From), timeText(a.Until), timeText(unixMilli)))
		default:
			refused = append(refused, fmt.Sprintf("CA %s, root %s, is not trusted for role %s of institution %s", a.Agency, p.Root, role, institution))
		}
	}
	return "", refused
}

// checkCertificate says why an institution's certificate does not count, or returns nil.
func checkCertificate(r Reader, institution string, fingerprint keys.Digest) error {
	row, _, err := ReadCertificate(r, institution, fingerprint)
	if err != nil {
		return err
	}
	return row.check(institution, fingerprint)
}

func (c *Certificate) check(institution string, fingerprint keys.Digest) error {
	if c.Status == CertificateActive {
		return nil
	}
	remedy := "have another one issued"
	if c.Status == CertificateFrozen {
		remedy = "a registrar or institution-admin of it can unfreeze it"
	}
	return denied(DeniedCertificate, "certificate %s of institution %s was %s at height %d (%s): %s", fingerprint, institution, c.Status, c.Height, ReasonName(c.Reason), remedy)
}

// ReasonName returns the name of a reason code.
func ReasonName(code uint8) string {
	if names := Reasons(); int(code) < len(names) && names[code] != "" {
		return names[code]
	}
	return fmt.Sprintf("reason %d", code)
}

func timeText(unixMilli int64) string { return time.UnixMilli(unixMilli).UTC().Format(time.RFC3339) }

// checkBinding says why an account's certificates keep it from calling a target at a state and a block time, or returns
// nil. See Certificate for the rule.
func (a *Account) checkBinding(r Reader, to ledger.Target, unixMilli int64) error {
	b, governs := a.Certificate, governs(to)
	switch {
	case governs && (b == nil || a.bindsItself()):
		return nil
	case governs && a.Has(identity.InstitutionAdmin):
		for _, p := range b.Paths {
			row, _, err := ReadCertificate(r, a.Institution, p.Leaf)
			if err != nil {
				return err
			}
			if row.Admin {
				if err := row.check(a.Institution, p.Leaf); err != nil {
					return err
				}
			}
		}
		return nil
	case b == nil:
		required, err := realNames(r, a.Institution)
		if required {
			err = denied(DeniedCertificate, "accounts of %s call contracts under a certificate only, and this one goes by none: its registrar binds it with `fondaco account certify`", a.Institution)
		}
		return err
	}
	return a.CheckCertificates(r, unixMilli)
}

// realNames reports whether accounts of an institution go by real names. There is a key of its own for it, because most
// calls ask no more of an institution, and its row takes several microseconds to decode.
func realNames(r Reader, institution string) (required bool, err error) {
	_, required, err = r.Get(namesKey(institution))
	return required && err == nil, err
}

// governs reports whether a call is to a system contract by which people govern the group and its accounts. What code runs, and
// under which name, is business.
func governs(to ledger.Target) bool {
	return to == ledger.Target{Address: to.Address} && IsSystem(to.Address) && to.Address != ContractsAddress && to.Address != CNSAddress
}

// CheckCertificates says why the certificates of an account that goes by some do not count at a state and a time in Unix ms, or
// returns nil. A refusal is an [*Error] with status denied; any other error is the reader's.
func (a *Account) CheckCertificates(r Reader, unixMilli int64) error {
	b := a.Certificate
	if unixMilli > b.Until {
		return denied(DeniedCertificate, "certificate %s of institution %s counted until %s, and block time is %s: have the account bound to another with `fondaco account certify`", b.Paths[0].Leaf, a.Institution, timeText(b.Until), timeText(unixMilli))
	}
	if b.Paths[0].Root.IsZero() {
		live, refused, err := standing(r, a.Institution, b.Paths)
		if err != nil {
			return err
		}
		var nobody *Trust
		return nobody.check(a.Institution, identity.User, live, refused, unixMilli)
	}
	return a.checkVouched(r, unixMilli, a.Roles...)
}

// checkVouched says for which roles those that the group trusts do not vouch by the account's certificates, or returns nil: user,
// and of the given ones those that the group judges by certificates.
func (a *Account) checkVouched(r Reader, unixMilli int64, roles ...string) error {
	trust, err := trustIn(r, a.Institution)
	if err != nil {
		return err
	}
	live, refused, err := standing(r, a.Institution, a.Certificate.Paths)
	if err != nil {
		return err
	}
	err = trust.check(a.Institution, identity.User, live, refused, unixMilli)
	for _, role := range roles {
		if err == nil && role != string(identity.User) && trust.Judges(role) {
			err = trust.check(a.Institution, identity.Role(role), live, refused, unixMilli)
		}
	}
	return err
}

// checkSigned says why the keys that signed a call do not do for an account's certificates, or returns nil.
func (a *Account) checkSigned(r Reader, to ledger.Target, signatures []ledger.Signature) error {
	b := a.Certificate
	if b == nil || governs(to) {
		return nil
	}
	if b.Key == nil {
		required, err := realNames(r, a.Institution)
		if required {
			err = denied(DeniedCertificate, "accounts of %s call contracts under a certificate for a key that signs, and that of this one is for none of its keys: its registrar binds it with `fondaco account certify`", a.Institution)
		}
		return err
	}
	if !slices.ContainsFunc(signatures, func(s ledger.Signature) bool {
		return s.Algorithm == b.Key.Algorithm && bytes.Equal(s.Key, b.Key.Bytes)
	}) {
		return denied(DeniedCertificate, "the %s key %x, which certificate %s is for, did not sign", b.Key.Algorithm, b.Key.Bytes, b.Paths[0].Leaf)
	}
	return nil
}

// bindsItself reports whether an account itself, and nobody else, says by which certificates it goes, and none keeps it from governing.
func (a *Account) bindsItself() bool {
	return a.HasAny(string(identity.Committee), string(identity.Regulator))
}

// mayCertify says why a caller may not bind an account to certificates, or returns nil.
func mayCertify(caller, account *Account, self bool) error {
	switch {
	case account.bindsItself() && self:
		return nil
	case account.bindsItself():
		return denied(DeniedRole, "an account with the role committee or regulator binds itself to certificates")
	case !caller.HasAny(string(identity.Registrar), string(identity.InstitutionAdmin)):
		return denied(DeniedRole, "only a registrar or institution-admin binds accounts to certificates")
	case caller.Institution != account.Institution:
		return denied(DeniedInstitution, "the caller may bind accounts of %s only", caller.Institution)
	case caller.Has(identity.InstitutionAdmin):
		return nil
	}
	for _, role := range account.Roles {
		if role != string(identity.User) {
			return denied(DeniedRole, "the account has the role %s: only an institution-admin binds it to certificates", role)
		}
	}
	return nil
}

func (b *Binding) equal(o *Binding) bool {
	if b == nil || o == nil {
		return b == o
	}
	sameKey := b.Key == o.Key || b.Key != nil && o.Key != nil && b.Key.Algorithm == o.Key.Algorithm && bytes.Equal(b.Key.Bytes, o.Key.Bytes)
	return sameKey && b.Until == o.Until && slices.Equal(b.Paths, o.Paths)
}

// leaves returns the fingerprints of the certificates, each once.
func (b *Binding) leaves() (leaves []keys.Digest) {
	if b == nil {
		return nil
	}
	for _, p := range b.Paths {
		leaves = append(leaves, p.Leaf)
	}
	return slices.Compact(leaves)
}

// validate checks a new binding of an account by itself.
func (b *Binding) validate(a *Account) error {
	if len(b.Paths) == 0 || len(b.Paths) > MaxAuthorities {
		return aborted(AbortArguments, nil, "%d paths, want 1 to %d", len(b.Paths), MaxAuthorities)
	}
	for i, p := range b.Paths {
		switch {
		case p.Leaf.IsZero():
			return aborted(AbortCertificate, []any{p.Leaf[:]}, "the fingerprint is zero: want that of the certificate")
		case i > 0 && b.Paths[i-1].Compare(p) >= 0:
			return aborted(AbortArguments, nil, "the paths are not sorted, or one is there twice")
		case p.Root.IsZero() != b.Paths[0].Root.IsZero():
			return aborted(AbortArguments, nil, "some paths have a root and others have none")
		}
	}
	if b.Key != nil && a.key(b.Key.Algorithm, b.Key.Bytes) == nil {
		return aborted(AbortCertificate, []any{b.Paths[0].Leaf[:]}, "the certificate is for the %s key %x, which is not bound to the account", b.Key.Algorithm, b.Key.Bytes)
	}
	return nil
}

// mayBegin says why a new binding of the account does not count, or returns nil. It wants more of it than CheckCertificates does
// of one that is there: all certificates count, and where the institution has authorities, roots are named.
func (a *Account) mayBegin(env Env) error {
	for _, leaf := range a.Certificate.leaves() {
		if err := checkCertificate(env, a.Institution, leaf); err != nil {
			return err
		}
	}
	now := env.Order().UnixMilli
	if err := a.CheckCertificates(env, now); err != nil {
		return err
	}
	return a.checkVouched(env, now, a.Roles...)
}

// mayConfer says why a role does not go with the certificates by which an account goes, or returns nil: it would call nothing
// any more. Of a role that binds itself, or that a motion gives, whoever binds the account next sees to it.
func (a *Account) mayConfer(env Env, role string) error {
	if a.Certificate == nil || byMotionOnly(identity.Role(role)) {
		return nil
	}
	trust, err := trustIn(env, a.Institution)
	if err != nil || !trust.Judges(role) {
		return err
	}
	err = a.checkVouched(env, env.Order().UnixMilli, role)
	if e, ok := refusal(err); ok {
		return aborted(AbortRole, []any{role}, "the account's certificates do not do for the role %s: %s. Bind it to ones that do (`fondaco account certify`), or to none, and give the role then", role, e.Reason)
	}
	return err
}

// bindCertificates checks the new binding of an account, and leads from the certificates to it, and from those of the
// binding that it had before no more. Either may be nil.
func bindCertificates(env Env, address ledger.Address, a *Account, before *Binding) error {
	if b := a.Certificate; b != nil {
		if err := b.validate(a); err != nil {
			return err
		}
		err := a.mayBegin(env)
		if e, ok := refusal(err); ok {
			return aborted(AbortCertificate, []any{b.Paths[0].Leaf[:]}, "%s", e.Reason)
		}
		if err != nil {
			return err
		}
	}
	was, is := before.leaves(), a.Certificate.leaves()
	for _, leaf := range was {
		if !slices.Contains(is, leaf) {
			if err := env.Delete(boundKey(leaf, a.Institution, address)); err != nil {
				return err
			}
		}
	}
	for _, leaf := range is {
		if !slices.Contains(was, leaf) {
			if err := write(env, boundKey(leaf, a.Institution, address), true); err != nil {
				return err
			}
		}
	}
	return nil
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
	for _, n := range f.RealNames {
		names = append(names, n.Institution)
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
			return refused(reformRootTwice, root, institution)
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
			return refused(reformRootUnknown, d.Root, institution)
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
			return refused(reformRootUnchanged, n.Root, institution)
		default:
			t.Authorities[at] = *n
		}
	}
	if len(t.Authorities) > MaxAuthorities {
		return refused(reformAuthorityCount, len(t.Authorities), institution, MaxAuthorities)
	}
	if err := t.setPolicies(institution, f); err != nil {
		return err
	}
	set := false
	for _, n := range f.RealNames {
		switch {
		case n.Institution != institution:
		case set:
			return refused(reformRealNamesTwice, institution)
		case t.RealNames == n.Required:
			return refused(reformRealNamesUnchanged, institution)
		default:
			t.RealNames, set = n.Required, true
		}
	}
	return nil
}

func (t *Trust) setPolicies(institution string, f *Reform) error {
	var named []string
	for _, p := range f.Policies {
		if p.Institution != institution {
			continue
		}
		if slices.Contains(named, p.Policy.Role) {
			return refused(reformVouchTwice, p.Policy.Role, institution)
		}
		named = append(named, p.Policy.Role)
		if !isRole(p.Policy.Role) {
			return refused(reformVouchRole, institution)
		}
		if p.Policy.Need > MaxAuthorities {
			return refused(reformVouchNeed, p.Policy.Need, MaxAuthorities)
		}
		at, found := slices.BinarySearchFunc(t.Policies, p.Policy.Role, func(o VouchPolicy, role string) int { return cmp.Compare(o.Role, role) })
		switch {
		case found && t.Policies[at].Need == p.Policy.Need, !found && p.Policy.Need == 1:
			return refused(reformVouchUnchanged, p.Policy.Role, institution)
		case found && p.Policy.Need == 1:
			t.Policies = slices.Delete(t.Policies, at, at+1)
		case found:
			t.Policies[at] = p.Policy
		default:
			t.Policies = slices.Insert(t.Policies, at, p.Policy)
		}
	}
	if len(t.Policies) > MaxRoles {
		return refused(reformVouchCount, len(t.Policies), institution, MaxRoles)
	}
	return nil
}

// validate checks what a motion says of an authority by itself.
func (a *Authority) validate() error {
	switch {
	case a.Agency == "" || len(a.Agency) > MaxAgencyName:
		return refused(reformAgencyName, len(a.Agency), MaxAgencyName)
	case a.Root.IsZero():
		return refused(reformNoRoot, a.Agency)
	case a.From < 0 || a.Until < a.From || a.Until == 0:
		return refused(reformRootDates, a.Root, a.From, a.Until)
	case len(a.Roles) == 0:
		return refused(reformNoRole, a.Root)
	}
	if err := checkRoles(a.Roles); err != nil {
		return refusedAs(err, reformRootRoles, a.Root)
	}
	return nil
}

func (a *Authority) equal(b *Authority) bool {
	return a.Agency == b.Agency && a.Root == b.Root && a.From == b.From && a.Until == b.Until && slices.Equal(a.Roles, b.Roles)
}

// sound checks that the institution's policies, in any case that for nodes, and that for users where they go by real
// names, can be met at block time, so that no motion locks an institution out. Time may: an institution whose roots all ended gets new ones by another motion.
func (t *Trust) sound(institution string, unixMilli int64) error {
	roles := []string{}
	if len(t.Authorities) > 0 {
		roles = append(roles, string(identity.Node))
	}
	if t.RealNames {
		roles = append(roles, string(identity.User))
	}
	for _, p := range t.Policies {
		roles = append(roles, p.Role)
	}
	for _, role := range roles {
		agencies := t.agencies(role, unixMilli)
		if need := t.need(role, unixMilli); len(agencies) < need {
			return refused(reformFewAgencies, len(agencies), institution, role, moment(unixMilli), need)
		}
	}
	return nil
}

// writeTrusts writes what trustsAfter returned.
func writeTrusts(env Env, rows []InstitutionTrust) error {
	for i := range rows {
		t := &rows[i]
		if err := put(env, TrustStateKey(t.Institution), &t.Row, len(t.Row.Authorities) > 0); err != nil {
			return err
		}
		if err := put(env, namesKey(t.Institution), true, t.Row.RealNames); err != nil {
			return err
		}
	}
	return nil
}

// put writes a value that is there, or deletes one that is not.
func put(env Env, key []byte, value any, there bool) error {
	if !there {
		return env.Delete(key)
	}
	return write(env, key, value)
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
		{Name: "VouchPolicy", Fields: []ledger.Field{{Name: "role", Type: "str"}, {Name: "need", Type: "u32"}}},
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
			"bound":    query(boundAccounts),
			"freeze":   command(freezeCertificate),
			"unfreeze": command(unfreezeCertificate),
			"revoke":   command(revokeCertificate),
		},
		policies: map[string]Policy{
			"freeze":   byAny(identity.InstitutionAdmin, identity.Registrar),
			"unfreeze": byAny(identity.InstitutionAdmin, identity.Registrar),
			"revoke":   byAny(identity.InstitutionAdmin, identity.Registrar),
		},
		own: []string{"freeze", "unfreeze", "revoke"},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "certificates", Version: "1", Profile: "strict",
			Doc: "Which certificate authorities may vouch for which institution and role, and what institutions say of their certificates. " +
				"Certificates are named by fingerprints: hashes under the chain's suite of what their issuers signed, the DER of the TBSCertificate. Motions of the contract governance change authorities and policies.",
			Types: append(
				trustTypes(),
				ledger.TypeDef{Name: "Trust", Fields: []ledger.Field{version, {Name: "authorities", Type: "list<Authority>"}, {Name: "policies", Type: "list<VouchPolicy>"}, {Name: "real_names", Type: "bool"}}},
				ledger.TypeDef{Name: "InstitutionTrust", Fields: []ledger.Field{institution, {Name: "row", Type: "Trust"}}},
				ledger.TypeDef{Name: "Standing", Fields: []ledger.Field{{Name: "need", Type: "u32"}, {Name: "agencies", Type: "list<str>"}}},
				ledger.TypeDef{Name: "Status", Variants: statuses},
				ledger.TypeDef{Name: "Certificate", Fields: []ledger.Field{version, {Name: "status", Type: "Status"}, reason, {Name: "by", Type: "addr"}, {Name: "admin", Type: "bool"}, {Name: "height", Type: "u64"}}},
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
					Doc: "Returns which agencies may vouch for a role at block time, of nodes, of accounts that go by certificates, and of who asks nodes under one, and how many must; nothing for an institution without authorities. Those whose last root ended are among the ones that the policy all asks, until a motion takes the root away.",
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
					Name: "bound", Kind: ledger.MethodView, Args: []ledger.Field{fingerprint, institution, {Name: "after", Type: "opt<addr>"}}, Return: "list<addr>",
					Doc: "Returns up to 64 accounts of an institution that go by a certificate, in order of address, beginning after one.",
				},
				{
					Name: "freeze", Kind: ledger.MethodTx, Args: []ledger.Field{fingerprint, reason},
					Doc: "Stops a certificate of the caller's institution from counting. The caller is its registrar or institution-admin. The reason is a code of RFC 5280, 5.3.1. " +
						"Accounts with the role institution-admin go on governing unless another one said so, and those with the role committee or regulator in any case. No registrar says it of a certificate that an account with the role regulator goes by.",
				},
				{Name: "unfreeze", Kind: ledger.MethodTx, Args: []ledger.Field{fingerprint}, Doc: "Lifts what freeze did. What an institution-admin froze, no registrar unfreezes."},
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
				{Prefix: "h", Key: []ledger.Type{"bytes"}, Value: "bool", Doc: "fingerprint; length and name of an institution; address of an account of it that goes by the certificate"},
				{Prefix: "n", Key: []ledger.Type{"str"}, Value: "bool", Doc: "institution whose row has real_names"},
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
	return page(env, TrustStateKey(""), TrustStateKey(a.After), maxTrusts, func(id, value []byte) (t InstitutionTrust, err error) {
		t.Institution = string(id)
		err = ledger.Unmarshal(value, &t.Row)
		return t, err
	})
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
	Agencies []string // sorted; fewer than Need if roots of others ended
}

func policyOf(env Env, a PolicyArgs) (*Standing, error) {
	trust, err := trustOf(env, TrustArgs{Institution: a.Institution})
	if err != nil || trust == nil {
		return nil, err
	}
	now := env.Order().UnixMilli
	return &Standing{Need: uint32(trust.need(a.Role, now)), Agencies: trust.agencies(a.Role, now)}, nil
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
	return page(env, certificateKey(a.Fingerprint, ""), nil, maxFound, func(id, value []byte) (ListedCertificate, error) {
		return listedCertificate(append(a.Fingerprint[:], id...), value)
	})
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
	return page(env, key(CertificatesAddress, []byte("c")), certificateKey(a.Fingerprint, a.Institution), maxFound, listedCertificate)
}

// listedCertificate reads an entry of the table of certificates. The id is a fingerprint and an institution.
func listedCertificate(id, value []byte) (c ListedCertificate, err error) {
	n := len(c.Fingerprint)
	if err := ofSize(id[:min(n, len(id))], n); err != nil {
		return c, err
	}
	c.Fingerprint, c.Institution = keys.Digest(id[:n]), string(id[n:])
	err = ledger.Unmarshal(value, &c.Row)
	return c, err
}

// BoundArgs are the arguments of the certificates method bound.
type BoundArgs struct {
	_           struct{} `cbor:",toarray"`
	Fingerprint keys.Digest
	Institution string
	After       *ledger.Address
}

func boundAccounts(env Env, a BoundArgs) ([]ledger.Address, error) {
	if err := checkInstitutionName(a.Institution); err != nil {
		return nil, err
	}
	prefix := boundKey(a.Fingerprint, a.Institution, ledger.Address{})
	return accountsUnder(env, prefix[:len(prefix)-ledger.AddressSize], a.After)
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
	caller, err := callerAccount(env, CertificatesAddress)
	if err != nil {
		return err
	}
	names := Reasons()
	switch {
	case !caller.HasAny(string(identity.Registrar), string(identity.InstitutionAdmin)):
		return denied(DeniedRole, "only a registrar or institution-admin says what is of certificates of its institution")
	case a.Fingerprint.IsZero():
		return aborted(AbortArguments, nil, "the fingerprint is zero: want that of the certificate")
	case int(a.Reason) >= len(names) || names[a.Reason] == "":
		return aborted(AbortArguments, nil, "reason %d: want a code of RFC 5280 §5.3.1, 0 to 6, 9 or 10", a.Reason)
	}
	if status != CertificateActive && slices.Contains(caller.Certificate.leaves(), a.Fingerprint) {
		return aborted(AbortCertificate, []any{a.Fingerprint[:]}, "the caller itself goes by certificate %s: bind its account to another one first, or send this from another account", a.Fingerprint)
	}
	admin := caller.Has(identity.InstitutionAdmin)
	if status != CertificateActive && !admin {
		if err := spares(env, caller.Institution, a.Fingerprint); err != nil {
			return err
		}
	}
	row, _, err := ReadCertificate(env, caller.Institution, a.Fingerprint)
	again := row.Status == status && status != CertificateActive && admin && !row.Admin // it weighs more then
	switch {
	case err != nil:
		return err
	case again:
	case row.Status == CertificateRevoked:
		return aborted(AbortUnchanged, nil, "certificate %s was revoked at height %d, for ever", a.Fingerprint, row.Height)
	case row.Status == status:
		return aborted(AbortUnchanged, nil, "certificate %s is %s for %s already", a.Fingerprint, status, caller.Institution)
	case row.Status != CertificateActive && row.Admin && !admin:
		return denied(DeniedRole, "an institution-admin froze certificate %s, and only one says more of it", a.Fingerprint)
	}
	row = Certificate{Version: ledger.Version, Status: status, Reason: a.Reason, By: env.Caller(), Admin: admin, Height: env.Order().Height}
	if err := write(env, certificateKey(a.Fingerprint, caller.Institution), &row); err != nil {
		return err
	}
	return emit(env, topic, caller.Institution, a.Fingerprint[:], a.Reason)
}

// spares refuses to have a certificate of an institution stopped that a regulator goes by.
func spares(r Reader, institution string, fingerprint keys.Digest) error {
	regulators, err := ReadRegulators(r)
	if err != nil {
		return err
	}
	for _, address := range regulators {
		account, _, err := ReadAccount(r, address)
		if err != nil {
			return err
		}
		if account.Institution == institution && slices.Contains(account.Certificate.leaves(), fingerprint) {
			return denied(DeniedRole, "the regulator %s goes by certificate %s: an institution-admin of %s says this, or the regulator binds itself to another one first", address, fingerprint, institution)
		}
	}
	return nil
}
