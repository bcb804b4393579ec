package precompiles

import (
	"errors"

	"github.com/fondaco/fondaco/state/ledger"
)

// Institution is a row of the table of institutions, keyed by name.
type Institution struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Height  ledger.Height
}

// MaxInstitutionName bounds the name of an institution, in bytes.
const MaxInstitutionName = 64

// epochRecord is the members' part of an epoch as it is in state.
type epochRecord struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Number  uint64
	Members []ledger.Member
}

var errNoGenesis = errors.New("precompiles: the state holds no genesis")

// ReadEpoch returns the epoch in force.
func ReadEpoch(r Reader) (ledger.Epoch, error) {
	e, found, err := read[epochRecord](r, epochKey())
	if err == nil && !found {
		err = errNoGenesis
	}
	if err != nil {
		return ledger.Epoch{}, err
	}
	params, err := ReadParams(r)
	return ledger.Epoch{Number: e.Number, Members: e.Members, Params: params}, err
}

// ReadInstitution returns an institution by its name.
func ReadInstitution(r Reader, name string) (institution Institution, found bool, err error) {
	return read[Institution](r, institutionKey(name))
}

func epochKey() []byte                  { return key(MembersAddress, []byte("e")) }
func institutionKey(name string) []byte { return key(MembersAddress, []byte("i"), []byte(name)) }

func newMembers() Contract {
	return &system{
		address: MembersAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"epoch": query(func(env Env, _ none) (epochRecord, error) {
				e, found, err := read[epochRecord](env, epochKey())
				if err == nil && !found {
					err = errNoGenesis
				}
				return e, err
			}),
			"institutions": query(institutions),
		},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "members", Version: "1", Profile: "strict",
			Doc: "Institutions of the chain and members of the group. A member's number is its place in the list.",
			Types: []ledger.TypeDef{
				{Name: "PublicKey", Fields: []ledger.Field{{Name: "algorithm", Type: "u8"}, {Name: "key", Type: "bytes"}}},
				{Name: "Member", Fields: []ledger.Field{{Name: "node", Type: "bytes"}, {Name: "institution", Type: "str"}, {Name: "key", Type: "PublicKey"}}},
				{Name: "Epoch", Fields: []ledger.Field{{Name: "version", Type: "u16"}, {Name: "number", Type: "u64"}, {Name: "members", Type: "list<Member>"}}},
				{Name: "Institution", Fields: []ledger.Field{{Name: "version", Type: "u16"}, {Name: "height", Type: "u64"}}},
			},
			Methods: []ledger.Method{
				{Name: "epoch", Kind: ledger.MethodView, Return: "Epoch"},
				{
					Name: "institutions", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "after", Type: "str"}}, Return: "list<str>",
					Doc: "Returns up to 64 names in order, beginning after one.",
				},
			},
			Errors: abortDefs(AbortArguments),
			State: []ledger.StateDef{
				{Prefix: "e", Value: "Epoch"},
				{Prefix: "i", Key: []ledger.Type{"str"}, Value: "Institution"},
			},
		},
	}
}

// InstitutionsArgs are the arguments of the members method institutions.
type InstitutionsArgs struct {
	_     struct{} `cbor:",toarray"`
	After string
}

func institutions(env Env, a InstitutionsArgs) ([]string, error) {
	if len(a.After) > MaxInstitutionName {
		return nil, aborted(AbortArguments, nil, "a name of %d bytes, at most %d", len(a.After), MaxInstitutionName)
	}
	prefix := institutionKey("")
	names := []string{}
	err := env.Range(prefix, institutionKey(a.After), maxFound, func(k, _ []byte) error {
		names = append(names, string(k[len(prefix):]))
		return nil
	})
	return names, err
}
