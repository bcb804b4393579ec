package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/signer"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func signerCommand() *cli.Command {
	return &cli.Command{
		Name:  "signer",
		Usage: "keep a key in a process of its own",
		Subcommands: []*cli.Command{{
			Name:  "serve",
			Usage: "sign with a key file for whoever may connect to a socket, until interrupted",
			Description: "For a node: fondaco signer serve --key node.key --socket /run/fondaco/node.sock --journal /var/lib/fondaco-signer --new-journal\n" +
				"and in the node's " + ConfigFile + ": [signer] socket = '/run/fondaco/node.sock', or make the node with `fondaco init --signer`.\n" +
				"Later starts are without --new-journal: the journal has what the key signed, and without it the key could sign twice.\n\n" +
				"For an account: fondaco signer serve --key alice.key --socket alice.sock\nand then `fondaco contract call --signer alice.sock ...`.",
			Flags: []cli.Flag{
				suiteFlag(), passphraseFlag(),
				&cli.StringFlag{Name: "key", Usage: "the key `FILE`"},
				&cli.StringFlag{Name: "socket", Usage: "`PATH` of the unix socket"},
				&cli.StringFlag{Name: "journal", Usage: "`DIR` with what the key of a node signed; without it the key is an account's, and signs no votes"},
				&cli.BoolFlag{Name: "new-journal", Usage: "begin the journal if there is none: only for a key that never signed a vote"},
				&cli.BoolFlag{Name: "recover-anew", Usage: "sign a recovery in the place of one that was signed before: only if it is certain that nobody ever applies that"},
				&cli.IntFlag{Name: "user", Usage: "`UID` of the user who may connect, if it is another than the one that runs this", Value: os.Getuid()},
			},
			Action: serveSigner,
		}},
	}
}

func serveSigner(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	file, err := required(c, "key", "FILE")
	if err != nil {
		return err
	}
	socket, err := required(c, "socket", "PATH")
	if err != nil {
		return err
	}
	suite, err := keys.SuiteByName(c.String("suite"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	if c.Bool("new-journal") && c.String("journal") == "" {
		return usage("--new-journal needs --journal DIR")
	}
	if c.Int("user") < 0 {
		return usage("--user %d: want the number of a user, as `id -u NAME` prints it", c.Int("user"))
	}
	if err := signer.Harden(); err != nil {
		note(c, "WARNING: the memory of this process can be read by others: %v", err)
	}
	log, err := logger(LogSection{Format: "text"}, c.App.ErrWriter)
	if err != nil {
		return err
	}
	key, err := openKey(c, file, suite)
	if err != nil {
		return err
	}
	err = signer.Serve(c.Context, signer.Config{
		Key: key, Socket: socket, User: uint32(c.Int("user")), Journal: c.String("journal"), Begin: c.Bool("new-journal"), Anew: c.Bool("recover-anew"), Log: log,
		Ready: func() {
			log.Info().Str("key", keyText(ledger.KeyOf(key.Public()))).Str("socket", socket).Msg("signer serves")
		},
	})
	if errors.Is(err, signer.ErrNoJournal) {
		return withCode(ExitNotFound, err)
	}
	return err
}

// dialSigner takes the key of the signer at a socket.
func dialSigner(path string, suite keys.Suite) (keys.Signer, error) {
	key, err := signer.Dial(path, suite)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, withCode(ExitNotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, withCode(ExitDenied, fmt.Errorf("%w, with --user %d if it runs as another user", err, os.Getuid()))
	case err != nil:
		return nil, err
	}
	return key, nil
}

// nodeKey returns the key of the node in a folder: that of the signer which its configuration names, or of its key file.
func nodeKey(c *cli.Context, dir string, file *File, suite keys.Suite) (keys.Signer, error) {
	path := filepath.Join(dir, KeyFile)
	socket := file.Signer.Socket
	if socket == "" {
		return openKey(c, path, suite)
	}
	if _, err := os.Stat(path); err == nil {
		return nil, fmt.Errorf("%s names a signer, and %s is there too: move that to where the signer runs, so that nothing signs without its journal", filepath.Join(dir, ConfigFile), path)
	}
	if !filepath.IsAbs(socket) {
		socket = filepath.Join(dir, socket)
	}
	return dialSigner(socket, suite)
}
