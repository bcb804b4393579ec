// Package cli is the command line of a node: `fondaco`. It reads configuration (flags, environment, file, in that
// order of precedence) and nothing else in the tree does.
//
// Commands are nouns, then verbs. Data goes to standard output, in a form for people or with -o json for
// programs; logs and progress go to standard error. Exit codes: 0 done, 1 it did not work, 2 wrong usage,
// 3 not found, 4 denied, 5 too late, 6 verification did not hold. The package is public by path but promised
// nothing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
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
	err := app.RunContext(ctx, args)
	if err == nil {
		return 0
	}
	fmt.Fprintf(diagnostics, "fondaco: %v\n", err)
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	return ExitError
}

func newApp(plugins Plugins) *cli.App {
	return &cli.App{
		Name:                 "fondaco",
		Usage:                "a consortium blockchain whose contracts are WebAssembly",
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		ExitErrHandler:       func(*cli.Context, error) {}, // Run prints errors and chooses the code
		OnUsageError:         func(_ *cli.Context, err error, _ bool) error { return withCode(ExitUsage, err) },
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q: `fondaco --help` lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{runCommand(), pluginCommand(plugins)},
	}
}
