package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func accountCommand() *cli.Command {
	const keysWanted = "KEY[*WEIGHT]..."
	threshold := func(usage string) cli.Flag {
		return &cli.UintFlag{Name: "threshold", Usage: usage}
	}
	return &cli.Command{
		Name:  "account",
		Usage: "make and show accounts, and change their keys",
		Description: "A KEY is a key file, or what `fondaco keys show` prints, such as ed25519:0x…. The keys that sign a\n" +
			"transaction must together weigh the account's threshold.",
		Subcommands: []*cli.Command{{
			Name:      "register",
			Usage:     "make an account in an institution; the sender is one of its registrars or admins",
			ArgsUsage: keysWanted,
			Flags: signingFlags(
				&cli.StringFlag{Name: "institution", Usage: "`NAME`; default: the sender's"},
				&cli.StringFlag{Name: "roles", Usage: "`ROLE,ROLE` of the account", Value: "user"},
				threshold("weight of keys that must sign; 0: 1"),
				&cli.StringFlag{Name: "certificate", Usage: "`FILE|FINGERPRINT` of the certificate that the account goes by"},
			),
			Action: registerAccount,
		}, {
			Name:      "show",
			Usage:     "print an account",
			ArgsUsage: "ADDRESS|NAME",
			Flags:     remoteFlags(),
			Action: func(c *cli.Context) error {
				args, err := arguments(c, 1, 1, "ADDRESS|NAME")
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					address, err := r.account(args[0])
					if err != nil {
						return err
					}
					account, err := r.Account(r.ctx, address)
					if err != nil {
						return err
					}
					return show(c, account, func(w io.Writer) { accountTable(w, account) })
				})
			},
		}, {
			Name:      "certify",
			Usage:     "bind an account to a certificate; the sender is a registrar or admin of its institution",
			ArgsUsage: "ADDRESS|NAME FILE|FINGERPRINT|none",
			Flags:     signingFlags(),
			Action:    certifyAccount,
		}, {
			Name:      "bind",
			Usage:     "add keys to the sender's account",
			ArgsUsage: keysWanted,
			Flags:     signingFlags(threshold("new weight of keys that must sign; 0: as it is")),
			Action: func(c *cli.Context) error {
				return changeKeys(c, 1, -1, keysWanted, func(bound []precompiles.AccountKey, threshold uint32) (string, any) {
					return "bind", &precompiles.BindArgs{Keys: bound, Threshold: threshold}
				})
			},
		}, {
			Name:      "unbind",
			Usage:     "take keys from the sender's account",
			ArgsUsage: "KEY...",
			Flags:     signingFlags(threshold("new weight of keys that must sign; 0: as it is")),
			Action: func(c *cli.Context) error {
				return changeKeys(c, 1, -1, "KEY...", func(bound []precompiles.AccountKey, threshold uint32) (string, any) {
					var gone []ledger.Key
					for _, k := range bound {
						gone = append(gone, ledger.Key{Algorithm: k.Algorithm, Bytes: k.Key})
					}
					return "unbind", &precompiles.UnbindArgs{Keys: gone, Threshold: threshold}
				})
			},
		}, {
			Name:      "rotate",
			Usage:     "replace a key of the sender's account",
			ArgsUsage: "OLD-KEY NEW-KEY[*WEIGHT]",
			Flags:     signingFlags(),
			Action: func(c *cli.Context) error {
				return changeKeys(c, 2, 2, "OLD-KEY NEW-KEY[*WEIGHT]", func(bound []precompiles.AccountKey, _ uint32) (string, any) {
					return "rotate", &precompiles.RotateArgs{Old: ledger.Key{Algorithm: bound[0].Algorithm, Bytes: bound[0].Key}, New: bound[1]}
				})
			},
		}},
	}
}

func registerAccount(c *cli.Context) error {
	args, err := arguments(c, 1, precompiles.MaxAccountKeys, "KEY[*WEIGHT]...")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		bound, err := r.weighedKeys(args)
		if err != nil {
			return err
		}
		institution := c.String("institution")
		if institution == "" {
			account, err := r.senderAccount()
			if err != nil {
				return err
			}
			institution = account.Institution
		}
		certificate, err := r.certificate(c.String("certificate"))
		if err != nil {
			return err
		}
		encoded, err := ledger.Marshal(&precompiles.RegisterArgs{Institution: institution, Accounts: []precompiles.NewAccount{{
			Threshold: max(1, uint32(min(c.Uint("threshold"), math.MaxUint32))), Roles: splitList(c.String("roles")), Keys: bound, Certificate: certificate,
		}}})
		if err != nil {
			return err
		}
		return r.transact(precompiles.AccountsAddress, "register", encoded, func(tx *client.Transaction, w io.Writer) {
			var made []ledger.Address
			if json.Unmarshal(tx.Receipt.Decoded, &made) == nil && len(made) == 1 {
				row(w, "account", made[0])
			}
		})
	})
}

// certifyAccount binds an account to another certificate, or to none.
func certifyAccount(c *cli.Context) error {
	args, err := arguments(c, 2, 2, "ADDRESS|NAME FILE|FINGERPRINT|none")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		address, err := r.account(args[0])
		if err != nil {
			return err
		}
		values := &precompiles.CertifyArgs{Account: address}
		if args[1] != "none" {
			if values.Certificate, err = r.certificate(args[1]); err != nil {
				return err
			}
		}
		encoded, err := ledger.Marshal(values)
		if err != nil {
			return err
		}
		return r.transact(precompiles.AccountsAddress, "certify", encoded, nil)
	})
}

// certificate returns the fingerprint of a certificate that a person named, or nil for no text.
func (r *remote) certificate(text string) (*keys.Digest, error) {
	if text == "" {
		return nil, nil
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	found, err := readCertificate(suite, text)
	return &found.fingerprint, err
}

// changeKeys sends a change of the sender's keys: the method and arguments that change returns.
func changeKeys(c *cli.Context, least, most int, want string, change func(bound []precompiles.AccountKey, threshold uint32) (string, any)) error {
	args, err := arguments(c, least, most, want)
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		bound, err := r.weighedKeys(args)
		if err != nil {
			return err
		}
		threshold := uint32(min(c.Uint("threshold"), math.MaxUint32))
		if threshold == 0 {
			account, err := r.senderAccount()
			if err != nil {
				return err
			}
			threshold = account.Threshold
		}
		method, values := change(bound, threshold)
		encoded, err := ledger.Marshal(values)
		if err != nil {
			return err
		}
		return r.transact(precompiles.AccountsAddress, method, encoded, nil)
	})
}

// senderAccount returns the account of --from as it is now.
func (r *remote) senderAccount() (*client.Account, error) {
	from := r.c.String("from")
	if from == "" {
		return nil, usage("no account to send from: give --from ADDRESS or set FONDACO_FROM")
	}
	address, err := r.account(from)
	if err != nil {
		return nil, err
	}
	return r.Account(r.ctx, address)
}

// weighedKeys reads KEY or KEY*WEIGHT.
func (r *remote) weighedKeys(texts []string) ([]precompiles.AccountKey, error) {
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	bound := make([]precompiles.AccountKey, len(texts))
	for i, text := range texts {
		weight := uint64(1)
		name, digits, ok := strings.Cut(text, "*")
		if ok {
			if weight, err = strconv.ParseUint(digits, 10, 32); err != nil || weight == 0 || weight > precompiles.MaxKeyWeight {
				return nil, usage("key %q: want a weight of 1 to %d after the *", text, precompiles.MaxKeyWeight)
			}
		}
		key, err := publicKey(r.c, suite, name)
		if err != nil {
			return nil, err
		}
		bound[i] = precompiles.AccountKey{Algorithm: key.Algorithm, Key: key.Bytes, Weight: uint32(weight)}
	}
	return bound, nil
}

func certificateText(c *client.Certificate) string {
	text := fmt.Sprintf("%s, %s", c.Fingerprint, c.Status)
	if c.Reason != "" {
		text += fmt.Sprintf(" since block %d (%s): the account sends nothing", c.Height, c.Reason)
	}
	return text
}

func accountTable(w io.Writer, a *client.Account) {
	row(w, "account", a.Address)
	row(w, "institution", a.Institution)
	row(w, "roles", strings.Join(a.Roles, ", "))
	row(w, "status", a.Status)
	row(w, "threshold", a.Threshold)
	if a.Certificate != nil {
		row(w, "certificate", certificateText(a.Certificate))
	}
	for _, k := range a.Keys {
		valid := ""
		if k.From != 0 {
			valid += ", from " + timeText(k.From)
		}
		if k.Until != 0 {
			valid += ", until " + timeText(k.Until)
		}
		row(w, "key", fmt.Sprintf("%s, weight %d%s", keyText(k.Key), k.Weight, valid))
	}
}
