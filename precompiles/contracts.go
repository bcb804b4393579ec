package precompiles

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Deployment is a row of the contract table. It is keyed by the contract's assigned address.
type Deployment struct {
	_       struct{}    `cbor:",toarray"`
	Version uint16      // ledger.Version
	Code    keys.Digest // of the module that runs; see CodeHash
	Owner   ledger.Address
	Number  uint32        // 1 when deployed, one more with each upgrade
	Height  ledger.Height // at which the code came into force
	Release string        // the highest version that a schema of the contract has had; empty: none had one
	Flags   uint8         // Contract… bits, 0: it runs
	Review  uint64        // id of the release that brought the code; 0: it came without review
}

// Flags of a deployment. In its history they are those of when the code came.
const (
	ContractPaused   uint8 = 1 // only views run, until it is resumed; see [Halt]
	ContractRetired  uint8 = 2 // only views run, for ever
	ContractFrozen   uint8 = 4 // it, or methods of it, may be frozen; see [CheckContract]
	ContractPolicies uint8 = 8 // there are policies for its methods
)

// CodeHash returns the digest under which a module is stored.
func CodeHash(s keys.Suite, code []byte) keys.Digest { return keys.Hash(s, "code", code) }

// ReadContract returns the deployment at an address. System contracts have none.
func ReadContract(r Reader, address ledger.Address) (deployment Deployment, found bool, err error) {
	return read[Deployment](r, DeploymentStateKey(address))
}

// CodeByHash returns a module as it was deployed. The caller must not change it.
func CodeByHash(r Reader, hash keys.Digest) (code []byte, found bool, err error) {
	return r.Get(codeKey(hash))
}

// ReadSchema returns the schema of a module, or nil when it was deployed without one.
func ReadSchema(r Reader, hash keys.Digest) (*ledger.Schema, error) {
	section, found, err := r.Get(schemaKey(hash))
	if err != nil || !found {
		return nil, err
	}
	schema, err := ledger.DecodeSchema(section)
	if err != nil {
		return nil, fmt.Errorf("schema of module %s: %w", hash, err)
	}
	return schema, nil
}

// DeploymentStateKey returns the state key of a deployment.
func DeploymentStateKey(address ledger.Address) []byte {
	return key(ContractsAddress, []byte("c"), address[:])
}

// historyKey returns the state key of a deployment as it was, by its number.
func historyKey(address ledger.Address, number uint32) []byte {
	return key(ContractsAddress, []byte("h"), address[:], binary.BigEndian.AppendUint32(nil, number))
}

// ranKey returns the state key that says that a contract ran a module once.
func ranKey(address ledger.Address, hash keys.Digest) []byte {
	return key(ContractsAddress, []byte("r"), address[:], hash[:])
}

func codeKey(hash keys.Digest) []byte   { return key(ContractsAddress, []byte("m"), hash[:]) }
func schemaKey(hash keys.Digest) []byte { return key(ContractsAddress, []byte("s"), hash[:]) }

func newContracts() Contract {
	address := ledger.Field{Name: "address", Type: "addr"}
	code := ledger.Field{Name: "code", Type: "bytes"}
	args := ledger.Field{Name: "args", Type: "bytes"}
	owner := ledger.Field{Name: "owner", Type: "addr"}
	number := ledger.Field{Name: "number", Type: "u32"}
	indexed := []string{"address"}
	return &system{
		address: ContractsAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"deploy":   query(deploy),
			"replace":  command(replace),
			"transfer": command(transferContract),
			"propose":  query(proposeRelease),
			"approve":  command(approveRelease),
			"withdraw": command(withdrawRelease),
			"release":  query(releaseCode),
			"pause":    command(pauseContract),
			"resume":   command(resumeContract),
			"retire":   command(retireContract),
			"set_mode": command(setMode),
			"info":     query(contractInfo),
			"history":  query(contractHistory),
			"code":     query(contractCode),
			"schema":   query(contractSchema),
			"mode":     query(func(env Env, _ none) (DeployRules, error) { return ReadDeployRules(env) }),
			"proposal": query(getRelease),
			"releases": query(listReleases),
			"halted":   query(haltOf),

			"restrict":    command(restrict),
			"restriction": query(contractRestriction),
		},
		policies: map[string]Policy{
			"deploy":   bySelf(),
			"replace":  bySelf(),
			"transfer": bySelf(),
			"propose":  bySelf(),
			"approve":  bySelf(),
			"withdraw": bySelf(),
			"release":  bySelf(),
			"pause":    bySelf(),
			"resume":   bySelf(),
			"retire":   bySelf(),
			"set_mode": byMajority(),
			"restrict": bySelf(),
		},
		own: []string{"deploy", "transfer", "propose"},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "contracts", Version: "1", Profile: "strict",
			Doc: "Deployed contracts and their code. A module is stored once, under its digest.",
			Types: append([]ledger.TypeDef{{Name: "BrokenKind", Variants: variants(ledger.DifferenceKinds())}, {Name: "Broken", Fields: []ledger.Field{
				{Name: "kind", Type: "BrokenKind"}, {Name: "name", Type: "str"},
			}}, {Name: "Deployment", Fields: []ledger.Field{
				{Name: "version", Type: "u16"}, code, owner, number, {Name: "height", Type: "u64"}, {Name: "release", Type: "str"}, {Name: "flags", Type: "u8"}, {Name: "review", Type: "u64"},
			}}}, slices.Concat(releaseTypes(), restrictionTypes())...),
			Methods: append([]ledger.Method{
				{
					Name: "deploy", Kind: ledger.MethodTx, Args: []ledger.Field{code, args}, Return: "addr",
					Doc: "Stores a module, runs its init with the argument array args, and returns the contract's address. " +
						"The caller becomes the owner, needs one of the chain's deploy roles, and where the mode is listed is one of those. Refused where code is reviewed.",
				},
				{
					Name: "replace", Kind: ledger.MethodTx, Args: []ledger.Field{address, code, args, {Name: "breaking", Type: "bool"}},
					Doc: "Replaces the code and runs the new code's upgrade with the argument array args; both happen or neither does. Only the owner may, " +
						"while it may deploy, or a motion in its name. A schema that users of the old one could trip over needs breaking; code of an older version, or that the contract ran before, is refused, and so is code without a method for which there is a policy.",
				},
				{Name: "transfer", Kind: ledger.MethodTx, Args: []ledger.Field{address, owner}, Doc: "Makes another account the owner."},
				{Name: "info", Kind: ledger.MethodView, Args: []ledger.Field{address}, Return: "opt<Deployment>"},
				{
					Name: "history", Kind: ledger.MethodView, Args: []ledger.Field{address, {Name: "after", Type: "u32"}}, Return: "list<Deployment>",
					Doc: "Returns what ran at the address, from the number after + 1 on, at most 100; all code stays readable.",
				},
				{Name: "code", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "digest", Type: "bytes"}}, Return: "opt<bytes>"},
				{Name: "schema", Kind: ledger.MethodView, Args: []ledger.Field{address}, Return: "opt<bytes>", Doc: "Returns the schema section of the contract's module; a system contract has one, too, without docs: nodes tell those."},
			}, slices.Concat(releaseMethods(), restrictionMethods())...),
			Events: append([]ledger.EventDef{
				{Topic: "deployed", Fields: []ledger.Field{address, code, owner}, Indexed: indexed},
				{Topic: "upgraded", Fields: []ledger.Field{address, code, number}, Indexed: indexed},
				{Topic: "transferred", Fields: []ledger.Field{address, owner}, Indexed: indexed},
				{Topic: "restricted", Fields: []ledger.Field{address, {Name: "visible", Type: "Visible"}}, Indexed: indexed},
			}, releaseEvents()...),
			Errors: abortDefs(AbortArguments, AbortMissing, AbortUnchanged, AbortIncompatible, AbortDowngrade, AbortName, AbortRelease, AbortGoverned),
			State: []ledger.StateDef{
				{Prefix: "c", Key: []ledger.Type{"addr"}, Value: "Deployment"},
				{Prefix: "g", Value: "DeployRules", Doc: "how code comes onto the chain"},
				{Prefix: "h", Key: []ledger.Type{"addr", "u32"}, Value: "Deployment", Doc: "deployments as they were, by number"},
				{Prefix: "i", Value: "u64", Doc: "the last id of a release"},
				{Prefix: "m", Key: []ledger.Type{"bytes"}, Value: "bytes", Doc: "modules by digest: the bytes themselves, not CBOR"},
				{Prefix: "o", Key: []ledger.Type{"str"}, Value: "list<u64>", Doc: "releases that an institution has proposed and that are open"},
				{Prefix: "p", Key: []ledger.Type{"addr"}, Value: "Halt", Doc: "who paused or retired a contract"},
				{Prefix: "q", Key: []ledger.Type{"u64"}, Value: "Release"},
				{Prefix: "r", Key: []ledger.Type{"addr", "bytes"}, Value: "u32", Doc: "the number under which a contract ran the module of a digest"},
				{Prefix: "s", Key: []ledger.Type{"bytes"}, Value: "bytes", Doc: "schema sections by digest of the module: the bytes themselves"},
				{Prefix: "v", Key: []ledger.Type{"addr"}, Value: "Restriction", Doc: "contracts that not every member may read"},
			},
		},
	}
}

// DeployArgs are the arguments of the contracts method deploy.
type DeployArgs struct {
	_    struct{} `cbor:",toarray"`
	Code []byte   // WebAssembly
	Args []byte   // canonical CBOR array of init's arguments; empty: none
}

func deploy(env Env, a DeployArgs) (ledger.Address, error) {
	if _, err := mayDeploy(env, "deploy"); err != nil {
		return ledger.Address{}, err
	}
	hash, err := storeCode(env, a.Code)
	if err != nil {
		return ledger.Address{}, err
	}
	return newContract(env, env.Caller(), hash, a.Args, 0)
}

// newContract makes a contract of an account of a module that is stored, by a release or by none (0).
func newContract(env Env, owner ledger.Address, hash keys.Digest, args []byte, review uint64) (ledger.Address, error) {
	address, err := env.NewAddress()
	if err != nil {
		return ledger.Address{}, err
	}
	schema, err := chargedSchema(env, hash)
	if err != nil {
		return ledger.Address{}, err
	}
	d := Deployment{Version: ledger.Version, Code: hash, Owner: owner, Number: 1, Height: env.Order().Height, Release: released(schema, ""), Review: review}
	if err := install(env, address, &d); err != nil {
		return ledger.Address{}, err
	}
	if err := env.Call(owner, address, "init", args); err != nil {
		return ledger.Address{}, err
	}
	return address, emit(env, "deployed", address, hash, d.Owner)
}

// install makes a deployment the one that runs, and notes it in the contract's history.
func install(env Env, address ledger.Address, d *Deployment) error {
	if err := write(env, DeploymentStateKey(address), d); err != nil {
		return err
	}
	if err := write(env, historyKey(address, d.Number), d); err != nil {
		return err
	}
	return write(env, ranKey(address, d.Code), d.Number)
}

// ReplaceArgs are the arguments of the contracts method replace.
type ReplaceArgs struct {
	_        struct{} `cbor:",toarray"`
	Address  ledger.Address
	Code     []byte // WebAssembly
	Args     []byte // canonical CBOR array of upgrade's arguments; empty: none
	Breaking bool   // the schema may change in ways that users of the old one trip over
}

func replace(env Env, a ReplaceArgs) error {
	by := env.Caller()
	if byMotion(env) { // in the owner's name
		d, _, err := ReadContract(env, a.Address)
		if err != nil {
			return err
		}
		by = d.Owner
	} else if _, err := mayDeploy(env, "replace"); err != nil {
		return err
	}
	d, err := owned(env, by, a.Address)
	if err != nil {
		return err
	}
	hash, err := storeCode(env, a.Code)
	if err != nil {
		return err
	}
	return newCode(env, a.Address, &d, hash, a.Args, a.Breaking, 0)
}

// newCode replaces the code of a contract, in its owner's name, by a module that is stored, by a release or by none (0).
func newCode(env Env, address ledger.Address, d *Deployment, hash keys.Digest, args []byte, breaking bool, review uint64) error {
	if d.Flags&ContractFrozen != 0 && !byMotion(env) { // other code would have the frozen method under another name
		if err := checkCode(env, address); err != nil {
			return err
		}
	}
	schema, err := mayReplace(env, address, d, hash, breaking)
	if err != nil {
		return err
	}
	d.Code, d.Number, d.Height, d.Release, d.Review = hash, d.Number+1, env.Order().Height, released(schema, d.Release), review
	if err := install(env, address, d); err != nil {
		return err
	}
	if err := env.Call(d.Owner, address, "upgrade", args); err != nil {
		return err
	}
	return emit(env, "upgraded", address, hash, d.Number)
}

// mayReplace refuses a module that must not replace what a contract runs, and returns its schema, nil for none.
func mayReplace(env Env, address ledger.Address, d *Deployment, hash keys.Digest, breaking bool) (*ledger.Schema, error) {
	if hash == d.Code {
		return nil, aborted(AbortUnchanged, nil, "the contract already runs this code")
	}
	schema, err := chargedSchema(env, hash)
	if err != nil {
		return nil, err
	}
	if err := keepsPolicies(env, address, d, schema); err != nil {
		return nil, err
	}
	return schema, mayFollow(env, address, d, hash, schema, breaking)
}

// keepsPolicies refuses code, whose schema is will or nil, that lacks a method for which there is a policy: it could have
// it under another name, for which there is none.
func keepsPolicies(env Env, address ledger.Address, d *Deployment, will *ledger.Schema) error {
	if d.Flags&ContractPolicies == 0 {
		return nil
	}
	prefix := key(GovernanceAddress, []byte("r"), address[:])
	return env.Range(prefix, nil, math.MaxInt, func(k, _ []byte) error {
		method := string(k[len(prefix):])
		if will != nil {
			if m := will.Method(method); m != nil && m.Kind == ledger.MethodTx {
				return nil
			}
		}
		return aborted(AbortGoverned, []any{method}, "there is a policy for the method %s, and the schema of the new code has no such method that changes something: "+
			"keep it, or have the committee take the policy away first, with `fondaco motion propose governance set_policy %s %s null`", method, address, method)
	})
}

// maxBroken bounds what an abort lists, so that its data stays small.
const maxBroken = 32

// Broken is a difference of schemas in the data of an abort.
type Broken struct {
	_    struct{} `cbor:",toarray"`
	Kind ledger.DifferenceKind
	Name string
}

// released returns the highest version of a contract that gets code with a schema, or nil.
func released(schema *ledger.Schema, before string) string {
	if schema == nil {
		return before
	}
	return ledger.LaterVersion(before, schema.Version)
}

// mayFollow refuses code, whose schema is will or nil, that must not run after what the contract ran so far.
func mayFollow(env Env, address ledger.Address, d *Deployment, next keys.Digest, will *ledger.Schema, breaking bool) error {
	number, ran, err := read[uint32](env, ranKey(address, next))
	if err != nil {
		return err
	}
	version := ""
	if will != nil {
		version = will.Version
	}
	if ran {
		return aborted(AbortDowngrade, []any{number, version, d.Release}, "the contract ran this code before, as number %d: its data may be newer than the code; release it under a new version", number)
	}
	if ledger.OlderVersion(version, d.Release) {
		return aborted(AbortDowngrade, []any{0, version, d.Release}, "version %s comes before %s, which the contract has run", version, d.Release)
	}
	was, err := chargedSchema(env, d.Code)
	if err != nil {
		return err
	}
	if breaking || was == nil {
		return nil
	}
	if will == nil {
		return aborted(AbortIncompatible, []any{[]Broken{}, 0}, "the schema is gone")
	}
	differences := was.Incompatible(will)
	if len(differences) == 0 {
		return nil
	}
	var words []string
	var broken []Broken
	for _, d := range differences[:min(len(differences), maxBroken)] {
		words, broken = append(words, d.Text), append(broken, Broken{Kind: d.Kind, Name: d.Name})
	}
	if more := len(differences) - len(broken); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return aborted(AbortIncompatible, []any{broken, len(differences)}, "%s", strings.Join(words, "; "))
}

// gasPerSchemaByte is the price of decoding and comparing a byte of a schema, about 50 ns.
const gasPerSchemaByte ledger.Gas = 200

// chargedSchema returns the schema of a stored module, or nil when it was deployed without one.
func chargedSchema(env Env, hash keys.Digest) (*ledger.Schema, error) {
	section, found, err := env.Get(schemaKey(hash))
	if err != nil || !found {
		return nil, err
	}
	if err := env.Charge(gasPerSchemaByte * ledger.Gas(len(section))); err != nil {
		return nil, err
	}
	schema, err := ledger.DecodeSchema(section)
	if err != nil {
		return nil, fmt.Errorf("schema of module %s: %w", hash, err)
	}
	return schema, nil
}

// TransferArgs are the arguments of the contracts method transfer.
type TransferArgs struct {
	_       struct{} `cbor:",toarray"`
	Address ledger.Address
	Owner   ledger.Address
}

func transferContract(env Env, a TransferArgs) error {
	d, err := owned(env, env.Caller(), a.Address)
	if err != nil {
		return err
	}
	if d.Owner == a.Owner {
		return aborted(AbortUnchanged, nil, "the account already owns the contract")
	}
	// An owner that does not exist could never upgrade the contract or pass it on.
	if _, found, err := ReadAccount(env, a.Owner); err != nil {
		return err
	} else if !found {
		return aborted(AbortMissing, []any{a.Owner}, "no account %s", a.Owner)
	}
	d.Owner = a.Owner
	if err := write(env, DeploymentStateKey(a.Address), &d); err != nil {
		return err
	}
	return emit(env, "transferred", a.Address, a.Owner)
}

// mayDeploy checks that the caller has an active account that may call a method which brings code onto the chain, and returns it.
// Without a method it checks the roles alone.
func mayDeploy(env Env, method string) (Account, error) {
	caller, err := callerAccount(env, ContractsAddress)
	if err != nil {
		return caller, err
	}
	return caller, MayDeploy(env, env.Caller(), &caller, method)
}

// Deploys reports whether a method of the system contract contracts brings code onto the chain.
func Deploys(method string) bool {
	return method == "deploy" || method == "replace" || method == "propose"
}

// MayDeploy says why an account may not bring code onto the chain by a method that Deploys holds for, or returns nil.
func MayDeploy(r Reader, from ledger.Address, account *Account, method string) error {
	params, err := ReadParams(r)
	if err != nil {
		return err
	}
	if len(params.DeployRoles) > 0 && !account.HasAny(params.DeployRoles...) {
		return denied(DeniedRole, "deploying needs one of the roles %v", params.DeployRoles)
	}
	if !Deploys(method) {
		return nil
	}
	rules, err := ReadDeployRules(r)
	if err != nil {
		return err
	}
	return rules.allow(from, method)
}

// owned returns the deployment at an address, if an account owns it: the caller, or the one in whose name a motion calls.
func owned(env Env, by, address ledger.Address) (Deployment, error) {
	d, found, err := ReadContract(env, address)
	switch {
	case err != nil:
		return d, err
	case !found:
		return d, aborted(AbortMissing, []any{address}, "no contract %s", address)
	case d.Owner != by:
		return d, denied(DeniedOwner, "%s does not own the contract", by)
	case d.Flags&ContractRetired != 0:
		return d, denied(DeniedHalted, "the contract is retired, for ever: deploy another one")
	}
	return d, nil
}

// storeCode admits a module and stores it with its schema, unless it is stored already.
func storeCode(env Env, code []byte) (keys.Digest, error) {
	section, err := env.Admit(code)
	if err != nil {
		return keys.Digest{}, err
	}
	hash := CodeHash(env.Suite(), code)
	if _, found, err := CodeByHash(env, hash); err != nil || found {
		return hash, err
	}
	if err := env.Put(codeKey(hash), code); err != nil {
		return hash, err
	}
	if section == nil {
		return hash, nil
	}
	return hash, env.Put(schemaKey(hash), section)
}

func contractInfo(env Env, a AddressArgs) (*Deployment, error) {
	d, found, err := ReadContract(env, a.Address)
	if err != nil || !found {
		return nil, err
	}
	return &d, nil
}

// HistoryArgs are the arguments of the contracts method history.
type HistoryArgs struct {
	_       struct{} `cbor:",toarray"`
	Address ledger.Address
	After   uint32 // number of the last deployment that is known; 0: from the first
}

// maxHistory bounds what one call of history returns.
const maxHistory = 100

func contractHistory(env Env, a HistoryArgs) ([]Deployment, error) {
	prefix := historyKey(a.Address, 0)
	prefix = prefix[:len(prefix)-4]
	return page(env, prefix, historyKey(a.Address, a.After), maxHistory, entryOf[Deployment])
}

// CodeArgs are the arguments of the contracts method code.
type CodeArgs struct {
	_      struct{} `cbor:",toarray"`
	Digest keys.Digest
}

func contractCode(env Env, a CodeArgs) (*[]byte, error) {
	code, found, err := CodeByHash(env, a.Digest)
	if err != nil || !found {
		return nil, err
	}
	return &code, nil
}

// gasPerSectionByte is the price of a byte of a schema that the state does not hold, as of one that it does.
const gasPerSectionByte ledger.Gas = 14

func contractSchema(env Env, a AddressArgs) (*[]byte, error) {
	if IsSystem(a.Address) {
		features, err := ReadFeatures(env)
		if err != nil {
			return nil, err
		}
		section, err := sectionAt(a.Address, &features, env.Order())
		if err != nil || section == nil {
			return nil, err
		}
		return &section, env.Charge(gasPerSectionByte * ledger.Gas(len(section)))
	}
	d, found, err := ReadContract(env, a.Address)
	if err != nil || !found {
		return nil, err
	}
	section, found, err := env.Get(schemaKey(d.Code))
	if err != nil || !found {
		return nil, err
	}
	return &section, nil
}
