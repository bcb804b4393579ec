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
	return &system{
		address: ConfigAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"params": query(func(env Env, _ none) (ledger.Params, error) { return ReadParams(env) }),
		},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "config", Version: "1", Profile: "strict",
			Doc:     "Parameters that every node of the chain applies alike.",
			Types:   []ledger.TypeDef{{Name: "Params", Fields: paramFields()}},
			Methods: []ledger.Method{{Name: "params", Kind: ledger.MethodView, Return: "Params"}},
			Errors:  abortDefs(AbortArguments),
			State:   []ledger.StateDef{{Prefix: "p", Value: "Params"}},
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
