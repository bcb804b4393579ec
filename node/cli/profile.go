package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v2"
)

// Profile is what commands need to speak to a node in the name of one account. Empty fields say nothing. Paths in a file are relative to
// its folder.
type Profile struct {
	API        string `toml:"api,omitempty" comment:"URL of a node's API"`
	From       string `toml:"from,omitempty" comment:"account that sends: its address, or its name in the genesis"`
	Key        string `toml:"key,omitempty" comment:"key file that signs, or"`
	Signer     string `toml:"signer,omitempty" comment:"socket of a signer"`
	CA         string `toml:"ca,omitempty" comment:"authorities that vouch for the node's HTTPS certificate"`
	ClientCert string `toml:"client_cert,omitempty" comment:"client certificate to show to the node"`
	ClientKey  string `toml:"client_key,omitempty"`
	TokenFile  string `toml:"token_file,omitempty" comment:"token to show to the node"`
	Genesis    string `toml:"genesis,omitempty" comment:"genesis that proofs are checked against"`
}

// maxProfile bounds the file of a profile, in bytes.
const maxProfile = 64 << 10

// WriteProfile writes a profile for --profile.
func WriteProfile(path string, p *Profile) error {
	text, err := toml.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func profileFlag() cli.Flag {
	return &cli.StringFlag{Name: "profile", Usage: "`NAME` or file of a profile: which node to speak to, and in whose name", EnvVars: []string{"FONDACO_PROFILE"}}
}

// useProfile puts a profile where commands look for what no flag says: into the variables that are not set.
func useProfile(c *cli.Context) error {
	name := c.String("profile")
	if name == "" {
		return nil
	}
	path, err := profilePath(name)
	if err != nil {
		return err
	}
	p, err := readProfile(path)
	if err != nil {
		return err
	}
	file := func(name string) string {
		if name == "" {
			return ""
		}
		return within(filepath.Dir(path), name)
	}
	for _, v := range []struct{ name, value string }{
		{"FONDACO_API", p.API},
		{"FONDACO_FROM", p.From},
		{"FONDACO_KEY", file(p.Key)},
		{"FONDACO_SIGNER", file(p.Signer)},
		{"FONDACO_CA", file(p.CA)},
		{"FONDACO_CLIENT_CERT", file(p.ClientCert)},
		{"FONDACO_CLIENT_KEY", file(p.ClientKey)},
		{"FONDACO_TOKEN_FILE", file(p.TokenFile)},
		{"FONDACO_GENESIS", file(p.Genesis)},
	} {
		if _, set := os.LookupEnv(v.name); set || v.value == "" {
			continue
		}
		if err := os.Setenv(v.name, v.value); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// profilePath returns the file of a profile: what looks like a path is one, a name is one of the user's own.
func profilePath(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) || strings.HasSuffix(name, ".toml") {
		return name, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", usage("--profile %s: %w; name the file instead", name, err)
	}
	return filepath.Join(dir, "fondaco", name+".toml"), nil
}

func readProfile(path string) (*Profile, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, withCode(ExitNotFound, fmt.Errorf("there is no profile %s: write it, or name another with --profile; `fondaco --help` says what it may have", path))
	case err != nil:
		return nil, err
	case info.Size() > maxProfile || !info.Mode().IsRegular():
		return nil, usage("%s is no profile: want a text file of at most %d bytes", path, maxProfile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p Profile
	if err := decodeTOML(path, text, &p); err != nil {
		return nil, withCode(ExitUsage, err)
	}
	if p.Key != "" && p.Signer != "" {
		return nil, usage("%s has both key and signer: leave one", path)
	}
	return &p, nil
}
