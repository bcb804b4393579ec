package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func upgradeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "breaking", Usage: "allow changes that callers of the old code, or readers of its events and state, would trip over"},
		&cli.BoolFlag{Name: "dry-run", Usage: "say what would happen, and send nothing"},
	}
}

// upgradeContract replaces a contract's code, after a dry run on the node's newest state went well.
func upgradeContract(c *cli.Context) error {
	args, err := arguments(c, 2, -1, "CONTRACT FILE.wasm [ARG...]")
	if err != nil {
		return err
	}
	code, err := readModule(args[1])
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		address, err := r.contract(args[0])
		if err != nil {
			return err
		}
		if err := r.compare(address, code); err != nil {
			return err
		}
		hook, err := r.hookArgs(code, ledger.MethodUpgrade, args[2:])
		if err != nil {
			return err
		}
		encoded, err := ledger.Marshal(&precompiles.ReplaceArgs{Address: address, Code: code, Args: hook, Breaking: c.Bool("breaking")})
		if err != nil {
			return err
		}
		call := called{contract: precompiles.ContractsAddress, to: ledger.Target{Address: precompiles.ContractsAddress}, method: "replace", args: encoded}
		if err := r.rehearse(call, address, code); err != nil || c.Bool("dry-run") {
			return err
		}
		return r.transactTo(call.to, call.method, call.args, nil)
	})
}

// compare lists what users of a contract would trip over if its code became that of a module, and refuses it without
// --breaking. The chain refuses it as well: here it is told before anything is sent.
func (r *remote) compare(address ledger.Address, code []byte) error {
	was, err := r.schema(address)
	if err != nil || was == nil {
		return err
	}
	will, err := ledger.ModuleSchema(code)
	if err != nil {
		return err
	}
	differences := was.Incompatible(will)
	if len(differences) == 0 {
		return nil
	}
	texts := make([]string, len(differences))
	for i, d := range differences {
		texts[i] = d.Text
	}
	list := "\n  " + strings.Join(texts, "\n  ")
	if !r.c.Bool("breaking") {
		return withCode(ExitDenied, fmt.Errorf("the new code breaks what the old one promised:%s\nKeep it, or say --breaking if everybody who uses the contract knows", list))
	}
	note(r.c, "This breaks what the old code promised:%s", list)
	return nil
}

// rehearse runs the upgrade of a contract to a module without a transaction, and returns an error unless it goes well.
func (r *remote) rehearse(call called, contract ledger.Address, code []byte) error {
	from := r.c.String("from")
	if from == "" {
		return usage("no account to send from: give --from ADDRESS or set FONDACO_FROM")
	}
	sender, err := r.account(from)
	if err != nil {
		return err
	}
	result, err := r.Call(r.ctx, call.contract, client.Call{Method: call.method, Args: call.args, From: &sender, DryRun: true, Gas: ledger.Gas(r.c.Uint64("gas"))})
	if err != nil {
		return fmt.Errorf("dry run: %w", err)
	}
	if result.Status != ledger.OK.String() && result.Trace != "" {
		note(r.c, "%s", strings.TrimSuffix(result.Trace, "\n"))
	}
	for _, f := range result.Failures {
		if f.Contract != contract {
			continue
		}
		// The code that refused is not on the chain, so the node does not know its errors.
		if schema, err := ledger.ModuleSchema(code); err == nil && f.Status == ledger.Aborted.String() {
			if e := schema.Error(f.Code); e != nil {
				f.Error = e.Name
			}
		}
		return outcomeError("in the dry run "+f.Method, f.Status, f.Code, f.Error, nil, "")
	}
	if err := outcomeError("the dry run", result.Status, result.Code, result.Error, result.Decoded, ""); err != nil {
		return err
	}
	note(r.c, "The dry run on the state after block %d went well: %d gas, %d events.", result.Height, result.Gas, len(result.Events))
	if !r.c.Bool("dry-run") {
		return nil
	}
	return show(r.c, result, func(w io.Writer) {
		row(w, "gas", result.Gas)
		for _, e := range result.Events {
			row(w, "event", e.Topic+" "+shorten(argsText(e.Decoded, e.Data)))
		}
	})
}

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "list the code that ran at a contract's address; `contract code` reads each",
		ArgsUsage: "CONTRACT",
		Flags:     remoteFlags(),
		Action: func(c *cli.Context) error {
			args, err := arguments(c, 1, 1, "CONTRACT")
			if err != nil {
				return err
			}
			return talk(c, func(r *remote) error {
				address, err := r.contract(args[0])
				if err != nil {
					return err
				}
				all, err := r.history(address)
				if err != nil {
					return err
				}
				if len(all) == 0 {
					return withCode(ExitNotFound, fmt.Errorf("no contract was deployed at %s", address))
				}
				return show(c, all, func(w io.Writer) {
					row(w, "number", "since block", "code", "owner then")
					for _, d := range all {
						row(w, d.Number, d.Height, d.Code, d.Owner)
					}
				})
			})
		},
	}
}

func codeCommand() *cli.Command {
	return &cli.Command{
		Name:      "code",
		Usage:     "fetch code that runs or ran on the chain, by the hash that `contract history` states",
		ArgsUsage: "HASH",
		Flags:     remoteFlags(&cli.StringFlag{Name: "out", Usage: "`FILE` to write"}),
		Action: func(c *cli.Context) error {
			args, err := arguments(c, 1, 1, "HASH")
			if err != nil {
				return err
			}
			out, err := required(c, "out", "FILE")
			if err != nil {
				return err
			}
			hash, err := contract.ParseHash(args[0])
			if err != nil {
				return usage("%v", err)
			}
			return talk(c, func(r *remote) error {
				code, err := r.codeByHash(hash)
				if err != nil {
					return err
				}
				if err := os.WriteFile(out, code, 0o644); err != nil {
					return err
				}
				sum := sha256.Sum256(code)
				doc := map[string]any{"file": out, "size": len(code), "sha256": hex.EncodeToString(sum[:])}
				return show(c, doc, func(w io.Writer) {
					row(w, "file", out)
					row(w, "size", fmt.Sprintf("%d KiB", (len(code)+1023)/1024))
					row(w, "sha256", doc["sha256"])
				})
			})
		},
	}
}

// codeByHash returns code that the chain keeps, and holds the node to the hash.
func (r *remote) codeByHash(hash keys.Digest) ([]byte, error) {
	code, err := ask[*[]byte](r, precompiles.ContractsAddress, "reading the code", "code", &precompiles.CodeArgs{Digest: hash})
	if err != nil {
		return nil, err
	}
	if code == nil {
		return nil, withCode(ExitNotFound, fmt.Errorf("the chain has no code with the hash %s: `fondaco contract history` lists what ran at a contract's address", hash))
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	if precompiles.CodeHash(suite, *code) != hash {
		return nil, fmt.Errorf("%s gives code that has not the hash %s: ask another node with --api", r.url, hash)
	}
	return *code, nil
}

// history returns all deployments at an address.
func (r *remote) history(address ledger.Address) ([]precompiles.Deployment, error) {
	return askAll(r, precompiles.ContractsAddress, "history", "history", &precompiles.HistoryArgs{Address: address},
		func(last precompiles.Deployment) any {
			return &precompiles.HistoryArgs{Address: address, After: last.Number}
		},
		func(a, b precompiles.Deployment) int { return cmp.Compare(a.Number, b.Number) })
}

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "tell why a transaction ended as it did: calls, host functions, log lines, and where a contract trapped",
		ArgsUsage: "TX",
		Description: "The node executes the block again, which it can for its last blocks. Functions are told by name with --module: the\n" +
			"file that `contract build` wrote, next to its .names.",
		Flags: remoteFlags(&cli.StringSliceFlag{Name: "module", Usage: "`FILE.wasm` of a contract that took part; may be repeated"}),
		Action: func(c *cli.Context) error {
			id, err := txArgument(c)
			if err != nil {
				return err
			}
			modules := map[[32]byte][]byte{}
			for _, file := range c.StringSlice("module") {
				code, err := readModule(file)
				if err != nil {
					return err
				}
				names, err := contract.ReadNames(file, code)
				if err != nil {
					return err
				}
				if names == nil {
					return withCode(ExitNotFound, fmt.Errorf("there is no %s%s: build the contract again with `fondaco contract build`", file, contract.NamesSuffix))
				}
				modules[sha256.Sum256(code)] = names
			}
			return talk(c, func(r *remote) error {
				trace, err := r.Trace(r.ctx, id)
				if err != nil {
					return err
				}
				if len(modules) > 0 {
					names := func(address string) (map[uint32]string, error) { return r.functionNames(address, modules) }
					if trace.Text, err = contract.NameFrames(trace.Text, names); err != nil {
						return err
					}
				}
				if c.String("output") != "json" { // its lines are indented: not a table
					_, err := io.WriteString(c.App.Writer, trace.Text)
					return err
				}
				return show(c, trace, nil)
			})
		},
	}
}

// functionNames returns the names of the functions of a contract, by index; none if its module is not among modules.
func (r *remote) functionNames(address string, modules map[[32]byte][]byte) (map[uint32]string, error) {
	a, err := ledger.ParseAddress(address)
	if err != nil || precompiles.IsSystem(a) {
		return nil, nil
	}
	code, err := r.Code(r.ctx, a)
	if err != nil {
		return nil, err
	}
	return contract.FunctionNames(modules[sha256.Sum256(code)])
}
