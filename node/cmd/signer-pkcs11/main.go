//go:build cgo

package main

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/fondaco/fondaco/node/signer"
	"github.com/fondaco/fondaco/state/keys"
)

const usageText = `signer-pkcs11 signs with a key that is in a PKCS#11 token.

  signer-pkcs11 new     --module FILE --token LABEL --key LABEL [--algorithm p256|ed25519]
  signer-pkcs11 show    --module FILE --token LABEL --key LABEL
  signer-pkcs11 request --module FILE --token LABEL --key LABEL
  signer-pkcs11 serve   --module FILE --token LABEL --key LABEL --socket PATH [--journal DIR [--new-journal]] [--user UID]

new makes a key that never leaves the token, show prints its public half, request prints a request for a certificate for it, as fondaco ca request
does for a key file, and serve is as fondaco signer serve.
The PIN is asked at the terminal, or read with --pin-fd 3 3<FILE.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake in how the program was called.
type usageError struct{ error }

// run returns the exit code: 0 done, 1 it did not work, 2 wrong usage.
func run(ctx context.Context, args []string, out, diagnostics io.Writer) int {
	err := command(ctx, args, out, diagnostics)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintf(diagnostics, "signer-pkcs11: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

func command(ctx context.Context, args []string, out, diagnostics io.Writer) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("signer-pkcs11 "+verb, flag.ContinueOnError)
	flags.SetOutput(diagnostics)
	flags.Usage = func() {
		fmt.Fprint(diagnostics, usageText)
		flags.PrintDefaults()
	}
	module := flags.String("module", "", "the `FILE` of the module, such as /usr/lib/softhsm/libsofthsm2.so")
	token := flags.String("token", "", "the token's `LABEL`")
	label := flags.String("key", "", "the key's `LABEL` in the token")
	pinFD := flags.Int("pin-fd", -1, "read the PIN from this file descriptor")
	var algorithm string
	var config signer.Config
	user := os.Getuid()
	switch verb {
	case "new":
		flags.StringVar(&algorithm, "algorithm", "p256", "p256, for accounts on suite std, or ed25519, for accounts and nodes, which vote with nothing else")
	case "show", "request":
	case "serve":
		flags.StringVar(&config.Socket, "socket", "", "`PATH` of the unix socket")
		flags.StringVar(&config.Journal, "journal", "", "`DIR` with what the key of a node signed; without it the key is an account's, and signs no votes")
		flags.BoolVar(&config.Begin, "new-journal", false, "begin the journal if there is none: only for a key that never signed a vote")
		flags.BoolVar(&config.Anew, "recover-anew", false, "sign a recovery in the place of one that was signed before: only if it is certain that nobody ever applies that")
		flags.IntVar(&user, "user", user, "`UID` of the user who may connect")
	default:
		return usageError{errors.New("want new, show, request or serve: see `signer-pkcs11 show --help`")}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err}
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("%q is too much: `signer-pkcs11 %s` takes flags alone", flags.Arg(0), verb)}
	case *module == "" || *token == "" || *label == "":
		return usageError{errors.New("needs --module FILE, --token LABEL and --key LABEL")}
	case verb == "serve" && config.Socket == "":
		return usageError{errors.New("serve needs --socket PATH")}
	case config.Begin && config.Journal == "":
		return usageError{errors.New("--new-journal needs --journal DIR")}
	case user < 0:
		return usageError{fmt.Errorf("--user %d: want the number of a user, as `id -u NAME` prints it", user)}
	}
	if err := signer.Harden(); err != nil {
		fmt.Fprintf(diagnostics, "WARNING: the memory of this process can be read by others: %v\n", err)
	}
	pin, err := readPIN(*pinFD, diagnostics)
	if err != nil {
		return err
	}
	device, err := openDevice(*module, *token, pin)
	if err != nil {
		return err
	}
	err = device.command(ctx, verb, *label, algorithm, config, uint32(user), out, diagnostics)
	return errors.Join(err, device.Close())
}

func (d *device) command(ctx context.Context, verb, label, algorithm string, config signer.Config, user uint32, out, diagnostics io.Writer) error {
	if verb == "new" {
		a, err := keys.ParseAlgorithm(algorithm)
		if err != nil {
			return usageError{err}
		}
		if err := d.generate(label, a); err != nil {
			return err
		}
	}
	key, err := d.key(label)
	if err != nil {
		return err
	}
	if verb == "request" {
		der, err := key.request()
		if err != nil {
			return err
		}
		return pem.Encode(out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	text := key.public.Algorithm().String() + ":0x" + hex.EncodeToString(key.public.Bytes())
	if verb != "serve" {
		_, err := fmt.Fprintln(out, text)
		return err
	}
	log := zerolog.New(zerolog.ConsoleWriter{Out: diagnostics, NoColor: true}).With().Timestamp().Logger()
	d.log = log
	config.Key, config.User, config.Log = key, user, log
	config.Ready = func() { log.Info().Str("key", text).Str("socket", config.Socket).Msg("signer serves") }
	return signer.Serve(ctx, config)
}

// readPIN takes the PIN from a file descriptor or from the terminal, never from a flag or the environment, where others can see it.
func readPIN(fd int, diagnostics io.Writer) (string, error) {
	if fd >= 0 {
		file := os.NewFile(uintptr(fd), "PIN")
		if file == nil {
			return "", usageError{fmt.Errorf("--pin-fd %d: want the number of an open file descriptor, such as 3 with 3<FILE", fd)}
		}
		text, err := io.ReadAll(io.LimitReader(file, 1<<10))
		defer clear(text)
		if err != nil {
			return "", usageError{fmt.Errorf("--pin-fd %d: %w: open it with %d<FILE", fd, err, fd)}
		}
		return strings.TrimRight(string(text), "\r\n"), file.Close()
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", errors.New("the token's PIN is needed, at a terminal or with --pin-fd 3 3<FILE")
	}
	fmt.Fprint(diagnostics, "PIN: ")
	text, err := term.ReadPassword(int(os.Stdin.Fd()))
	defer clear(text)
	fmt.Fprintln(diagnostics)
	return string(text), err
}
