package precompiles

import "github.com/fondaco/fondaco/state/ledger"

// ReadParams returns the parameters of the chain in force.
func ReadParams(r Reader) (ledger.Params, error) {
	params, found, err := read[ledger.Params](r, paramsKey())
	if err == nil && !found {
		err = errNoGenesis
	}
	return params, err
}

func paramsKey() []byte { return key(ConfigAddress, []byte("p")) }

func newConfig() Contract {
	feature, height, release := ledger.Field{Name: "feature", Type: "str"}, ledger.Field{Name: "height", Type: "u64"}, ledger.Field{Name: "release", Type: "str"}
	return &system{
		address: ConfigAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"params":           query(func(env Env, _ none) (ledger.Params, error) { return ReadParams(env) }),
			"features":         query(func(env Env, _ none) (Features, error) { return ReadFeatures(env) }),
			"activate_feature": command(activateFeature),
		},
		policies: map[string]Policy{"activate_feature": byMajority()},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "config", Version: "1", Profile: "strict",
			Doc: "Parameters that every node of the chain applies alike, and the features of later releases, with the blocks from which on they hold.",
			Types: []ledger.TypeDef{
				{Name: "Params", Fields: paramFields()},
				{Name: "Activation", Fields: []ledger.Field{feature, height, release, {Name: "decided", Type: "u64"}, {Name: "from", Type: "i64"}}},
				{Name: "Features", Fields: []ledger.Field{{Name: "version", Type: "u16"}, {Name: "list", Type: "list<Activation>"}}},
			},
			Methods: []ledger.Method{
				{Name: "params", Kind: ledger.MethodView, Return: "Params"},
				{Name: "features", Kind: ledger.MethodView, Return: "Features"},
				{
					Name: "activate_feature", Kind: ledger.MethodTx, Args: []ledger.Field{feature, height, release},
					Doc: "Has a feature hold from the block of a height on, at least 50 blocks ahead; height 0 takes back what is not due yet. " +
						"A node whose release does not have it stops before that block. Only a motion of the committee may.",
				},
			},
			Events: []ledger.EventDef{{Topic: "feature", Fields: []ledger.Field{feature, height, release}}},
			Errors: abortDefs(AbortArguments, AbortUnchanged),
			State:  []ledger.StateDef{{Prefix: "f", Value: "Features"}, {Prefix: "p", Value: "Params"}},
		},
	}
}

func paramFields() []ledger.Field {
	return []ledger.Field{
		{Name: "block_txs", Type: "u32"},
		{Name: "block_bytes", Type: "u64"},
		{Name: "block_gas", Type: "u64"},
		{Name: "tx_gas", Type: "u64"},
		{Name: "max_lifetime", Type: "i64"},
		{Name: "window", Type: "u32"},
		{Name: "clock_skew", Type: "i64"},
		{Name: "rewrite", Type: "u16"},
		{Name: "costs", Type: "u16"},
		{Name: "memory_pages", Type: "u32"},
		{Name: "deploy_roles", Type: "list<str>"},
		{Name: "view_timeout", Type: "i64"},
		{Name: "heartbeat_time", Type: "i64"},
		{Name: "batch_delay", Type: "i64"},
	}
}

// CheckParams says why no motion can set parameters in place of those in force, as an *Error, or returns nil.
func CheckParams(before, after *ledger.Params) error { return checkParams(before, after) }
