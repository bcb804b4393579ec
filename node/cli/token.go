package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
)

func tokenCommand() *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag {
		return append([]cli.Flag{
			dirFlag(), outputFlag(),
			&cli.StringFlag{Name: "tokens", Usage: "`FILE` of tokens; default: what api.tokens says in the folder's " + ConfigFile},
		}, more...)
	}
	return &cli.Command{
		Name:  "token",
		Usage: "make, list and revoke tokens for the API of a node",
		Description: "A token lets a program use the API over HTTPS: it is sent as \"Authorization: Bearer TOKEN\", by the command line with --token-file. The node keeps\n" +
			"only its hash, and goes by the file as it is, without a restart. Roles: reader reads; user, deployer, registrar, committee, compliance and owner\n" +
			"send transactions as well; auditor and regulator take evidence and backups; monitor sees metrics; operator does everything.",
		Subcommands: []*cli.Command{{
			Name:      "new",
			Usage:     "make a token and print it, once and for all",
			ArgsUsage: "NAME",
			Flags: flags(
				&cli.StringSliceFlag{Name: "role", Usage: "`ROLE` of who has it; may be repeated"},
				&cli.IntFlag{Name: "days", Usage: "`DAYS` that it counts", Value: 90},
				&cli.StringFlag{Name: "out", Usage: "write it to this new `FILE`, which only its owner can read, in place of standard output"},
			),
			Action: newToken,
		}, {
			Name:   "list",
			Usage:  "list the tokens",
			Flags:  flags(),
			Action: listTokens,
		}, {
			Name:      "revoke",
			Usage:     "end a token; the node refuses it at once",
			ArgsUsage: "NAME",
			Flags:     flags(),
			Action:    revokeToken,
		}},
	}
}

// tokensPath returns the path of the file of tokens that a command is about.
func tokensPath(c *cli.Context) (string, error) {
	if path := c.String("tokens"); path != "" {
		return path, nil
	}
	dir := c.String("dir")
	file, err := ReadConfig(dir)
	if err != nil {
		return "", err
	}
	if file.API.Tokens == "" {
		return "", usage("the node in %s takes no tokens: set tokens = 'tokens' under [api] of its %s, or name a file with --tokens", dir, ConfigFile)
	}
	if file.API.Cert == "" {
		note(c, "The API of this node has no TLS, so it asks for no tokens: set cert and key under [api] of its %s.", ConfigFile)
	}
	return within(dir, file.API.Tokens), nil
}

// changeTokens replaces a file of tokens by what edit makes of it. No other command does so meanwhile.
func changeTokens(path string, edit func([]login.Token) ([]login.Token, error)) error {
	lock, err := state.OS().Lock(path + ".lock")
	if errors.Is(err, state.ErrLocked) {
		return fmt.Errorf("another command is changing %s: try again", path)
	}
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // the process ends
	all, err := login.ReadTokens(path)
	if err != nil {
		return err
	}
	if all, err = edit(all); err != nil {
		return err
	}
	return login.WriteTokens(path, all)
}

func newToken(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "NAME")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	days := c.Int("days")
	if days < 1 || days > 3650 {
		return usage("--days %d: want 1 to 3650", days)
	}
	var roles []identity.Role
	for _, r := range c.StringSlice("role") {
		roles = append(roles, identity.Role(r))
	}
	path, err := tokensPath(c)
	if err != nil {
		return err
	}
	text, token, err := login.NewToken(args[0], roles, time.Now().AddDate(0, 0, days))
	if err != nil {
		return withCode(ExitUsage, fmt.Errorf("%w; see `fondaco token --help`", err))
	}
	var out *os.File
	if name := c.String("out"); name != "" { // before the token counts
		out, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s exists: name another file", name)
		}
		if err != nil {
			return err
		}
		_, err = io.WriteString(out, text+"\n")
		if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
			return err
		}
	}
	err = changeTokens(path, func(all []login.Token) ([]login.Token, error) {
		if slices.ContainsFunc(all, func(t login.Token) bool { return t.Name == token.Name }) {
			return nil, fmt.Errorf("there is a token %s: revoke it first, or choose another name", token.Name)
		}
		return append(all, token), nil
	})
	if err != nil {
		if out != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
		return err
	}
	note(c, "The token %s counts until %s. The node keeps no copy of it.", token.Name, token.Expires.Format(time.RFC3339))
	if out != nil {
		return nil
	}
	return show(c, map[string]any{"name": token.Name, "roles": token.Roles, "expires": token.Expires, "token": text}, func(w io.Writer) { row(w, text) })
}

func listTokens(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	path, err := tokensPath(c)
	if err != nil {
		return err
	}
	all, err := login.ReadTokens(path)
	if err != nil {
		return err
	}
	type listed struct {
		Name    string          `json:"name"`
		Roles   []identity.Role `json:"roles"`
		Expires time.Time       `json:"expires"`
		Expired bool            `json:"expired"`
	}
	docs := []listed{}
	for _, t := range all {
		docs = append(docs, listed{t.Name, t.Roles, t.Expires, !time.Now().Before(t.Expires)})
	}
	return show(c, docs, func(w io.Writer) {
		row(w, "NAME", "ROLES", "UNTIL", "STATUS")
		for _, t := range docs {
			var roles []string
			for _, r := range t.Roles {
				roles = append(roles, string(r))
			}
			row(w, t.Name, strings.Join(roles, ","), timeText(t.Expires.UnixMilli()), map[bool]string{true: "expired", false: "active"}[t.Expired])
		}
	})
}

func revokeToken(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "NAME")
	if err != nil {
		return err
	}
	path, err := tokensPath(c)
	if err != nil {
		return err
	}
	return changeTokens(path, func(all []login.Token) ([]login.Token, error) {
		at := slices.IndexFunc(all, func(t login.Token) bool { return t.Name == args[0] })
		if at < 0 {
			return nil, withCode(ExitNotFound, fmt.Errorf("there is no token %s: `fondaco token list` lists them", args[0]))
		}
		return slices.Delete(all, at, at+1), nil
	})
}
