package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func proofCommand() *cli.Command {
	get := func(name, usage, want string, least, most int, ask func(r *remote, args []string) (*client.Bytes, error), more ...cli.Flag) *cli.Command {
		flags := append(more,
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write the proof to, instead of printing it in hexadecimal"},
			&cli.StringFlag{Name: "under", Usage: "lead to this later block, a `HEIGHT` or latest, in whose history the block is, for who trusts that one"},
			&cli.BoolFlag{Name: "with-genesis", Usage: "put the genesis into the proof, for who knows the chain's id and has no genesis file"},
		)
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: want, Flags: remoteFlags(flags...),
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
					return r.writeProof(*proof)
				})
			},
		}
	}
	at := &cli.StringFlag{Name: "height", Usage: "state after the block at this `HEIGHT`; nodes keep the states after the last blocks, and those with archive = true all; default: the newest"}
	return &cli.Command{
		Name:  "proof",
		Usage: "get proofs of what is on the chain, and verify them without a node",
		Description: "A proof holds a header, the signatures that make it final, and a path from what is proven to the header. One under a\n" +
			"later block holds that block's signatures, and the path between the two.",
		Subcommands: []*cli.Command{
			{
				Name:  "get",
				Usage: "get a proof from a node",
				Subcommands: []*cli.Command{
					get("tx", "that a block holds a transaction", "ID", 1, 1, func(r *remote, args []string) (*client.Bytes, error) {
						return r.txProof(args[0], func(c *ledger.Claim) { c.Receipt = nil })
					}),
					get("receipt", "that a block holds a transaction and gave it its receipt", "ID", 1, 1, func(r *remote, args []string) (*client.Bytes, error) {
						return r.txProof(args[0], nil)
					}),
					get("event", "that a transaction emitted an event, named by its place in the receipt, from 0", "ID PLACE", 2, 2, func(r *remote, args []string) (*client.Bytes, error) {
						id, err := parseTxID(args[0])
						if err != nil {
							return nil, err
						}
						place, err := strconv.ParseUint(args[1], 10, 32)
						if err != nil {
							return nil, usage("place %q of the event: want a number from 0", args[1])
						}
						return r.EventProof(r.ctx, id, uint32(place), r.c.String("under"))
					}),
					get("state", "what the world state holds under a contract's key, or that it holds nothing", "CONTRACT 0xKEY", 2, 2, func(r *remote, args []string) (*client.Bytes, error) {
						found, err := r.stateProof(args)
						if err != nil {
							return nil, err
						}
						return found.Proof, nil
					}, at),
					get("name", "what the chain says of a contract's name, for `name resolve --proof`", "NAME", 1, 1, func(r *remote, args []string) (*client.Bytes, error) {
						key := precompiles.NameStateKey(args[0])[ledger.AddressSize:]
						found, err := r.StateProof(r.ctx, precompiles.CNSAddress, key, r.c.String("height"), r.c.String("under"))
						if err != nil {
							return nil, err
						}
						return found.Proof, nil
					}, at),
					get("absence", "that the world state holds nothing under a contract's key", "CONTRACT 0xKEY", 2, 2, func(r *remote, args []string) (*client.Bytes, error) {
						found, err := r.stateProof(args)
						if err != nil {
							return nil, err
						}
						if found.Found {
							return nil, fmt.Errorf("after block %d there is a value of %d bytes under the key: its proof is `fondaco proof get state %s %s`",
								found.Height, len(found.Value), args[0], args[1])
						}
						return found.Proof, nil
					}, at),
					get("header", "that a block is final", "HEIGHT|latest", 1, 1, func(r *remote, args []string) (*client.Bytes, error) {
						height, err := r.height(args[0])
						if err != nil {
							return nil, err
						}
						found, err := r.HeaderProof(r.ctx, height, r.c.String("under"))
						if err != nil {
							return nil, err
						}
						return &found.Proof, nil
					}),
				},
			},
			{
				Name:  "verify",
				Usage: "verify a proof offline, trusting nothing but a genesis or a block; exit code 6 when it does not hold",
				Description: "With --genesis, what is proven holds as long as the members of the genesis, and those that they made members since, were\n" +
					"not too many of them liars. With --header no signature counts: what is proven holds if the block named is in the chain.",
				ArgsUsage: "FILE|-|0x…",
				Flags: append(
					trustFlags(), outputFlag(),
					&cli.StringFlag{Name: "module", Usage: "the contract's module, `FILE`.wasm: its schema says what arguments, result, events and state mean"},
				),
				Action: verifyProof,
			},
		},
	}
}

// trustFlags say on whose word a proof is to hold.
func trustFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE|ID` of the chain, from a source that you trust; an id is enough for proofs that hold the genesis", Value: GenesisFile, EnvVars: []string{"FONDACO_GENESIS"}},
		&cli.StringFlag{Name: "header", Usage: "trust this block instead of a genesis: a `FILE|HASH`, of a header, of a proof of one, or a block hash"},
		&cli.StringFlag{Name: "suite", Usage: "cryptography of the chain, std or gm; only with --header, since a genesis says it", Value: keys.Std().Name()},
		recoveryFlag(),
	}
}

// provenClaim decodes a proof and verifies it for who trusts what the flags name.
func provenClaim(c *cli.Context, raw []byte) (*ledger.Claim, keys.Suite, trust, error) {
	claim, err := ledger.DecodeClaim(raw)
	if err != nil {
		return nil, nil, trust{}, withCode(ExitInvalid, fmt.Errorf("the proof does not hold: it is malformed: %w", err))
	}
	suite, by, err := verifyClaim(c, claim)
	if errors.Is(err, ledger.ErrRecovery) {
		return nil, nil, by, withCode(ExitInvalid, fmt.Errorf("the proof leads over a recovery: %w", withRecovery(err)))
	}
	if errors.Is(err, ledger.ErrClaim) {
		return nil, nil, by, withCode(ExitInvalid, fmt.Errorf("the proof does not hold: %w; do not rely on what it claims", err))
	}
	return claim, suite, by, err
}

// txProof returns the proof of a transaction and its receipt, without what leave takes out of it.
func (r *remote) txProof(text string, leave func(*ledger.Claim)) (*client.Bytes, error) {
	id, err := parseTxID(text)
	if err != nil {
		return nil, err
	}
	proof, err := r.ReceiptProof(r.ctx, id, r.c.String("under"))
	if err != nil || proof == nil || leave == nil {
		return proof, err
	}
	return changedClaim(*proof, leave)
}

func (r *remote) stateProof(args []string) (*client.State, error) {
	address, err := r.contract(args[0])
	if err != nil {
		return nil, err
	}
	var key client.Bytes
	if err := key.UnmarshalText([]byte(args[1])); err != nil {
		return nil, withCode(ExitUsage, err)
	}
	return r.StateProof(r.ctx, address, key, r.c.String("height"), r.c.String("under"))
}

func changedClaim(raw client.Bytes, change func(*ledger.Claim)) (*client.Bytes, error) {
	claim, err := ledger.DecodeClaim(raw)
	if err != nil {
		return nil, err
	}
	change(claim)
	changed, err := ledger.Marshal(claim)
	return (*client.Bytes)(&changed), err
}

func (r *remote) writeProof(proof client.Bytes) error {
	c, verify := r.c, "--genesis FILE`"
	if c.Bool("with-genesis") {
		genesis, err := r.Genesis(r.ctx)
		if err != nil {
			return err
		}
		with, err := changedClaim(proof, func(claim *ledger.Claim) { claim.Genesis = genesis })
		if err != nil {
			return err
		}
		proof = *with
		verify = "--genesis ID`, with the chain's id from a source that you trust" // this node's word for it is worth nothing
	}
	file := c.String("out")
	if file == "" {
		return show(c, map[string]any{"proof": proof}, func(w io.Writer) { fmt.Fprintln(w, hexText(proof)) })
	}
	if err := os.WriteFile(file, proof, 0o644); err != nil {
		return err
	}
	note(c, "Verify it anywhere with `fondaco proof verify %s %s.", file, verify)
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
	Proven  []string       `json:"proven"`            // in words
	Trusted string         `json:"trusted"`           // genesis or block: on whose word it holds
	Signers []uint32       `json:"signers,omitempty"` // of the block or, with under, of that one; with a genesis
	Under   *provenUnder   `json:"under,omitempty"`
	Tx      *provenTx      `json:"tx,omitempty"`
	Receipt *provenReceipt `json:"receipt,omitempty"`
	Event   *provenEvent   `json:"event,omitempty"`
	State   *provenState   `json:"state,omitempty"`
	Module  *keys.Digest   `json:"module,omitempty"` // whose schema was used; the contract table has it as code
}

// provenUnder is the later block over whose history a proof leads.
type provenUnder struct {
	Height ledger.Height `json:"height"`
	Block  keys.Digest   `json:"block"`
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

	Contract ledger.Address `json:"contract"`          // that served the transaction; zero: it was refused before
	Name     string         `json:"name,omitempty"`    // that the transaction was sent to
	Version  string         `json:"version,omitempty"` // of the name, that served

	Meaning any `json:"meaning,omitempty"` // of the data
}

type provenEvent struct {
	Place    uint32         `json:"place"` // among the receipt's events, from 0
	Contract ledger.Address `json:"contract"`
	Topic    string         `json:"topic"`
	Data     client.Bytes   `json:"data"`

	Meaning ledger.Record `json:"meaning,omitempty"`
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
	claim, suite, by, err := provenClaim(c, raw)
	if err != nil {
		return err
	}
	doc, err := describeClaim(suite, claim, by, schema)
	if err != nil {
		return err
	}
	doc.Trusted = "block"
	if by.genesis != nil {
		doc.Trusted, doc.Signers = "genesis", claim.Certificate.Members()
	}
	text := func(v any) string { return shorten(jsonText(v)) }
	if module != nil {
		doc.Module = new(precompiles.CodeHash(suite, module))
		text = jsonText // who asks for words wants all of them
	}
	return show(c, doc, func(w io.Writer) {
		row(w, "verdict", "the proof holds")
		for _, words := range doc.Proven {
			row(w, "proven", words)
		}
		if g := by.genesis; g != nil {
			row(w, "trusting", "the genesis of "+g.Name)
			row(w, "signed by", fmt.Sprintf("members %v of %d in epoch %d", doc.Signers, by.members, claim.Certified().Order.Epoch))
		} else {
			row(w, "trusting", "block "+by.block.String())
		}
		row(w, "chain", fmt.Sprintf("%s, group %s", doc.Chain, doc.Group))
		row(w, "block", fmt.Sprintf("%d %s", doc.Height, doc.Block))
		if doc.Under != nil {
			row(w, "under", fmt.Sprintf("%d %s", doc.Under.Height, doc.Under.Block))
		}
		row(w, "time", timeText(doc.Time))
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
			if r.Name != "" {
				row(w, "served by", fmt.Sprintf("version %s of %s, contract %s", r.Version, r.Name, r.Contract))
			}
			if r.Meaning != nil {
				row(w, "result", text(r.Meaning))
			}
			row(w, "gas", r.Gas)
			row(w, "events", r.Events)
		}
		if e := doc.Event; e != nil {
			row(w, "event", fmt.Sprintf("%d, %s of %s", e.Place, e.Topic, e.Contract))
			if e.Meaning != nil {
				row(w, "data", text(e.Meaning))
			} else {
				row(w, "data", shorten(hexText(e.Data)))
			}
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

// trust is on whose word a proof holds: a genesis, or a block.
type trust struct {
	genesis *ledger.Genesis
	members int // of the epoch that made it final
	block   keys.Digest
}

// verifyClaim verifies a claim for who trusts what the flags name.
func verifyClaim(c *cli.Context, claim *ledger.Claim) (keys.Suite, trust, error) {
	if text := c.String("header"); text != "" {
		// Where the genesis is named once and for all, in the environment, a header replaces it.
		if c.IsSet("recovery") || c.IsSet("genesis") && c.String("genesis") != os.Getenv("FONDACO_GENESIS") {
			return nil, trust{}, usage("--header trusts a block instead of a genesis: leave out --genesis and --recovery, which say nothing about it, or --header")
		}
		suite, err := keys.SuiteByName(c.String("suite"))
		if err != nil {
			return nil, trust{}, withCode(ExitUsage, err)
		}
		block, err := trustedBlock(c, suite, text)
		if err != nil {
			return nil, trust{}, err
		}
		return suite, trust{block: block}, claim.VerifyUnder(suite, block)
	}
	if c.IsSet("suite") {
		return nil, trust{}, usage("--suite is for --header only: leave it out, since a genesis says its own")
	}
	genesis, suite, chain, err := claimGenesis(c.String("genesis"), claim)
	if err != nil {
		return nil, trust{}, err
	}
	by := trust{genesis: genesis, members: len(genesis.Members)}
	if n := len(claim.Epochs); n > 0 {
		by.members = len(claim.Epochs[n-1].Epoch.Members)
	}
	accepted, err := recoveries(c)
	if err != nil {
		return nil, by, err
	}
	return suite, by, claim.Verify(suite, chain, genesis.Group, genesis.Finality(), genesis.Epoch(), accepted...)
}

// claimGenesis returns the genesis in a file or, if the text is a chain's id, the claim's own, which is still to be
// checked against the id.
func claimGenesis(text string, claim *ledger.Claim) (*ledger.Genesis, keys.Suite, keys.Digest, error) {
	chain, err := parseDigest(text)
	if err != nil {
		genesis, suite, err := trustedGenesis(text)
		if err != nil {
			return nil, nil, chain, err
		}
		return genesis, suite, genesis.Hash(suite), nil
	}
	if claim.Genesis == nil {
		return nil, nil, chain, usage("the proof does not hold the chain's genesis, so its id is not enough: name the genesis file, or get the proof again with --with-genesis")
	}
	suite, err := keys.SuiteByName(claim.Genesis.Suite)
	if err != nil {
		return nil, nil, chain, fmt.Errorf("%w: its genesis: %w", ledger.ErrClaim, err)
	}
	return claim.Genesis, suite, chain, nil
}

// trustedBlock returns the hash that a text is, or of the header in a file, on its own or in a proof.
func trustedBlock(c *cli.Context, suite keys.Suite, text string) (keys.Digest, error) {
	if block, err := parseDigest(text); err == nil {
		return block, nil
	}
	raw, err := binaryArgument(c, text, ledger.MaxClaimSize)
	if err != nil {
		return keys.Digest{}, err
	}
	if claim, err := ledger.DecodeClaim(raw); err == nil {
		return claim.Header.Hash(suite), nil
	}
	var header ledger.Header
	if err := ledger.Unmarshal(raw, &header); err != nil {
		return keys.Digest{}, usage("%s holds neither a header nor a proof of one (%v): get one with `fondaco proof get header HEIGHT --out FILE`, or name a block hash", shorten(text), err)
	}
	return header.Hash(suite), nil
}

// describeClaim says what a claim proves to who trusts by: nothing of a later block for who trusts the block below it,
// since anybody can write a header with that one in its history. What is of another than a system contract is read by the schema, if there is one;
// what that cannot read, such as arguments that the contract refused, stays bytes.
func describeClaim(suite keys.Suite, claim *ledger.Claim, by trust, schema *ledger.Schema) (*proven, error) {
	order := &claim.Header.Order
	doc := &proven{
		Holds: true, Chain: order.Chain, Group: order.Group, Height: order.Height, Block: claim.Header.Hash(suite), Time: order.UnixMilli,
	}
	say := func(format string, args ...any) { doc.Proven = append(doc.Proven, fmt.Sprintf(format, args...)) }
	if claim.History != nil && by.block != doc.Block {
		later := &claim.History.Header
		doc.Under = &provenUnder{Height: later.Order.Height, Block: later.Hash(suite)}
		say("block %d is in the history of block %d", order.Height, later.Order.Height)
	}
	if claim.Tx == nil && claim.Receipt == nil && claim.State == nil {
		say("block %d of the chain is %s and final", order.Height, doc.Block)
	}
	var called *ledger.Schema
	if claim.Tx != nil {
		tx, err := ledger.DecodeTx(suite, claim.Tx.Raw)
		if err != nil {
			return nil, err
		}
		doc.Tx = &provenTx{ID: tx.ID, Sender: tx.Sender, To: tx.To.Address, Method: tx.Method, Args: tx.Args}
		if tx.To.Name != "" {
			doc.Tx.Name = tx.To.String()
		}
		say("block %d holds transaction %s in place %d of %d", order.Height, tx.ID, claim.Tx.Proof.Index, order.TxCount)
		if called = schemaOf(tx.To.Address, schema); called != nil {
			if args, err := called.DecodeArgs(tx.Method, tx.Args); err == nil {
				doc.Tx.Meaning = args
			}
		}
	}
	if claim.Receipt != nil {
		r := &claim.Receipt.Receipt
		doc.Receipt = &provenReceipt{Tx: r.Tx, Status: r.Status.String(), Code: r.Code, Data: r.Data, Gas: r.Gas, Events: len(r.Events), Contract: r.Served.Address, Name: r.Served.Name, Version: r.Served.Version}
		say("transaction %s ended %s in block %d", r.Tx, outcomeText(doc.Receipt.Status, r.Code, ""), order.Height)
		if r.Served.Name != "" && !r.Served.Address.IsZero() {
			say("version %s of the name %s served it", r.Served.Version, r.Served.Name)
			if called == nil {
				called = schemaOf(r.Served.Address, schema)
			}
		}
		if called != nil && doc.Tx != nil && r.Status == ledger.OK { // an event's proof holds no transaction, and so no method
			if result, err := called.DecodeReturn(doc.Tx.Method, r.Data); err == nil {
				doc.Receipt.Meaning = result
			}
		}
	}
	if claim.Event != nil {
		e := &claim.Receipt.Receipt.Events[*claim.Event]
		doc.Event = &provenEvent{Place: *claim.Event, Contract: e.Contract, Topic: e.Topic, Data: e.Data}
		say("contract %s emitted the event %s in transaction %s", e.Contract, e.Topic, claim.Receipt.Receipt.Tx)
		if of := schemaOf(e.Contract, schema); of != nil {
			if fields, err := of.DecodeEvent(e.Topic, e.Data); err == nil {
				doc.Event.Meaning = fields
			}
		}
	}
	if s := claim.State; s != nil {
		doc.State = &provenState{Found: s.Present, Value: s.Value, Key: s.Key}
		if len(s.Key) >= ledger.AddressSize {
			doc.State.Contract, doc.State.Key = ledger.Address(s.Key[:ledger.AddressSize]), s.Key[ledger.AddressSize:]
		}
		if s.Present {
			say("after block %d, contract %s holds %d bytes under key %s", order.Height, doc.State.Contract, len(s.Value), hexText(doc.State.Key))
		} else {
			say("after block %d, contract %s holds nothing under key %s", order.Height, doc.State.Contract, hexText(doc.State.Key))
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
