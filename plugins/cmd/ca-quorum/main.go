// Package caquorum is the plugin program of the CA provider that asks others. The node's own binary runs it when it is
// executed as "fondaco plugin serve ca-quorum". It runs the providers that its settings name as programs of its own.
package caquorum

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/quorum"
	"github.com/fondaco/fondaco/state/keys"
)

// Main serves the provider until the node ends it. It returns only if the host asks for it.
func Main() {
	ca.Serve(new(program), ca.Manifest{Name: "quorum", Algorithms: []keys.Algorithm{keys.Ed25519, keys.P256, keys.SM2}})
}

// program is the provider once Configure has made it.
type program struct{ *quorum.Provider }

type settings struct {
	K        int      `toml:"k"`
	Provider []member `toml:"provider"`
}

type member struct {
	Name     string `toml:"name"`
	Shipped  string `toml:"shipped"`  // such as ca-x509; or
	Program  string `toml:"program"`  // the path of another program …
	SHA256   string `toml:"sha256"`   // … and what it must be
	Settings string `toml:"settings"` // file; empty: none
}

// answerTimeout is how long a member may take, less than what the node allows for the answer of all.
const answerTimeout = 7 * time.Second

// Configure implements ca.Configurer.
func (p *program) Configure(ctx context.Context, data []byte) error {
	var s settings
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&s); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if len(s.Provider) > quorum.MaxMembers {
		return fmt.Errorf("settings: %d providers, want at most %d", len(s.Provider), quorum.MaxMembers)
	}
	host := plugins.New(plugins.Config{Log: zerolog.New(os.Stderr), CATimeout: answerTimeout, StartTimeout: answerTimeout})
	var members []quorum.Member
	for i, m := range s.Provider {
		spec, err := m.spec()
		if err != nil {
			return errors.Join(fmt.Errorf("settings: [[provider]] %d: %w", i+1, err), host.Close())
		}
		provider, err := host.CA(ctx, spec)
		if err != nil {
			return errors.Join(fmt.Errorf("settings: [[provider]] %d: %w", i+1, err), host.Close())
		}
		members = append(members, quorum.Member{Name: m.Name, Provider: provider})
	}
	made, err := quorum.New(s.K, members)
	if err != nil {
		return errors.Join(fmt.Errorf("settings: %w", err), host.Close())
	}
	p.Provider = made // the programs end with this one
	return nil
}

func (m member) spec() (plugins.Spec, error) {
	spec := plugins.Spec{Name: m.Name, Path: m.Program}
	switch {
	case m.Name == "":
		return spec, errors.New("it has no name")
	case (m.Shipped == "") == (m.Program == ""):
		return spec, fmt.Errorf("provider %s: want either shipped, such as ca-x509, or program", m.Name)
	case m.Shipped == "ca-quorum":
		return spec, fmt.Errorf("provider %s: a quorum asks no quorum", m.Name)
	case m.Shipped != "":
		spec.Args = []string{"plugin", "serve", m.Shipped}
	default:
		sum, err := hex.DecodeString(m.SHA256)
		if err != nil || m.SHA256 != "" && len(sum) != len(spec.SHA256) {
			return spec, fmt.Errorf("provider %s: sha256 is %q, want 64 hexadecimal digits", m.Name, m.SHA256)
		}
		copy(spec.SHA256[:], sum)
	}
	if m.Settings == "" {
		return spec, nil
	}
	if !filepath.IsAbs(m.Settings) {
		return spec, fmt.Errorf("provider %s: settings is %q, want an absolute path: a plugin program works in the root folder", m.Name, m.Settings)
	}
	file, err := os.Open(m.Settings)
	if err != nil {
		return spec, err
	}
	defer file.Close()
	spec.Config, err = io.ReadAll(io.LimitReader(file, ca.MaxSettings+1))
	return spec, err
}
