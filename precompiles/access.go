package precompiles

import (
	"slices"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

func newAccess() Contract {
	account := ledger.Field{Name: "account", Type: "addr"}
	role := ledger.Field{Name: "role", Type: "str"}
	indexed := []string{"account"}
	return &system{
		address: AccessAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"grant":    command(grantRole),
			"revoke":   command(revokeRole),
			"freeze":   command(freeze),
			"unfreeze": command(unfreeze),
			"roles":    query(rolesOf),
		},
		policies: map[string]Policy{
			"grant":    byAny(identity.Committee, identity.InstitutionAdmin),
			"revoke":   byAny(identity.Committee, identity.InstitutionAdmin),
			"freeze":   byAny(identity.Committee, identity.InstitutionAdmin, identity.Regulator),
			"unfreeze": byAny(identity.Committee, identity.InstitutionAdmin, identity.Regulator),
		},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "access", Version: "1", Profile: "strict",
			Doc: "Roles of accounts, and freezing. An institution-admin acts on accounts of its own institution, the committee on all. " +
				"The roles committee and regulator are given by genesis and not changed here. An institution-admin neither freezes itself nor lays down its role, " +
				"so that there is one left, and freezes no account with the role committee; and whoever froze such an account, it takes part in motions.",
			Methods: []ledger.Method{
				{Name: "grant", Kind: ledger.MethodTx, Args: []ledger.Field{account, role}},
				{Name: "revoke", Kind: ledger.MethodTx, Args: []ledger.Field{account, role}},
				{Name: "freeze", Kind: ledger.MethodTx, Args: []ledger.Field{account}, Doc: "Stops an account from sending transactions. A regulator may, too."},
				{Name: "unfreeze", Kind: ledger.MethodTx, Args: []ledger.Field{account}, Doc: "What a regulator or the committee froze, only they unfreeze."},
				{Name: "roles", Kind: ledger.MethodView, Args: []ledger.Field{account}, Return: "list<str>"},
			},
			Events: []ledger.EventDef{
				{Topic: "granted", Fields: []ledger.Field{account, role}, Indexed: indexed},
				{Topic: "revoked", Fields: []ledger.Field{account, role}, Indexed: indexed},
				{Topic: "frozen", Fields: []ledger.Field{account}, Indexed: indexed},
				{Topic: "unfrozen", Fields: []ledger.Field{account}, Indexed: indexed},
			},
			Errors: abortDefs(AbortArguments, AbortRole, AbortMissing, AbortUnchanged),
		},
	}
}

// grantable reports whether the holder may give and take a role in an institution.
func grantable(holder *Account, institution, role string) bool {
	own := holder.Institution == institution
	switch identity.Role(role) {
	case identity.Committee, identity.Regulator:
		return false
	case identity.User:
		if own && holder.Has(identity.Registrar) {
			return true
		}
	default:
	}
	return holder.Has(identity.Committee) || own && holder.Has(identity.InstitutionAdmin)
}

// checkRoles checks that a list of roles is well formed.
func checkRoles(roles []string) error {
	if len(roles) > MaxRoles {
		return aborted(AbortArguments, nil, "%d roles, at most %d", len(roles), MaxRoles)
	}
	for i, r := range roles {
		if !isRole(r) {
			return aborted(AbortRole, []any{""}, "%q is no role: want 1 to 32 characters of a-z, 0-9 and -", r)
		}
		if i > 0 && roles[i-1] >= r {
			return aborted(AbortRole, []any{r}, "roles are not sorted, or %s is named twice", r)
		}
	}
	return nil
}

func isRole(r string) bool {
	for i := range len(r) {
		if c := r[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return r != "" && len(r) <= 32
}

// RoleArgs are the arguments of the access methods grant and revoke.
type RoleArgs struct {
	_       struct{} `cbor:",toarray"`
	Account ledger.Address
	Role    string
}

func grantRole(env Env, a RoleArgs) error {
	return changeRoles(env, a, "granted", func(roles []string, at int, has bool) ([]string, bool) {
		return slices.Insert(roles, min(at, len(roles)), a.Role), !has
	})
}

func revokeRole(env Env, a RoleArgs) error {
	return changeRoles(env, a, "revoked", func(roles []string, at int, has bool) ([]string, bool) {
		if !has {
			return roles, false
		}
		return slices.Delete(roles, at, at+1), true
	})
}

func changeRoles(env Env, a RoleArgs, topic string, change func(roles []string, at int, has bool) ([]string, bool)) error {
	account, found, err := ReadAccount(env, a.Account)
	switch {
	case err != nil:
		return err
	case !isRole(a.Role):
		return aborted(AbortRole, []any{""}, "%q is no role: want 1 to 32 characters of a-z, 0-9 and -", a.Role)
	case !byMotion(env):
		if err := mayChangeRole(env, a, &account, found, topic == "revoked"); err != nil {
			return err
		}
	}
	if !found {
		return aborted(AbortMissing, []any{a.Account}, "no account %s", a.Account)
	}
	at, has := slices.BinarySearch(account.Roles, a.Role)
	roles, changed := change(account.Roles, at, has)
	if !changed {
		return aborted(AbortUnchanged, nil, "the account already has these roles")
	}
	if len(roles) > MaxRoles {
		return aborted(AbortArguments, nil, "%d roles, at most %d", len(roles), MaxRoles)
	}
	account.Roles = roles
	if err := write(env, AccountStateKey(a.Account), &account); err != nil {
		return err
	}
	return emit(env, topic, a.Account, a.Role)
}

// mayChangeRole checks that the caller may give a role to an account, or take it.
func mayChangeRole(env Env, a RoleArgs, account *Account, found, take bool) error {
	caller, err := callerAccount(env, AccessAddress)
	if err != nil || !found {
		return err
	}
	if !caller.HasAny(string(identity.Committee), string(identity.InstitutionAdmin)) {
		return denied(DeniedRole, "only an institution-admin or the committee changes roles")
	}
	if !caller.Has(identity.Committee) && caller.Institution != account.Institution {
		return denied(DeniedInstitution, "the caller may change roles in %s only", caller.Institution)
	}
	if !grantable(&caller, account.Institution, a.Role) {
		return aborted(AbortRole, []any{a.Role}, "the role %s is not given or taken here", a.Role)
	}
	if take && a.Role == string(identity.InstitutionAdmin) && a.Account == env.Caller() {
		return aborted(AbortRole, []any{a.Role}, "nobody lays the role %s down: have another one take it, so that the institution keeps one", a.Role)
	}
	return nil
}

func freeze(env Env, a AddressArgs) error {
	caller, account, err := parties(env, a.Address)
	if err != nil {
		return err
	}
	status, err := freezer(&caller, &account)
	if err != nil {
		return err
	}
	if status == FrozenByInstitution && a.Address == env.Caller() {
		return denied(DeniedRole, "an institution-admin does not freeze itself: have another one do it, so that the institution keeps one")
	}
	if account.Status >= status {
		return aborted(AbortUnchanged, nil, "the account is frozen")
	}
	account.Status = status
	if err := write(env, AccountStateKey(a.Address), &account); err != nil {
		return err
	}
	return emit(env, "frozen", a.Address)
}

func unfreeze(env Env, a AddressArgs) error {
	caller, account, err := parties(env, a.Address)
	if err != nil {
		return err
	}
	status, err := freezer(&caller, &account)
	switch {
	case err != nil:
		return err
	case account.Status == Active:
		return aborted(AbortUnchanged, nil, "the account is not frozen")
	case account.Status > status:
		return denied(DeniedRole, "only a regulator or the committee lifts this freeze")
	}
	account.Status = Active
	if err := write(env, AccountStateKey(a.Address), &account); err != nil {
		return err
	}
	return emit(env, "unfrozen", a.Address)
}

// freezer returns the strongest status that the caller may give to the account, and may lift.
func freezer(caller, account *Account) (AccountStatus, error) {
	switch {
	case caller.HasAny(string(identity.Committee), string(identity.Regulator)):
		return FrozenByAuthority, nil
	case !caller.Has(identity.InstitutionAdmin):
		return 0, denied(DeniedRole, "only an institution-admin, a regulator or the committee freezes accounts")
	case caller.Institution != account.Institution:
		return 0, denied(DeniedInstitution, "the caller may freeze accounts of %s only", caller.Institution)
	case account.Has(identity.Committee):
		return 0, denied(DeniedRole, "only a regulator or the committee freezes an account with the role committee")
	}
	return FrozenByInstitution, nil
}

func rolesOf(env Env, a AddressArgs) ([]string, error) {
	account, found, err := ReadAccount(env, a.Address)
	if err == nil && !found {
		err = aborted(AbortMissing, []any{a.Address}, "no account %s", a.Address)
	}
	return account.Roles, err
}

// parties returns the account of the caller and the one it wants to change.
func parties(env Env, address ledger.Address) (caller, account Account, err error) {
	if caller, err = callerAccount(env, AccessAddress); err != nil {
		return caller, account, err
	}
	account, found, err := ReadAccount(env, address)
	if err == nil && !found {
		err = aborted(AbortMissing, []any{address}, "no account %s", address)
	}
	return caller, account, err
}
