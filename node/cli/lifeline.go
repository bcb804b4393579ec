package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// maxEvidence bounds a file of which a digest goes on chain, in bytes.
const maxEvidence = 1 << 30

const evidenceUsage = "`FILE` that shows why, of which a digest goes on chain, or that digest: 0x and 64 hexadecimal digits"

// lifelineCommands are the commands of an account's co-signers and of the recovery of its keys.
func lifelineCommands() []*cli.Command {
	const recoverWanted, cosignWanted = "ADDRESS|NAME KEY[*WEIGHT]...", "ADDRESS|NAME all|METHOD|CONTRACT|CONTRACT.METHOD...|none"
	recovery := func(name, usageText string) *cli.Command {
		const wanted = "ADDRESS|NAME NUMBER"
		return accountCall(name, usageText, wanted, func(r *remote, address ledger.Address, words []string) (string, any, error) {
			number, err := recoveryNumber(words[0])
			return name, &precompiles.RecoveryArgs{Account: address, Number: number}, err
		})
	}
	leak := func(name, method, usageText string) *cli.Command {
		return accountCall(name, usageText, "ADDRESS|NAME", func(_ *remote, address ledger.Address, _ []string) (string, any, error) {
			return method, &precompiles.AddressArgs{Address: address}, nil
		})
	}
	return []*cli.Command{
		{
			Name: "recover", Usage: "ask for new keys for an account whose owner lost his; the sender is a registrar or admin of its institution", ArgsUsage: recoverWanted,
			Description: "An admin of the institution with another account confirms it (`fondaco account confirm`). From then on the owner may object for a\n" +
				"time, two days unless a motion set another, with the keys that the account has; after it, `fondaco account settle` puts the new\n" +
				"keys into place. The address and all that belongs to it stay. Accounts with the role committee or regulator, and those that objected\n" +
				"twice, are recovered by motion.",
			Flags: signingFlags(
				&cli.UintFlag{Name: "threshold", Usage: "weight of the new keys that must sign", Value: 1},
				&cli.StringFlag{Name: "reason", Usage: "why, in up to 256 bytes, for everybody to read"},
				&cli.StringFlag{Name: "evidence", Usage: evidenceUsage},
			),
			Action: recoverAccount,
		},
		recovery("confirm", "confirm a recovery that another officer asked for; the sender is an admin of the account's institution"),
		recovery("withdraw", "end a recovery; the sender is a registrar or admin of the account's institution"),
		recovery("settle", "put the keys of a recovery into place, after the time for objections; anybody may"),
		{
			Name: "object", Usage: "end a recovery of the sender's own account", ArgsUsage: "NUMBER", Flags: signingFlags(),
			Action: func(c *cli.Context) error {
				args, err := arguments(c, 1, 1, "NUMBER")
				if err != nil {
					return err
				}
				number, err := recoveryNumber(args[0])
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					return r.transact(precompiles.AccountsAddress, "object", &precompiles.NumberArgs{Number: number}, nil)
				})
			},
		},
		{
			Name: "recoveries", Usage: "list the accounts with a recovery that is under way", Flags: remoteFlags(),
			Action: func(c *cli.Context) error {
				if _, err := arguments(c, 0, 0, ""); err != nil {
					return err
				}
				return talk(c, listRecoveries)
			},
		},
		leak("report-leak", "report_leak", "stop an account, because a key of it is in wrong hands; the sender is the account, with any one key, or an officer of its institution"),
		leak("clear-leak", "clear_leak", "withdraw such a report; the sender is an admin of the account's institution who did not report it"),
		{
			Name: "cosign", Usage: "say what another account must sign beside the sender", ArgsUsage: cosignWanted,
			Description: "The other account's keys sign this, too, and whatever lifts it: write it with --sign-only FILE, have `fondaco tx sign FILE` add a signature on the\n" +
				"other's machine, and send it with `fondaco tx send FILE`. Calls that want a co-signature go the same way.",
			Flags:  signingFlags(&cli.DurationFlag{Name: "for", Usage: "for how long", Value: 90 * 24 * time.Hour}),
			Action: cosign,
		},
	}
}

// accountCall is a command that calls a method of the system contract accounts about an account, the first word of the command line.
func accountCall(name, usageText, wanted string, call func(r *remote, address ledger.Address, words []string) (method string, args any, err error)) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usageText, ArgsUsage: wanted, Flags: signingFlags(),
		Action: func(c *cli.Context) error {
			count := len(strings.Fields(wanted))
			args, err := arguments(c, count, count, wanted)
			if err != nil {
				return err
			}
			return talk(c, func(r *remote) error {
				address, err := r.account(args[0])
				if err != nil {
					return err
				}
				method, values, err := call(r, address, args[1:])
				if err != nil {
					return err
				}
				return r.transact(precompiles.AccountsAddress, method, values, nil)
			})
		},
	}
}

func recoveryNumber(text string) (uint64, error) {
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || number == 0 {
		return 0, usage("recovery %q: want its number, as `fondaco account show` tells it", text)
	}
	return number, nil
}

func recoverAccount(c *cli.Context) error {
	args, err := arguments(c, 2, 1+precompiles.MaxAccountKeys, "ADDRESS|NAME KEY[*WEIGHT]...")
	if err != nil {
		return err
	}
	reason, err := required(c, "reason", "TEXT, why the account needs new keys")
	if err != nil {
		return err
	}
	shown, err := required(c, "evidence", "FILE, such as the owner's signed request")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		address, err := r.account(args[0])
		if err != nil {
			return err
		}
		bound, err := r.weighedKeys(args[1:])
		if err != nil {
			return err
		}
		evidence, err := r.evidence(shown)
		if err != nil {
			return err
		}
		values := &precompiles.RecoverAccountArgs{Account: address, Keys: bound, Threshold: uint32(min(c.Uint("threshold"), math.MaxUint32)), Reason: reason, Evidence: evidence}
		return r.transact(precompiles.AccountsAddress, "recover", values, func(tx *client.Transaction, w io.Writer) {
			row(w, "recovery", strings.Trim(string(tx.Receipt.Decoded), `"`))
		})
	})
}

// evidence returns the digest that a person named, or that of a file under the chain's hash.
func (r *remote) evidence(text string) (keys.Digest, error) {
	if strings.HasPrefix(text, "0x") {
		digest, err := parseDigest(text)
		return digest, withCode(ExitUsage, err)
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return keys.Digest{}, err
	}
	info, err := os.Stat(text)
	switch {
	case err != nil:
		return keys.Digest{}, withCode(ExitNotFound, err)
	case !info.Mode().IsRegular() || info.Size() > maxEvidence:
		return keys.Digest{}, usage("%s: want a file of at most %d bytes; of several, name an archive of them", text, maxEvidence)
	}
	data, err := os.ReadFile(text)
	if err != nil {
		return keys.Digest{}, err
	}
	return suite.Sum(data), nil
}

func listRecoveries(r *remote) error {
	all, err := askAll(r, precompiles.AccountsAddress, "recoveries", "recoveries", &precompiles.RecoveriesArgs{},
		func(last ledger.Address) any { return &precompiles.RecoveriesArgs{After: &last} },
		func(a, b ledger.Address) int { return bytes.Compare(a[:], b[:]) })
	if err != nil {
		return err
	}
	accounts := []*client.Account{}
	for _, a := range all {
		account, err := r.Account(r.ctx, a)
		if err != nil {
			return err
		}
		accounts = append(accounts, account)
	}
	return show(r.c, accounts, func(w io.Writer) {
		for _, a := range accounts {
			if a.Recovery != nil { // it may have ended since the list was made
				row(w, a.Address, recoveryText(a))
			}
		}
	})
}

// recoveryText says how far a recovery of an account is.
func recoveryText(a *client.Account) string {
	q := a.Recovery
	text := fmt.Sprintf("%d, asked for by %s (%s)", q.Number, asker(q.Asked), q.Reason)
	switch {
	case q.Until == 0:
		return text + fmt.Sprintf("; to be confirmed by another admin of %s", a.Institution)
	case a.Time > q.Until:
		return text + "; to be settled"
	case q.Final:
		return text + "; to be settled after " + timeText(q.Until)
	}
	return text + "; the owner may object until " + timeText(q.Until)
}

func asker(a ledger.Address) string {
	if a == precompiles.GovernanceAddress {
		return "motion"
	}
	return a.String()
}

func cosign(c *cli.Context) error {
	args, err := arguments(c, 2, 1+precompiles.MaxClasses, "ADDRESS|NAME all|METHOD|CONTRACT|CONTRACT.METHOD...|none")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		sender, err := r.senderAccount()
		if err != nil {
			return err
		}
		other, err := r.account(args[0])
		if err != nil {
			return err
		}
		values := &precompiles.CosignArgs{Account: sender.Address, Cosigner: other}
		if len(args) != 2 || args[1] != "none" {
			values.Until = time.Now().Add(c.Duration("for")).UnixMilli()
			for _, word := range args[1:] {
				class, err := r.class(word)
				if err != nil {
					return err
				}
				values.Classes = append(values.Classes, class)
			}
		}
		return r.transact(precompiles.AccountsAddress, "cosign", values, nil)
	})
}

// class reads all, METHOD, CONTRACT or CONTRACT.METHOD. What is written like a method alone, is one: a contract by its name has a dot behind it.
func (r *remote) class(word string) (class precompiles.Class, err error) {
	contract, method, dotted := strings.Cut(word, ".")
	switch {
	case word == "all":
		return class, nil
	case !dotted && !strings.HasPrefix(word, "0x"):
		return precompiles.Class{Method: word}, nil
	}
	class.Method = method
	class.Contract, err = r.contract(contract)
	return class, err
}

func classText(k client.Class) string {
	switch {
	case k.Contract.IsZero() && k.Method == "":
		return "all"
	case k.Contract.IsZero():
		return k.Method
	case k.Method == "":
		return k.Contract.String()
	}
	return k.Contract.String() + "." + k.Method
}

// lifelineTable prints what an account has beside its keys.
func lifelineTable(w io.Writer, a *client.Account) {
	for _, s := range a.Cosigners {
		ended := ""
		if a.Time > s.Until {
			ended = " (ended)"
		}
		var classes []string
		for _, k := range s.Classes {
			classes = append(classes, classText(k))
		}
		row(w, "co-signer", fmt.Sprintf("%s of %s until %s%s", s.Account, strings.Join(classes, ", "), timeText(s.Until), ended))
	}
	if a.Leak != nil {
		row(w, "leak", fmt.Sprintf("reported %s by %s: it sends nothing until it is recovered", timeText(a.Leak.Time), asker(a.Leak.By)))
	}
	if a.Recovery != nil {
		row(w, "recovery", recoveryText(a))
		for _, k := range a.Recovery.Keys {
			row(w, "new key", fmt.Sprintf("%s, weight %d", keyText(k.Key), k.Weight))
		}
	}
	if a.Objections > 0 {
		row(w, "objections", fmt.Sprintf("%d of %d", a.Objections, precompiles.MaxObjections))
	}
}

// endText says how much of a time that a key has is left.
func endText(now, until int64) string {
	switch left := time.Duration(until-now) * time.Millisecond; {
	case left < 0:
		return "ended"
	case left < 48*time.Hour:
		return left.Round(time.Minute).String() + " left"
	default:
		return fmt.Sprintf("%d days left", int(left.Hours()/24))
	}
}

// callText says what a transaction calls, with the arguments where the contract has a schema.
func (r *remote) callText(tx *ledger.Tx) (string, error) {
	name := tx.To.String()
	contract, err := r.contract(name)
	if err != nil {
		return "", err
	}
	schema, err := r.schema(contract)
	if err != nil || schema == nil {
		return fmt.Sprintf("%s.%s with 0x%x", name, tx.Method, tx.Args), err
	}
	if precompiles.IsSystem(contract) {
		name = schema.Name
	}
	args, err := schema.DecodeArgs(tx.Method, tx.Args)
	if err != nil {
		return "", fmt.Errorf("the arguments of %s.%s: %w", name, tx.Method, err)
	}
	text, err := json.Marshal(args)
	return fmt.Sprintf("%s.%s%s", name, tx.Method, compact(text)), err
}

// signFile adds the signatures of --key and --signer to a transaction in a file.
func signFile(c *cli.Context) error {
	return talkOfFile(c, "FILE", func(r *remote, suite keys.Suite, tx *ledger.SignedTx, file string) error {
		if err := tx.CheckSignatures(suite); err != nil {
			return withCode(ExitInvalid, fmt.Errorf("%s: %w", file, err))
		}
		said, err := r.callText(&tx.Tx)
		if err != nil {
			return err
		}
		signers, err := r.signers(suite)
		if err != nil {
			return err
		}
		signed, err := tx.Sign(suite, signers...)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, signed.Raw, 0o600); err != nil {
			return err
		}
		note(c, "Nothing is sent. Send it with `fondaco tx send %s` before %s.", file, timeText(signed.Expiry))
		return show(c, map[string]any{"id": signed.ID, "file": file, "expiry": signed.Expiry, "signatures": len(signed.Signatures)}, func(w io.Writer) {
			row(w, "transaction", signed.ID)
			row(w, "sender", signed.Sender)
			row(w, "calls", said)
			row(w, "signatures", len(signed.Signatures))
			row(w, "expires", timeText(signed.Expiry))
		})
	})
}
