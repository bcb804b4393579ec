package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/node/contract/story"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "tell where the gas of a contract's stories goes: by method, host function and function",
		ArgsUsage: "[DIR|FILE.wasm]",
		Description: "Builds the contract in DIR, or takes FILE.wasm, and tells the files *.story of that folder. The gas of a function is what\n" +
			"it used itself, without what it called; of the host function call, what a call costs besides the callee's functions.",
		Flags: []cli.Flag{
			outputFlag(),
			&cli.StringFlag{Name: "run", Usage: "only the stories whose title has this `TEXT` in it"},
			&cli.IntFlag{Name: "top", Usage: "how many of the hottest `FUNCTIONS`", Value: 15},
			engineFlag(wasmvm.Interpreter), suiteFlag(),
		},
		Action: benchContract,
	}
}

// benched is what contract bench has to say.
type benched struct {
	Start     ledger.Gas        `json:"start_gas"` // that every call pays before its method runs
	Methods   []story.MethodGas `json:"methods"`
	Host      []functionGas     `json:"host_functions"`
	Functions []functionGas     `json:"functions"`
}

type functionGas struct {
	Name  string     `json:"name"`
	Calls uint64     `json:"calls"`
	Gas   ledger.Gas `json:"gas"`
	Share float64    `json:"share"` // of the gas of all functions
}

func benchContract(c *cli.Context) (err error) {
	args, err := arguments(c, 0, 1, "[DIR|FILE.wasm]")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	subject := "."
	if len(args) > 0 {
		subject = args[0]
	}
	dir := subject
	if filepath.Ext(subject) == ".wasm" {
		dir = filepath.Dir(subject)
	}
	files, err := readStories(dir, c.String("run"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return withCode(ExitNotFound, fmt.Errorf("there are no stories in %s to bench: write some, as for `fondaco contract test`", dir))
	}
	profile := &wasmvm.Profile{}
	engine, err := engineOf(c)
	if err != nil {
		return err
	}
	suite, err := keys.SuiteByName(c.String("suite"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	vm, err := localchain.NewProfiledVM(c.Context, engine, profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close(context.WithoutCancel(c.Context))) }()
	built, err := benchModule(c.Context, subject)
	if err != nil {
		return err
	}
	info, err := vm.Check(built.Code)
	if err != nil {
		return err
	}
	modules := &story.Modules{}
	modules.Add(built.Schema.Name, built)
	reports, err := tell(c.Context, files, modules, vm, suite)
	if err != nil {
		return err
	}
	var calls []story.Call
	for _, r := range reports {
		calls = append(calls, r.Calls...)
		for _, s := range r.Stories {
			if s.Err != nil {
				return fmt.Errorf("a story is not true, see `fondaco contract test`: %w", s.Err)
			}
		}
	}
	result := benched{Start: info.InitGas, Methods: story.GasOf(calls)}
	result.Host, result.Functions = functionsOf(profile, modules, c.Int("top"))
	return show(c, result, func(w io.Writer) {
		row(w, "contract", built.Schema.Name)
		row(w, "start", fmt.Sprintf("%d gas in every call", result.Start))
		tableOfGas(w, result.Methods)
		tableOfFunctions(w, "host function", result.Host)
		tableOfFunctions(w, "function", result.Functions)
	})
}

// benchModule builds a project, or reads a module with its names.
func benchModule(ctx context.Context, subject string) (*contract.Built, error) {
	if filepath.Ext(subject) != ".wasm" {
		return contract.Build(ctx, subject, "")
	}
	code, err := readModule(subject)
	if err != nil {
		return nil, err
	}
	built := &contract.Built{Code: code, Hash: sha256.Sum256(code)}
	if built.Schema, err = ledger.ModuleSchema(code); err != nil {
		return nil, err
	}
	built.Names, err = contract.ReadNames(subject, code)
	return built, err
}

// functionsOf returns what a profile says of host functions, and of the hottest functions by their names.
func functionsOf(profile *wasmvm.Profile, modules *story.Modules, top int) (host, functions []functionGas) {
	type source struct {
		contract string
		names    map[uint32]string
	}
	sources := map[[32]byte]source{}
	for _, m := range modules.Used() {
		s := source{contract: "contract"}
		if schema, err := ledger.ModuleSchema(m.Code); err == nil {
			s.contract = schema.Name
		}
		s.names, _ = contract.FunctionNames(m.Names) // without them there are numbers
		sources[m.Hash] = s
	}
	lines := profile.Lines()
	all := ledger.Gas(0)
	for _, l := range lines {
		all += l.Gas
	}
	for _, l := range lines {
		f := functionGas{Name: l.Host, Calls: l.Calls, Gas: l.Gas, Share: float64(l.Gas) / float64(max(all, 1))}
		if l.Host != "" {
			host = append(host, f)
			continue
		}
		if len(functions) >= top {
			continue
		}
		of := sources[l.Module]
		name := of.names[l.Function]
		if name == "" {
			name = fmt.Sprintf("function %d", l.Function)
		}
		f.Name = of.contract + ": " + name
		functions = append(functions, f)
	}
	return host, functions
}

func tableOfFunctions(w io.Writer, title string, all []functionGas) {
	fmt.Fprintln(w)
	row(w, title, "calls", "gas", "share", "gas/call")
	for _, f := range all {
		row(w, f.Name, f.Calls, f.Gas, fmt.Sprintf("%.1f %%", 100*f.Share), f.Gas/ledger.Gas(max(f.Calls, 1)))
	}
}
