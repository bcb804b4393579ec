// Package cli is the command line of a node: `fondaco`. It reads configuration (flags, environment, file, in that
// order of precedence) and nothing else in the tree does.
//
// Commands are nouns, then verbs; flags may stand before and after arguments. Data goes to standard output, in a
// form for people or with -o json for programs; logs and progress go to standard error. Exit codes: 0 done, 1 it
// did not work, 2 wrong usage, 3 not found, 4 denied, 5 too late, 6 verification did not hold. An error ends with
// the next step to take. The package is public by path but promised nothing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node"
)

// Exit codes.
const (
	ExitError    = 1
	ExitUsage    = 2
	ExitNotFound = 3
	ExitDenied   = 4
	ExitTimeout  = 5
	ExitInvalid  = 6
)

// Plugins is the table of the plugin programs that the binary contains: `fondaco plugin serve NAME`.
type Plugins map[string]func()

// exitError is an error with the exit code that tells its kind.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// withCode marks err with an exit code. A nil error stays nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

func usage(format string, args ...any) error { return withCode(ExitUsage, fmt.Errorf(format, args...)) }

// Main runs the command line with args, the program's name included, and returns the exit code.
func Main(args []string, plugins Plugins) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, args, plugins, os.Stdin, os.Stdout, os.Stderr)
}

// Run is Main with everything passed in.
func Run(ctx context.Context, args []string, plugins Plugins, in io.Reader, out, diagnostics io.Writer) int {
	app := newApp(plugins)
	app.Reader, app.Writer, app.ErrWriter = in, out, diagnostics
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err == nil {
		return 0
	}
	fmt.Fprintln(diagnostics, "fondaco: "+plain(err.Error(), prose))
	if coded, ok := errors.AsType[*exitError](err); ok {
		return coded.code
	}
	return ExitError
}

func newApp(plugins Plugins) *cli.App {
	app := &cli.App{
		Name:    "fondaco",
		Usage:   "a consortium blockchain whose contracts are WebAssembly",
		Version: node.Version,
		Description: "Commands that speak to a node find it by --api, the configuration file of the node's folder (-d), FONDACO_API, or that of the folder they run in, " +
			"in this order, and take the account from --from or FONDACO_FROM, and its key from --key or FONDACO_KEY, or --signer or FONDACO_SIGNER.\n\n" +
			"A node with HTTPS asks who its clients are: --token-file or FONDACO_TOKEN_FILE, or --client-cert and --client-key or FONDACO_CLIENT_CERT and\n" +
			"FONDACO_CLIENT_KEY; --ca or FONDACO_CA names who vouches for the node. With -d the folder's own secret and certificate do.\n\n" +
			"A profile is a file that has all this for one account: with `fondaco --profile regulator motion list` or FONDACO_PROFILE=regulator, that is\n" +
			"fondaco/regulator.toml in the user's configuration folder, and --profile ./x.toml is that file. It may have the keys api, from, key, signer, ca,\n" +
			"client_cert, client_key, token_file and genesis; flags and variables go before it.\n\n" +
			"Exit codes: 0 done, 1 it did not work, 2 wrong usage, 3 not found, 4 denied, 5 too late, 6 verification did not hold.",
		HideHelpCommand:           true,
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // Run prints errors and chooses the code
		Flags:                     []cli.Flag{profileFlag()},
		Before:                    useProfile,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q: `fondaco --help` lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			initCommand(), genesisCommand(), joinRequestCommand(), invitationCommand(), runCommand(), statusCommand(), doctorCommand(), keysCommand(), signerCommand(), accountCommand(), freezeCommand(), correctionCommand(), contractCommand(),
			caCommand(plugins),
			nameCommand(), txCommand(), blockCommand(), configCommand(), memberCommand(), motionCommand(), authorityCommand(), certificateCommand(), recoverCommand(), evidenceCommand(), auditCommand(), proofCommand(), verifyCommand(), exportCommand(), importCommand(), backupCommand(), pruneCommand(), tokenCommand(), pluginCommand(plugins), completionCommand(),
		},
	}
	app.OnUsageError = wrongUsage
	prepare(app.Commands, "fondaco")
	return app
}

// prepare gives all commands what they have in common.
func prepare(commands []*cli.Command, parent string) {
	for _, c := range commands {
		name := parent + " " + c.Name
		c.OnUsageError = wrongUsage
		c.HideHelpCommand = true
		if len(c.Subcommands) > 0 {
			prepare(c.Subcommands, name)
		}
		if c.Action == nil {
			c.Action = func(c *cli.Context) error {
				if c.Args().Present() {
					return usage("there is no command `%s %s`: `%s --help` lists what there is", name, c.Args().First(), name)
				}
				return usage("`%s` needs a verb: `%s --help` lists what there is", name, name)
			}
		}
	}
}

func wrongUsage(c *cli.Context, err error, _ bool) error {
	name := "fondaco"
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	return usage("%w: see `%s --help`", err, strings.TrimSpace(name))
}

// arguments returns a command's arguments, of which there must be at least least and, unless most is negative, at
// most most. want names them.
func arguments(c *cli.Context, least, most int, want string) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < least || most >= 0 && len(args) > most {
		if most == 0 {
			return nil, usage("`%s` takes no arguments, and got %q", c.Command.HelpName, args[0])
		}
		return nil, usage("got %d arguments, want: %s %s", len(args), c.Command.HelpName, want)
	}
	return args, nil
}

// required returns the value of a flag that the command cannot do without. The flag parser's own check prints the whole
// help and does not tell wrong usage from other errors.
func required(c *cli.Context, name, want string) (string, error) {
	value := c.String(name)
	if value == "" || !c.IsSet(name) { // a list is never empty text
		return "", usage("`%s` needs --%s %s", c.Command.HelpName, name, want)
	}
	return value, nil
}

// readTime sets at, Unix ms, to the time that a flag has, if it is set.
func readTime(c *cli.Context, flag string, at *int64) error {
	text := c.String(flag)
	if text == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return usage("--%s %q: want a time such as 2026-01-02T15:04:05Z", flag, text)
	}
	*at = t.UnixMilli()
	return nil
}

// flagsFirst moves the flags of a command line before its arguments, so that they may be typed in any order: the
// flag parser stops at the first argument. What follows "--", and numbers below zero, are arguments.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 || args[len(args)-1] == "--generate-bash-completion" {
		return args
	}
	out, rest := []string{args[0]}, args[1:]
	commands, flags := app.Commands, app.Flags
	var moved, kept []string
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		switch {
		case word == "--":
			kept = append(kept, rest...)
			rest = nil
		case isFlag(word):
			moved = append(moved, word)
			if takesValue(flags, word) && len(rest) > 0 {
				moved = append(moved, rest[0])
				rest = rest[1:]
			}
		case len(kept) == 0 && len(commands) > 0 && find(commands, word) != nil:
			c := find(commands, word)
			out = append(append(out, moved...), word)
			commands, flags, moved = c.Subcommands, c.Flags, nil
		default:
			kept = append(kept, word)
		}
	}
	out = append(out, moved...)
	if len(kept) > 0 {
		out = append(append(out, "--"), kept...)
	}
	return out
}

func isFlag(word string) bool {
	return len(word) > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9')
}

func takesValue(flags []cli.Flag, word string) bool {
	if strings.Contains(word, "=") {
		return false
	}
	name := strings.TrimLeft(word, "-")
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return false
	}
	_, isBool := flags[i].(*cli.BoolFlag)
	return !isBool
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
