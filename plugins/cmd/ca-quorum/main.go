// Package caquorum is the plugin program of the CA provider that asks others. The node's own binary runs it when it is
// executed as "fondaco plugin serve ca-quorum". It runs the providers that its settings name as programs of its own.
package caquorum

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	K        int       `toml:"k"`
	Provider []section `toml:"provider"`
}

// section is what the settings say of a member.
type section struct {
	Name     string `toml:"name"`
	Shipped  string `toml:"shipped"`  // such as ca-x509; or
	Program  string `toml:"program"`  // the path of another program …
	SHA256   string `toml:"sha256"`   // … and what it must be
	Settings string `toml:"settings"` // file; empty: none
}

const (
	// startTimeout is how long Configure waits for k of the programs, less than what the node allows for it.
	startTimeout = 7 * time.Second
	// laggards is how long it waits for the others when k run.
	laggards = time.Second
	// minPause is between the first two attempts to start a program that has never run; it doubles up to maxPause.
	minPause, maxPause = 100 * time.Millisecond, 5 * time.Second
)

// Configure implements ca.Configurer. It returns soon after k of the programs run; the others are started behind. Fewer than k
// could vouch for nobody, so it fails then, and the node starts this program again.
func (p *program) Configure(ctx context.Context, data []byte) error {
	var s settings
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&s); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	log := zerolog.New(os.Stderr)
	config := quorum.Config{K: s.K}
	var members []*member
	for i, section := range s.Provider {
		if err := section.check(); err != nil {
			return fmt.Errorf("settings: [[provider]] %d: %w", i+1, err)
		}
		m := &member{section: section, log: log.With().Str("provider", section.Name).Logger(), why: errors.New("it is being started"), slots: make(chan struct{}, ca.MaxCalls)}
		members = append(members, m)
		config.Members = append(config.Members, quorum.Member{Name: section.Name, Provider: m})
	}
	made, err := quorum.New(config)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	host := plugins.New(plugins.Config{Log: log, Near: os.Getenv(plugins.CopiesVariable), CATimeout: quorum.DefaultLimit, StartTimeout: startTimeout})
	tried := make(chan error, len(members)) // how the first attempt of each ended
	for _, m := range members {
		go m.start(host, tried)
	}
	up := 0
	patience := time.NewTimer(startTimeout)
	defer patience.Stop()
	for left := len(members); left > 0; left-- {
		select {
		case err := <-tried:
			if err != nil {
				continue
			}
			if up++; up == s.K {
				patience.Reset(laggards)
			}
		case <-patience.C:
			left = 0
		case <-ctx.Done():
			left = 0
		}
	}
	if up >= s.K {
		p.Provider = made // the programs end with this one
		return nil
	}
	var reasons []string
	for _, m := range members {
		if _, err := m.running(); err != nil {
			reasons = append(reasons, err.Error())
		}
	}
	return errors.Join(fmt.Errorf("%d of %d providers run, and %d must vouch: %s", up, len(members), s.K, strings.Join(reasons, "; ")), host.Close())
}

// member is a provider whose program is started behind, again and again until it runs once; from then on the host keeps it
// running. It logs when the provider stops answering and when it answers again, since as long as k others do nobody else would notice.
type member struct {
	section
	log   zerolog.Logger
	slots chan struct{} // holds one for each question that the provider has to answer

	mu       sync.Mutex // guards what follows
	provider ca.Provider
	why      error // provider is nil
	silent   bool
}

var _ quorum.Asked = (*member)(nil)

// start returns when the program runs or the host is closed. tried gets the outcome of the first attempt.
func (m *member) start(host *plugins.Host, tried chan<- error) {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := m.attempt(host)
		if tried != nil {
			tried <- err
			tried = nil
		}
		if err == nil || errors.Is(err, plugins.ErrClosed) {
			return
		}
		m.log.Warn().Err(err).Dur("pause", pause).Msg("provider did not start")
		time.Sleep(pause)
	}
}

func (m *member) attempt(host *plugins.Host) error {
	spec, err := m.spec()
	var provider ca.Provider
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		provider, err = host.CA(ctx, spec)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why = err; err == nil {
		m.provider = provider
	}
	return err
}

func (m *member) running() (ca.Provider, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.provider == nil {
		return nil, &ca.DownError{Plugin: m.Name, Reason: m.why.Error()}
	}
	return m.provider, nil
}

// Verify implements quorum.Asked.
func (m *member) Verify(ctx context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	return call(ctx, m, r, ca.Provider.Verify)
}

// Revoked implements quorum.Asked.
func (m *member) Revoked(ctx context.Context, r ca.RevokedRequest) (ca.RevokedResponse, error) {
	return call(ctx, m, r, ca.Provider.Revoked)
}

// call asks the provider. Who asks may leave when k others have answered; the provider has its time all the same, so that the log
// tells of one that cannot, however quick the others are.
func call[Q, A any](ctx context.Context, m *member, r Q, method func(ca.Provider, context.Context, Q) (A, error)) (A, error) {
	var none A
	p, err := m.running()
	if err != nil {
		return none, err
	}
	select {
	case m.slots <- struct{}{}:
	default:
		return none, fmt.Errorf("CA provider %s has %d questions to answer already", m.Name, cap(m.slots))
	}
	type result struct {
		answer A
		err    error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-m.slots }()
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), quorum.DefaultLimit)
		defer cancel()
		answer, err := method(p, limited, r)
		m.tell(err)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// tell logs that the provider stopped answering, or began again.
func (m *member) tell(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.silent == (err != nil) {
		return
	}
	if m.silent = err != nil; m.silent {
		m.log.Warn().Err(err).Msg("provider cannot tell")
	} else {
		m.log.Info().Msg("provider can tell again")
	}
}

// check says what is wrong with the section, without looking at the files that it names.
func (s section) check() error {
	switch {
	case s.Name == "":
		return errors.New("it has no name")
	case (s.Shipped == "") == (s.Program == ""):
		return fmt.Errorf("provider %s: want either shipped, such as ca-x509, or program", s.Name)
	case s.Shipped == "ca-quorum":
		return fmt.Errorf("provider %s: a quorum asks no quorum", s.Name)
	case s.Settings != "" && !filepath.IsAbs(s.Settings):
		return fmt.Errorf("provider %s: settings is %q, want an absolute path: a plugin program works in the root folder", s.Name, s.Settings)
	}
	if sum, err := hex.DecodeString(s.SHA256); err != nil || s.SHA256 != "" && len(sum) != sha256.Size {
		return fmt.Errorf("provider %s: sha256 is %q, want 64 hexadecimal digits", s.Name, s.SHA256)
	}
	return nil
}

// spec reads what the section names.
func (s section) spec() (plugins.Spec, error) {
	spec := plugins.Spec{Name: s.Name, Path: s.Program}
	if s.Shipped != "" {
		spec.Args = []string{"plugin", "serve", s.Shipped}
	} else {
		sum, err := hex.DecodeString(s.SHA256)
		if err != nil {
			return spec, err
		}
		copy(spec.SHA256[:], sum)
	}
	if s.Settings == "" {
		return spec, nil
	}
	file, err := os.Open(s.Settings)
	if err != nil {
		return spec, err
	}
	defer file.Close()
	spec.Config, err = io.ReadAll(io.LimitReader(file, ca.MaxSettings+1))
	return spec, err
}
