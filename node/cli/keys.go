package cli

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/ledger"
)

func suiteFlag() cli.Flag {
	return &cli.StringFlag{Name: "suite", Usage: "cryptographic `SUITE` of the chain: std or gm", Value: "std", EnvVars: []string{"FONDACO_SUITE"}}
}

// checkSuite refuses a --suite that is not the one that something has already.
func checkSuite(c *cli.Context, has keys.Suite) error {
	if name := c.String("suite"); c.IsSet("suite") && name != has.Name() {
		return usage("--suite %s: what is there has the suite %s; leave --suite and FONDACO_SUITE out", name, has.Name())
	}
	return nil
}

func passphraseFlag() cli.Flag {
	return &cli.IntFlag{Name: "passphrase-fd", Usage: "read the passphrase of the key file from this file descriptor", Value: -1}
}

// lockFlags are those of commands that make a key file.
func lockFlags() []cli.Flag {
	return []cli.Flag{
		passphraseFlag(),
		&cli.BoolFlag{Name: "passphrase", Usage: "lock the key file with a passphrase, asked at the terminal or read from --passphrase-fd; at a terminal this is the default"},
		&cli.BoolFlag{Name: "unlocked", Usage: "leave the key file without a passphrase, and do not ask for one"},
	}
}

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:  "keys",
		Usage: "make and show key files",
		Subcommands: []*cli.Command{{
			Name:      "new",
			Usage:     "make a key in a new file and print its public half",
			ArgsUsage: "FILE",
			Flags: append(lockFlags(), suiteFlag(), outputFlag(),
				&cli.StringFlag{Name: "algorithm", Usage: "ed25519, p256 or sm2; default: the suite's own"}),
			Action: newKey,
		}, {
			Name:      "show",
			Usage:     "print the public half of a key file, or of the key of the signer at a socket",
			ArgsUsage: "FILE|SOCKET",
			Flags:     []cli.Flag{suiteFlag(), outputFlag(), passphraseFlag()},
			Action: func(c *cli.Context) error {
				args, err := arguments(c, 1, 1, "FILE")
				if err != nil {
					return err
				}
				suite, err := keys.SuiteByName(c.String("suite"))
				if err != nil {
					return withCode(ExitUsage, err)
				}
				key, err := openKey(c, args[0], suite)
				if err != nil {
					return err
				}
				return showKey(c, args[0], ledger.KeyOf(key.Public()))
			},
		}, {
			Name:      "open-envelope",
			Usage:     "open the key for encryption of a pair of certificates (suite gm), into a new file",
			ArgsUsage: "FILE",
			Description: "FILE is what `fondaco ca issue` or `fondaco ca fetch` wrote: the certificates of a pair, and the second one's key in an envelope, which the first\n" +
				"one's key opens. That must be a key file: a signer does not open envelopes. Nothing of fondaco uses the second key: it is for what others encrypt to its holder.\n" +
				"--passphrase-fd opens --key and locks --out with one passphrase.",
			Flags: append(lockFlags(), outputFlag(),
				&cli.StringFlag{Name: "key", Usage: "the key `FILE` of the certificate for signing"},
				&cli.StringFlag{Name: "out", Usage: "the key `FILE` to make"},
				&cli.BoolFlag{Name: "pkcs8", Usage: "make it as other software reads it (PKCS #8 in PEM); fondaco does not"}),
			Action: openEnvelope,
		}},
	}
}

func newKey(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FILE")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	suite, err := keys.SuiteByName(c.String("suite"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	algorithm := suite.Vote()
	if name := c.String("algorithm"); name != "" {
		if algorithm, err = keys.ParseAlgorithm(name); err != nil {
			return withCode(ExitUsage, err)
		}
	}
	key, err := suite.Generate(algorithm, rand.Reader)
	if err != nil {
		return withCode(ExitUsage, err)
	}
	if err := writeNewKey(c, args[0], key, passphrase(c)); err != nil {
		return err
	}
	return showKey(c, args[0], ledger.KeyOf(key.Public()))
}

func openEnvelope(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FILE")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	signing, err := required(c, "key", "FILE")
	if err != nil {
		return err
	}
	out, err := required(c, "out", "FILE")
	if err != nil {
		return err
	}
	issued, err := readText(args[0], x509ca.MaxPair)
	if err != nil {
		return err
	}
	ask := passphrase(c)
	if c.IsSet("passphrase-fd") { // which is read once
		ask = sync.OnceValues(ask)
	}
	holder, err := openKeyWith(signing, keys.GM(), ask)
	if err != nil {
		return err
	}
	if _, remote := holder.(keys.MessageSigner); remote {
		return withCode(ExitDenied, fmt.Errorf("%s is the socket of a signer, which does not open envelopes: open it where the key file is", signing))
	}
	key, err := x509ca.OpenPair(holder, issued)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if c.Bool("pkcs8") {
		err = writePKCS8(c, out, key, ask)
	} else {
		err = writeNewKey(c, out, key, ask)
	}
	if err != nil {
		return err
	}
	return showKey(c, out, ledger.KeyOf(key.Public()))
}

// writePKCS8 is writeNewKey for other software.
func writePKCS8(c *cli.Context, file string, key keys.Signer, ask func() (string, error)) error {
	text, err := newLock(c, ask)
	if err != nil {
		return err
	}
	data, err := x509ca.PKCS8(key, text)
	if err != nil {
		return err
	}
	defer clear(data)
	if err := keyfile.WriteFile(file, data); err != nil {
		return err
	}
	warnUnlocked(c, file, text)
	return nil
}

// writeNewKey writes a key file, locked unless the flags say otherwise or there is nobody to ask for a passphrase; then it says so.
func writeNewKey(c *cli.Context, file string, key keys.Signer, ask func() (string, error)) error {
	text, err := newLock(c, ask)
	if err != nil {
		return err
	}
	if err := keyfile.Write(file, key, text); err != nil {
		return err
	}
	warnUnlocked(c, file, text)
	return nil
}

// newLock returns the passphrase for a new key file, or nothing where the flags say so or there is nobody to ask for one.
func newLock(c *cli.Context, ask func() (string, error)) (string, error) {
	asked := c.Bool("passphrase") || c.IsSet("passphrase-fd")
	if asked && c.Bool("unlocked") {
		return "", usage("--unlocked leaves the key file without a passphrase: give it, or --passphrase and --passphrase-fd")
	}
	if !asked && (c.Bool("unlocked") || !term.IsTerminal(int(os.Stdin.Fd()))) {
		return "", nil
	}
	return newPassphrase(c, ask)
}

func warnUnlocked(c *cli.Context, file, passphrase string) {
	if passphrase == "" {
		note(c, "WARNING: %s is not locked. Whoever reads it, or a backup of it, can sign with this key. A passphrase locks it: --passphrase, or --passphrase-fd 3 3<FILE.", file)
	}
}

// newPassphrase asks for a passphrase that is being set: twice, because nobody can see it.
func newPassphrase(c *cli.Context, ask func() (string, error)) (string, error) {
	if !c.IsSet("passphrase-fd") && term.IsTerminal(int(os.Stdin.Fd())) {
		note(c, "Choose a passphrase for the key file; --unlocked leaves it without one.")
	}
	text, err := ask()
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", errors.New("the passphrase is empty: give one, or say --unlocked")
	}
	if !c.IsSet("passphrase-fd") && term.IsTerminal(int(os.Stdin.Fd())) {
		note(c, "The same again, please.")
		again, err := ask()
		if err != nil {
			return "", err
		}
		if again != text {
			return "", errors.New("the two passphrases differ: try again")
		}
	}
	return text, nil
}

func showKey(c *cli.Context, file string, key ledger.Key) error {
	if err := checkOutput(c); err != nil {
		return err
	}
	return show(c, key, func(w io.Writer) {
		row(w, "file", file)
		row(w, "key", keyText(key))
	})
}

// keyText is how a person passes a public key on: the algorithm, a colon and the key in hexadecimal.
func keyText(k ledger.Key) string { return k.Algorithm.String() + ":0x" + hex.EncodeToString(k.Bytes) }

// parseKey reads what keyText writes.
func parseKey(suite keys.Suite, text string) (ledger.Key, error) {
	name, digits, _ := strings.Cut(text, ":")
	algorithm, err := keys.ParseAlgorithm(name)
	if err != nil {
		return ledger.Key{}, err
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(digits, "0x"))
	if err != nil {
		return ledger.Key{}, fmt.Errorf("key %q: want %s: and hexadecimal digits, as `fondaco keys show` prints", text, name)
	}
	key, err := suite.ParsePublic(algorithm, raw)
	if err != nil {
		return ledger.Key{}, fmt.Errorf("key %q: %w", text, err)
	}
	return ledger.KeyOf(key), nil
}

// publicKey reads a public key as text, or takes it from a key file.
func publicKey(c *cli.Context, suite keys.Suite, text string) (ledger.Key, error) {
	if name, _, ok := strings.Cut(text, ":"); ok {
		if _, err := keys.ParseAlgorithm(name); err == nil {
			return parseKey(suite, text)
		}
	}
	key, err := openKey(c, text, suite)
	if err != nil {
		return ledger.Key{}, fmt.Errorf("%w; a key is the path of a key file, or what `fondaco keys show` prints, such as ed25519:0x…", err)
	}
	return ledger.KeyOf(key.Public()), nil
}

// openKey reads a key file, or takes the key of the signer that serves at path if that is a socket. What is wrong with the file or
// its passphrase denies the use of the key.
func openKey(c *cli.Context, path string, suite keys.Suite) (keys.Signer, error) {
	return openKeyWith(path, suite, passphrase(c))
}

func openKeyWith(path string, suite keys.Suite, ask func() (string, error)) (keys.Signer, error) {
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		return dialSigner(path, suite)
	}
	key, err := keyfile.Read(path, suite, ask)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, withCode(ExitNotFound, fmt.Errorf("there is no key file %s: make one with `fondaco keys new %s`", path, path))
	case errors.Is(err, keyfile.ErrPassphrase):
		return nil, withCode(ExitDenied, err)
	case errors.Is(err, keys.ErrAlgorithm):
		return nil, fmt.Errorf("%w: the key is for chains of another suite; take one for this chain, or, where there is --suite, name the key's", err)
	}
	return key, err
}

// passphrase returns how to come by the passphrase of a key file: from a file descriptor, or from the terminal.
// It is never taken from a flag or the environment, where others can see it.
func passphrase(c *cli.Context) func() (string, error) {
	return func() (string, error) {
		if c.IsSet("passphrase-fd") {
			fd := c.Int("passphrase-fd")
			file := os.NewFile(uintptr(fd), "passphrase")
			if file == nil {
				return "", usage("--passphrase-fd %d: want the number of an open file descriptor, such as 3 with 3<FILE", fd)
			}
			text, err := io.ReadAll(io.LimitReader(file, 4<<10))
			defer clear(text)
			if err != nil {
				return "", usage("--passphrase-fd %d: %w: open it with %d<FILE", fd, err, fd)
			}
			return strings.TrimRight(string(text), "\r\n"), errors.Join(err, file.Close())
		}
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return "", keyfile.ErrPassphrase
		}
		fmt.Fprint(c.App.ErrWriter, "Passphrase: ")
		text, err := term.ReadPassword(int(os.Stdin.Fd()))
		defer clear(text)
		fmt.Fprintln(c.App.ErrWriter)
		return string(text), err
	}
}
