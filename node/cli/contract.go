package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

func contractCommand() *cli.Command {
	argsFlag := &cli.StringFlag{Name: "args-cbor", Usage: "the arguments as `0x…`, canonical CBOR, instead of words; for contracts without a schema"}
	return &cli.Command{
		Name:  "contract",
		Usage: "write, build, deploy and call contracts",
		Description: "Arguments are words, read by the contract's schema: numbers, text, true or false, 0x… for bytes and addresses,\n" +
			"JSON for lists and structs. The name of a genesis account, or else of a contract, stands for its address; token@2 is\n" +
			"always a contract's. A number below zero needs no escape; other words that begin with a dash come after --.",
		Subcommands: slices.Concat([]*cli.Command{{
			Name:      "new",
			Usage:     "write the project of a new contract",
			ArgsUsage: "NAME [DIR]",
			Flags:     []cli.Flag{outputFlag(), &cli.StringFlag{Name: "lang", Usage: "`LANGUAGE` of the contract: " + strings.Join(contract.Languages(), ", "), Value: "go"}},
			Action:    newContract,
		}, {
			Name:      "build",
			Usage:     "build a contract into a WebAssembly module",
			ArgsUsage: "[DIR|FILE.wasm]",
			Description: "DIR holds a contract in one of the languages. FILE.wasm is a module that any other tool compiled; the text of\n" +
				"sdk-contracts/INTERFACE.md, which says what the contract offers, is in it or in the file of --interface.",
			Flags: []cli.Flag{
				outputFlag(), &cli.StringFlag{Name: "out", Usage: "`FILE` to write; default: NAME.wasm"},
				&cli.BoolFlag{Name: "update-lock", Usage: "take the tools that are installed into " + contract.LockFile},
				&cli.StringFlag{Name: "interface", Usage: "`FILE` with the interface of the module FILE.wasm"},
				&cli.BoolFlag{Name: "no-lock", Usage: "neither read nor write " + contract.LockFile},
			},
			Action: buildContract,
		}, {
			Name:      "check",
			Usage:     "say whether nodes would admit a module, and what in it is probably not meant",
			ArgsUsage: "FILE.wasm|DIR",
			Flags:     []cli.Flag{outputFlag(), &cli.BoolFlag{Name: "strict", Usage: "end with an error if there are warnings"}},
			Action:    checkContract,
		}, {
			Name:      "inspect",
			Usage:     "print what a module, or a contract on the chain, says of itself",
			ArgsUsage: "FILE.wasm|CONTRACT",
			Flags:     remoteFlags(),
			Action:    inspectContract,
		}, {
			Name:      "verify",
			Usage:     "build a contract again, and compare it with a module, or with one on the chain",
			ArgsUsage: "CONTRACT|HASH|FILE.wasm DIR",
			Flags:     remoteFlags(),
			Action:    verifyContract,
		}, {
			Name:      "client",
			Usage:     "write a typed client of a contract, in Go or TypeScript",
			ArgsUsage: "FILE.wasm|CONTRACT",
			Description: "In Go the client uses the package node/client. For TypeScript it is a module of JavaScript, FILE.mjs, with its types\n" +
				"in FILE.d.mts; it needs no package, and runs in Node.js 20 or later and in browsers.",
			Flags: remoteFlags(
				&cli.StringFlag{Name: "lang", Usage: "`LANGUAGE` of the client: go or ts", Value: "go"},
				&cli.StringFlag{Name: "out", Usage: "`FILE` to write: .go or .mjs"},
				&cli.StringFlag{Name: "package", Usage: "`NAME` of the package in Go; default: the contract's"},
			),
			Action: clientOfContract,
		}, {
			Name:      "deploy",
			Usage:     "put a contract on the chain; ARGs are those of its init",
			ArgsUsage: "FILE.wasm [ARG...]",
			Flags:     signingFlags(argsFlag),
			Action:    deployContract,
		}, {
			Name:      "upgrade",
			Usage:     "replace a contract's code; ARGs are those of the new code's upgrade",
			ArgsUsage: "CONTRACT FILE.wasm [ARG...]",
			Flags:     signingFlags(append(upgradeFlags(), argsFlag)...),
			Action:    upgradeContract,
		}, {
			Name:      "call",
			Usage:     "send a transaction that calls a method",
			ArgsUsage: "CONTRACT METHOD [ARG...]",
			Flags:     signingFlags(argsFlag, &cli.BoolFlag{Name: "dry-run", Usage: "run it on the node's newest state, send nothing and keep nothing"}),
			Action:    callContract,
		}, {
			Name:      "view",
			Usage:     "call a method that only reads, on the node's newest state",
			ArgsUsage: "CONTRACT METHOD [ARG...]",
			Flags:     remoteFlags(argsFlag, &cli.StringFlag{Name: "from", Usage: "`ACCOUNT` in whose name"}),
			Action:    viewContract,
		}}, freezeContractCommands(), []*cli.Command{historyCommand(), codeCommand(), explainCommand(), testCommand(), benchCommand()}, releaseCommands(argsFlag)),
	}
}

func deployContract(c *cli.Context) error {
	args, err := arguments(c, 1, -1, "FILE.wasm [ARG...]")
	if err != nil {
		return err
	}
	code, err := readModule(args[0])
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		init, err := r.hookArgs(code, ledger.MethodInit, args[1:])
		if err != nil {
			return err
		}
		return r.transact(precompiles.ContractsAddress, "deploy", &precompiles.DeployArgs{Code: code, Args: init}, tellAddress("deployed"))
	})
}

// hookArgs encodes the arguments of the method that a module's deployment or upgrade runs.
func (r *remote) hookArgs(code []byte, kind ledger.MethodKind, words []string) ([]byte, error) {
	schema, err := ledger.ModuleSchema(code)
	if err != nil {
		return nil, err
	}
	if schema != nil {
		for _, m := range schema.Methods {
			if m.Kind == kind {
				return r.encode(schema, m.Name, words)
			}
		}
	}
	if len(words) == 0 && r.c.String("args-cbor") == "" {
		return nil, nil
	}
	if schema != nil {
		return nil, usage("the contract %s has no %s method, so it takes no arguments", schema.Name, kind)
	}
	return r.encode(nil, string(kind), words)
}

// called is a method of a contract with its arguments.
type called struct {
	contract ledger.Address
	to       ledger.Target // as a transaction names it
	method   string
	args     []byte
}

// target reads CONTRACT METHOD [ARG...].
func (r *remote) target(args []string) (called, error) {
	address, to, err := r.served(args[0], args[1])
	if err != nil {
		return called{}, err
	}
	schema, err := r.schema(address)
	if err != nil {
		return called{}, err
	}
	encoded, err := r.encode(schema, args[1], args[2:])
	return called{address, to, args[1], encoded}, err
}

func callContract(c *cli.Context) error {
	args, err := arguments(c, 2, -1, "CONTRACT METHOD [ARG...]")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		call, err := r.target(args)
		if err != nil {
			return err
		}
		if c.Bool("dry-run") {
			return r.try(call, true)
		}
		return r.transactTo(call.to, call.method, call.args, nil)
	})
}

func viewContract(c *cli.Context) error {
	args, err := arguments(c, 2, -1, "CONTRACT METHOD [ARG...]")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		call, err := r.target(args)
		if err != nil {
			return err
		}
		return r.try(call, false)
	})
}

// try runs a call on the node without a transaction and shows its result.
func (r *remote) try(call called, dryRun bool) error {
	request := client.Call{Method: call.method, Args: call.args, Gas: ledger.Gas(r.c.Uint64("gas")), DryRun: dryRun}
	if from := r.c.String("from"); from != "" {
		address, err := r.account(from)
		if err != nil {
			return err
		}
		request.From = &address
	} else if dryRun {
		return usage("a dry run needs an account: give --from ADDRESS or set FONDACO_FROM")
	}
	result, err := r.Call(r.ctx, call.contract, request)
	if err != nil {
		return err
	}
	if result.Status == ledger.OK.String() || r.c.String("output") == "json" {
		err = show(r.c, result, func(w io.Writer) {
			if result.Decoded != nil && string(result.Decoded) != "null" {
				fmt.Fprintln(w, compact(result.Decoded))
			} else if len(result.Data) > 0 {
				fmt.Fprintln(w, hexText(result.Data))
			}
		})
		if err != nil {
			return err
		}
	}
	if dryRun {
		note(r.c, "It would take %d gas at block %d.", result.Gas, result.Height)
	}
	if result.Status != ledger.OK.String() && result.Trace != "" {
		note(r.c, "%s", result.Trace)
	}
	return outcomeError("the call", result.Status, result.Code, result.Error, result.Decoded, "")
}
