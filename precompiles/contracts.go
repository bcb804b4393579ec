package precompiles

import (
	"fmt"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// gasPerCodeByte is the price of checking and rewriting a byte of a module, about 30 ns. What is paid for
// the bytes of the transaction and of the write comes on top.
const gasPerCodeByte ledger.Gas = 20

// Deployment is a row of the contract table. It is keyed by the contract's assigned address.
type Deployment struct {
	_       struct{}    `cbor:",toarray"`
	Version uint16      // ledger.Version
	Code    keys.Digest // of the module that runs; see CodeHash
	Owner   ledger.Address
	Number  uint32        // 1 when deployed, one more with each upgrade
	Height  ledger.Height // at which the code came into force
}

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
			"info":     query(contractInfo),
			"code":     query(contractCode),
			"schema":   query(contractSchema),
		},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "contracts", Version: "1", Profile: "strict",
			Doc: "Deployed contracts and their code. A module is stored once, under its digest.",
			Types: []ledger.TypeDef{{Name: "Deployment", Fields: []ledger.Field{
				{Name: "version", Type: "u16"}, code, owner, number, {Name: "height", Type: "u64"},
			}}},
			Methods: []ledger.Method{
				{
					Name: "deploy", Kind: ledger.MethodTx, Args: []ledger.Field{code, args}, Return: "addr",
					Doc: "Stores a module, runs its init with the argument array args, and returns the contract's address. " +
						"The caller becomes the owner, and needs one of the chain's deploy roles.",
				},
				{
					Name: "replace", Kind: ledger.MethodTx, Args: []ledger.Field{address, code, args},
					Doc: "Replaces the code and runs the new code's upgrade with the argument array args. Only the owner may, while it may deploy.",
				},
				{Name: "transfer", Kind: ledger.MethodTx, Args: []ledger.Field{address, owner}, Doc: "Makes another account the owner."},
				{Name: "info", Kind: ledger.MethodView, Args: []ledger.Field{address}, Return: "opt<Deployment>"},
				{Name: "code", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "digest", Type: "bytes"}}, Return: "opt<bytes>"},
				{Name: "schema", Kind: ledger.MethodView, Args: []ledger.Field{address}, Return: "opt<bytes>", Doc: "Returns the schema section of the contract's module; a system contract has one, too."},
			},
			Events: []ledger.EventDef{
				{Topic: "deployed", Fields: []ledger.Field{address, code, owner}, Indexed: indexed},
				{Topic: "upgraded", Fields: []ledger.Field{address, code, number}, Indexed: indexed},
				{Topic: "transferred", Fields: []ledger.Field{address, owner}, Indexed: indexed},
			},
			Errors: abortDefs(AbortArguments, AbortMissing, AbortUnchanged),
			State: []ledger.StateDef{
				{Prefix: "c", Key: []ledger.Type{"addr"}, Value: "Deployment"},
				{Prefix: "m", Key: []ledger.Type{"bytes"}, Value: "bytes", Doc: "modules by digest: the bytes themselves, not CBOR"},
				{Prefix: "s", Key: []ledger.Type{"bytes"}, Value: "bytes", Doc: "schema sections by digest of the module: the bytes themselves"},
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
	if err := mayDeploy(env); err != nil {
		return ledger.Address{}, err
	}
	hash, err := storeCode(env, a.Code)
	if err != nil {
		return ledger.Address{}, err
	}
	address, err := env.NewAddress()
	if err != nil {
		return ledger.Address{}, err
	}
	d := Deployment{Version: ledger.Version, Code: hash, Owner: env.Caller(), Number: 1, Height: env.Order().Height}
	if err := write(env, DeploymentStateKey(address), &d); err != nil {
		return ledger.Address{}, err
	}
	if err := env.Call(address, "init", a.Args); err != nil {
		return ledger.Address{}, err
	}
	return address, emit(env, "deployed", address, hash, d.Owner)
}

// ReplaceArgs are the arguments of the contracts method replace.
type ReplaceArgs struct {
	_       struct{} `cbor:",toarray"`
	Address ledger.Address
	Code    []byte // WebAssembly
	Args    []byte // canonical CBOR array of upgrade's arguments; empty: none
}

func replace(env Env, a ReplaceArgs) error {
	if err := mayDeploy(env); err != nil {
		return err
	}
	d, err := owned(env, a.Address)
	if err != nil {
		return err
	}
	hash, err := storeCode(env, a.Code)
	if err != nil {
		return err
	}
	if hash == d.Code {
		return aborted(AbortUnchanged, nil, "the contract already runs this code")
	}
	d.Code, d.Number, d.Height = hash, d.Number+1, env.Order().Height
	if err := write(env, DeploymentStateKey(a.Address), &d); err != nil {
		return err
	}
	if err := env.Call(a.Address, "upgrade", a.Args); err != nil {
		return err
	}
	return emit(env, "upgraded", a.Address, hash, d.Number)
}

// TransferArgs are the arguments of the contracts method transfer.
type TransferArgs struct {
	_       struct{} `cbor:",toarray"`
	Address ledger.Address
	Owner   ledger.Address
}

func transferContract(env Env, a TransferArgs) error {
	d, err := owned(env, a.Address)
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

// mayDeploy checks that the caller has an active account with one of the chain's deploy roles.
func mayDeploy(env Env) error {
	caller, err := callerAccount(env)
	if err != nil {
		return err
	}
	return MayDeploy(env, &caller)
}

// MayDeploy says why an account may not deploy code by the chain's parameters, or returns nil.
func MayDeploy(r Reader, account *Account) error {
	params, err := ReadParams(r)
	if err != nil {
		return err
	}
	if len(params.DeployRoles) > 0 && !account.HasAny(params.DeployRoles...) {
		return denied(DeniedRole, "deploying needs one of the roles %v", params.DeployRoles)
	}
	return nil
}

// owned returns the deployment at an address, if the caller owns it.
func owned(env Env, address ledger.Address) (Deployment, error) {
	d, found, err := ReadContract(env, address)
	switch {
	case err != nil:
		return d, err
	case !found:
		return d, aborted(AbortMissing, []any{address}, "no contract %s", address)
	case d.Owner != env.Caller():
		return d, denied(DeniedOwner, "%s does not own the contract", env.Caller())
	}
	return d, nil
}

// storeCode admits a module and stores it with its schema, unless it is stored already.
func storeCode(env Env, code []byte) (keys.Digest, error) {
	// Priced by size before anything looks at the bytes.
	if err := env.Charge(gasPerCodeByte * ledger.Gas(len(code))); err != nil {
		return keys.Digest{}, err
	}
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

func contractSchema(env Env, a AddressArgs) (*[]byte, error) {
	if IsSystem(a.Address) {
		for _, c := range All() {
			if c.Address() == a.Address {
				section, err := c.Schema().Encode()
				return &section, err
			}
		}
		return nil, nil
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
