package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func proofCommand() *cli.Command {
	out := &cli.StringFlag{Name: "out", Usage: "`FILE` to write the proof to, instead of printing it in hexadecimal"}
	get := func(name, usage, want string, least, most int, ask func(r *remote, args []string) (*client.Bytes, error)) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: want, Flags: remoteFlags(out),
			Action: func(c *cli.Context) error {
				args, err := arguments(c, least, most, want)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					proof, err := ask(r, args)
					if err != nil {
						return err
					}
					if proof == nil {
						return withCode(ExitNotFound, fmt.Errorf("%s has no proof of it yet: ask again when it is in a block", r.url))
					}
					return writeProof(c, *proof)
				})
			},
		}
	}
	return &cli.Command{
		Name:        "proof",
		Usage:       "get proofs of what is on the chain, and verify them without a node",
		Description: "A proof holds a header, the signatures that make it final, and a path from what is proven to the header.",
		Subcommands: []*cli.Command{
			{
				Name:  "get",
				Usage: "get a proof from a node",
				Subcommands: []*cli.Command{
					get("tx", "that a block holds a transaction", "ID", 1, 1, func(r *remote, args []string) (*client.Bytes, error) {
						return r.txProof(args[0], false)
					}),
					get("receipt", "that a block holds a transaction and gave it its receipt", "ID", 1, 1, func(r *remote, args []string) (*client.Bytes, error) {
						return r.txProof(args[0], true)
					}),
					get("state", "what the newest world state holds under a contract's key, or that it holds nothing", "CONTRACT 0xKEY", 2, 2,
						func(r *remote, args []string) (*client.Bytes, error) {
							address, err := r.contract(args[0])
							if err != nil {
								return nil, err
							}
							var key client.Bytes
							if err := key.UnmarshalText([]byte(args[1])); err != nil {
								return nil, withCode(ExitUsage, err)
							}
							found, err := r.State(r.ctx, address, key, true)
							if err != nil {
								return nil, err
							}
							return found.Proof, nil
						}),
					get("header", "that a block is final", "HEIGHT|latest", 1, 1, func(r *remote, args []string) (*client.Bytes, error) {
						height, err := r.height(args[0])
						if err != nil {
							return nil, err
						}
						found, err := r.HeaderProof(r.ctx, height)
						if err != nil {
							return nil, err
						}
						return &found.Proof, nil
					}),
				},
			},
			{
				Name:      "verify",
				Usage:     "verify a proof offline, trusting nothing but a genesis file; exit code 6 when it does not hold",
				ArgsUsage: "FILE|-|0x…",
				Flags: []cli.Flag{
					outputFlag(),
					&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE` of the chain, from a source that you trust", Value: GenesisFile, EnvVars: []string{"FONDACO_GENESIS"}},
					&cli.StringFlag{Name: "module", Usage: "the contract's module, `FILE`.wasm: its schema says what arguments, result and state mean"},
				},
				Action: verifyProof,
			},
		},
	}
}

func (r *remote) txProof(text string, receipt bool) (*client.Bytes, error) {
	id, err := parseTxID(text)
	if err != nil {
		return nil, err
	}
	tx, err := r.Lookup(r.ctx, id, 0, true)
	if err != nil || tx.Proof == nil || receipt {
		if tx == nil {
			return nil, err
		}
		return tx.Proof, err
	}
	claim, err := ledger.DecodeClaim(*tx.Proof)
	if err != nil {
		return nil, err
	}
	claim.Receipt = nil
	raw, err := ledger.Marshal(claim)
	if err != nil {
		return nil, err
	}
	proof := client.Bytes(raw)
	return &proof, nil
}

func writeProof(c *cli.Context, proof client.Bytes) error {
	file := c.String("out")
	if file == "" {
		return show(c, map[string]any{"proof": proof}, func(w io.Writer) { fmt.Fprintln(w, hexText(proof)) })
	}
	if err := os.WriteFile(file, proof, 0o644); err != nil {
		return err
	}
	note(c, "Verify it anywhere with `fondaco proof verify %s --genesis FILE`.", file)
	return show(c, map[string]any{"file": file, "bytes": len(proof)}, func(w io.Writer) {
		row(w, "proof", file)
		row(w, "bytes", len(proof))
	})
}

// proven is what a proof shows, for programs.
type proven struct {
	Holds   bool           `json:"holds"`
	Chain   keys.Digest    `json:"chain"`
	Group   ledger.GroupID `json:"group"`
	Height  ledger.Height  `json:"height"`
	Block   keys.Digest    `json:"block"`
	Time    int64          `json:"time"`
	Signers []uint32       `json:"signers"`
	Tx      *provenTx      `json:"tx,omitempty"`
	Receipt *provenReceipt `json:"receipt,omitempty"`
	State   *provenState   `json:"state,omitempty"`
	Module  *keys.Digest   `json:"module,omitempty"` // whose schema was used; the contract table has it as code
}

type provenTx struct {
	ID     ledger.TxID    `json:"id"`
	Sender ledger.Address `json:"sender"`
	To     ledger.Address `json:"to"`
	Name   string         `json:"name,omitempty"`
	Method string         `json:"method"`
	Args   client.Bytes   `json:"args"`

	Meaning ledger.Record `json:"meaning,omitempty"` // of the arguments
}

type provenReceipt struct {
	Tx     ledger.TxID  `json:"tx"`
	Status string       `json:"status"`
	Code   uint32       `json:"code"`
	Data   client.Bytes `json:"data"`
	Gas    ledger.Gas   `json:"gas,string"`
	Events int          `json:"events"`

	Meaning any `json:"meaning,omitempty"` // of the data
}

type provenState struct {
	Contract ledger.Address `json:"contract"`
	Key      client.Bytes   `json:"key"`
	Found    bool           `json:"found"`
	Value    client.Bytes   `json:"value"`
	Meaning  any            `json:"meaning,omitempty"`
}

func verifyProof(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FILE|-|0x…")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	genesis, suite, err := trustedGenesis(c.String("genesis"))
	if err != nil {
		return err
	}
	var module []byte
	var schema *ledger.Schema
	if file := c.String("module"); file != "" {
		if module, err = readModule(file); err != nil {
			return err
		}
		if schema, err = ledger.ModuleSchema(module); err != nil {
			return err
		}
		if schema == nil {
			return usage("the module %s has no schema: leave out --module", file)
		}
	}
	raw, err := binaryArgument(c, args[0], ledger.MaxClaimSize)
	if err != nil {
		return err
	}
	claim, err := ledger.DecodeClaim(raw)
	if err != nil {
		return withCode(ExitInvalid, fmt.Errorf("the proof does not hold: it is malformed: %w", err))
	}
	chain := genesis.Hash(suite)
	if err := claim.Verify(suite, chain, genesis.Group, genesis.Finality(), genesis.Epoch()); err != nil {
		return withCode(ExitInvalid, fmt.Errorf("the proof does not hold: %w; do not rely on what it claims", err))
	}
	members := len(genesis.Members)
	if n := len(claim.Epochs); n > 0 {
		members = len(claim.Epochs[n-1].Epoch.Members)
	}
	doc, err := describeClaim(suite, claim, schema)
	if err != nil {
		return err
	}
	text := func(v any) string { return shorten(jsonText(v)) }
	if module != nil {
		doc.Module = new(precompiles.CodeHash(suite, module))
		text = jsonText // who asks for words wants all of them
	}
	return show(c, doc, func(w io.Writer) {
		row(w, "verdict", "the proof holds")
		row(w, "chain", fmt.Sprintf("%s %s, group %s", doc.Chain, genesis.Name, doc.Group))
		row(w, "block", fmt.Sprintf("%d %s", doc.Height, doc.Block))
		row(w, "time", timeText(doc.Time))
		row(w, "signed by", fmt.Sprintf("members %v of %d in epoch %d", doc.Signers, members, claim.Header.Order.Epoch))
		if t := doc.Tx; t != nil {
			row(w, "transaction", t.ID)
			row(w, "sender", t.Sender)
			row(w, "contract", t.To)
			if t.Meaning != nil {
				row(w, "method", t.Method+" "+text(t.Meaning))
			} else {
				row(w, "method", t.Method+" "+shorten(hexText(t.Args)))
			}
		}
		if r := doc.Receipt; r != nil {
			row(w, "receipt of", r.Tx)
			row(w, "status", outcomeText(r.Status, r.Code, ""))
			if r.Meaning != nil {
				row(w, "result", text(r.Meaning))
			}
			row(w, "gas", r.Gas)
			row(w, "events", r.Events)
		}
		if s := doc.State; s != nil {
			row(w, "state of", s.Contract)
			row(w, "key", hexText(s.Key))
			if !s.Found {
				row(w, "value", "none")
			} else {
				row(w, "value", shorten(hexText(s.Value)))
			}
			if s.Meaning != nil {
				row(w, "that is", text(s.Meaning))
			}
		}
		if doc.Module != nil {
			row(w, "module", doc.Module)
		}
	})
}

// describeClaim says what a claim proves. What is of another than a system contract is read by the schema, if there is one;
// what that cannot read, such as arguments that the contract refused, stays bytes.
func describeClaim(suite keys.Suite, claim *ledger.Claim, schema *ledger.Schema) (*proven, error) {
	order := &claim.Header.Order
	doc := &proven{
		Holds: true, Chain: order.Chain, Group: order.Group, Height: order.Height, Block: claim.Header.Hash(suite), Time: order.UnixMilli,
		Signers: claim.Certificate.Members(),
	}
	var called *ledger.Schema
	if claim.Tx != nil {
		tx, err := ledger.DecodeTx(suite, claim.Tx.Raw)
		if err != nil {
			return nil, err
		}
		doc.Tx = &provenTx{ID: tx.ID, Sender: tx.Sender, To: tx.To.Address, Name: tx.To.Name, Method: tx.Method, Args: tx.Args}
		if called = schemaOf(tx.To.Address, schema); called != nil {
			if args, err := called.DecodeArgs(tx.Method, tx.Args); err == nil {
				doc.Tx.Meaning = args
			}
		}
	}
	if claim.Receipt != nil {
		r := &claim.Receipt.Receipt
		doc.Receipt = &provenReceipt{Tx: r.Tx, Status: r.Status.String(), Code: r.Code, Data: r.Data, Gas: r.Gas, Events: len(r.Events)}
		if called != nil && r.Status == ledger.OK {
			if result, err := called.DecodeReturn(doc.Tx.Method, r.Data); err == nil {
				doc.Receipt.Meaning = result
			}
		}
	}
	if s := claim.State; s != nil {
		doc.State = &provenState{Found: s.Present, Value: s.Value, Key: s.Key}
		if len(s.Key) >= ledger.AddressSize {
			doc.State.Contract, doc.State.Key = ledger.Address(s.Key[:ledger.AddressSize]), s.Key[ledger.AddressSize:]
		}
		if of := schemaOf(doc.State.Contract, schema); of != nil && s.Present {
			if _, _, v, err := of.DecodeState(doc.State.Key, s.Value); err == nil {
				doc.State.Meaning = v
			}
		}
	}
	return doc, nil
}

// schemaOf returns a system contract's schema, which every binary knows, or that of the others.
func schemaOf(contract ledger.Address, others *ledger.Schema) *ledger.Schema {
	for _, c := range precompiles.All() {
		if c.Address() == contract {
			return c.Schema()
		}
	}
	return others
}
