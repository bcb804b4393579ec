package transport

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// told gathers the reasons that a node logs.
type told struct {
	mu      sync.Mutex // guards reasons
	reasons []string
}

func (l *told) Write(line []byte) (int, error) {
	var event struct{ Reason string }
	if err := json.Unmarshal(line, &event); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if event.Reason != "" && !slices.Contains(l.reasons, event.Reason) {
		l.reasons = append(l.reasons, event.Reason)
	}
	return len(line), nil
}

func (l *told) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.reasons)
}

// forged is a signer whose signatures are another key's, or none.
type forged struct {
	keys.Signer
	by keys.Signer // nil: it does not answer
}

func (f forged) Sign(d keys.Digest) ([]byte, error) {
	if f.by == nil {
		return nil, errors.New("the signer does not answer")
	}
	return f.by.Sign(d)
}

// failure is how to make two nodes not connect, or lose each other. Node 0 dials node 1, which does not dial.
type failure struct {
	change func(t *testing.T, c *chain, i int, config *Config)
	setup  func(i int, e *Endpoint)
	other  func(t *testing.T, addr string) // is at the address in place of node 1
	then   func(c *chain, a, b *member)    // when they are connected
}

const nothing = "nothing"

// failures has each row of the table in PROTOCOL.md.
func failures() map[string]failure {
	at := func(side int, change func(*Config)) func(*testing.T, *chain, int, *Config) {
		return func(_ *testing.T, _ *chain, i int, config *Config) {
			if i == side {
				change(config)
			}
		}
	}
	until := func(end time.Time) func(Hello) (identity.Identity, error) {
		return func(Hello) (identity.Identity, error) { return identity.Identity{NotAfter: end}, nil }
	}
	stranger := func(h Hello) (identity.Identity, error) {
		return identity.Identity{}, fmt.Errorf("node %s is neither a member nor an observer of group main", h.Node)
	}
	var dismissed atomic.Bool
	return map[string]failure{
		"no node at the address": {other: func(*testing.T, string) {}},
		"another program at the address": {other: func(t *testing.T, addr string) {
			tls := new(ephemeral).server()
			tls.NextProtos = []string{"h3"}
			l, err := quic.ListenAddr(addr, tls, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}},
		"an address without a port": {change: func(_ *testing.T, c *chain, i int, config *Config) {
			config.Peers = []Address{{Node: c.id(1 - i), Addr: "node-b.example"}}
		}},
		"a busy node":        {change: at(1, func(c *Config) { c.AddressRate, c.AddressBurst = 1e-9, 1 })},
		"another version":    {setup: func(i int, e *Endpoint) { e.hello.Version += uint16(1 - i) }},
		"another chain":      {change: at(1, func(c *Config) { c.Chain = keys.Digest{2} })},
		"no group in common": {change: at(1, func(c *Config) { c.Groups = []ledger.GroupID{"settlement"} })},
		"another suite": {change: func(t *testing.T, c *chain, i int, config *Config) {
			if i == 1 {
				config.Suite = keys.GM()
				if c.suite.Name() == "gm" {
					config.Suite = keys.Std()
				}
				signer, err := config.Suite.Generate(config.Suite.Vote(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				config.Signer = signer
			}
		}},
		"another value of network.inner": {setup: func(i int, e *Endpoint) { e.config.Inner = i == 0 }},
		"another node at the address": {change: func(t *testing.T, c *chain, i int, config *Config) {
			if i == 1 {
				config.Signer = newChain(t, 1).signers[0]
			}
		}},
		"two nodes with one key": {change: func(_ *testing.T, c *chain, i int, config *Config) { config.Signer = c.signers[0] }},
		"a node id that is not the key's": {setup: func(i int, e *Endpoint) {
			if i == 0 {
				e.hello.Node[0] ^= 1
			}
		}},
		"a node that is not of the group": {change: at(1, func(c *Config) { c.Authorize = stranger })},
		"a node that is frozen": {change: at(1, func(c *Config) {
			c.Admit = func(h Hello) error { // in the words of package node
				return fmt.Errorf("by what group main says at height 7, node %s is not let in: denied (code 101): the node is frozen until 2026-03-01T00:00:00Z (intrusion): another regulator, or a motion with a regulator's consent, lifts it", h.Node.Short())
			}
		})},
		"a group that is not the node's": {change: at(0, func(c *Config) { c.Authorize = stranger })},
		"an identity that has ended":     {change: at(1, func(c *Config) { c.Authorize = until(time.Unix(1e9, 0)) })},
		"clocks that differ": {change: at(1, func(c *Config) {
			end := time.Now().Add(time.Hour)
			c.Now = func() time.Time { return time.Now().Add(3 * time.Hour) }
			c.Authorize = until(end)
		})},
		"a key that does not sign for the node": {change: func(t *testing.T, c *chain, i int, config *Config) {
			if i == 0 {
				config.Signer = forged{config.Signer, newChain(t, 1).signers[0]}
			}
		}},
		"a signer that does not answer": {change: at(0, func(c *Config) { c.Signer = forged{c.Signer, nil} })},
		"a check that takes too long": {change: at(1, func(c *Config) {
			c.HandshakeTimeout = 200 * time.Millisecond
			c.Authorize = func(Hello) (identity.Identity, error) {
				time.Sleep(600 * time.Millisecond)
				return identity.Identity{}, nil
			}
		})},
		"a certificate chain that is too long":  {change: at(0, func(c *Config) { c.Certificates = [][]byte{make([]byte, MaxHelloSize)} })},
		"a node that stops":                     {then: func(_ *chain, _, b *member) { b.stop() }},
		"an identity that ends while connected": {change: at(1, func(c *Config) { c.Authorize = until(time.Now().Add(2 * time.Second)) })},
		"a node that may not take part any more": {
			change: at(1, func(c *Config) {
				c.Authorize = func(h Hello) (identity.Identity, error) {
					if dismissed.Load() {
						return stranger(h)
					}
					return identity.Identity{}, nil
				}
			}),
			then: func(c *chain, _, b *member) {
				dismissed.Store(true)
				b.SetPeers([]Address{{Node: c.id(0), Addr: c.addrs[0]}})
			},
		},
	}
}

// TestFailureTable provokes each cause in the table of PROTOCOL.md between two nodes, and compares what they log with what the
// table says: nothing is in it that was not seen here.
func TestFailureTable(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "## When two nodes do not connect\n")
	if !found {
		t.Fatal("PROTOCOL.md has no section about nodes that do not connect")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	all := failures()
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(section, -1)[1:] {
		cause := row[1]
		f, known := all[cause]
		if !known {
			t.Errorf("PROTOCOL.md has the cause %q, which nobody provokes", cause)
			continue
		}
		delete(all, cause)
		t.Run(cause, func(t *testing.T) {
			f.provoke(t, pattern(t, row[2]), pattern(t, row[3]))
		})
	}
	for cause := range all {
		t.Errorf("PROTOCOL.md lacks the cause %q", cause)
	}
}

// pattern returns what a cell of the table stands for: text in which … is anything, or nil for nothing.
func pattern(t *testing.T, cell string) *regexp.Regexp {
	t.Helper()
	if cell == nothing {
		return nil
	}
	words, opened := strings.CutPrefix(cell, "`")
	words, closed := strings.CutSuffix(words, "`")
	if !opened || !closed {
		t.Fatalf("cell %q: want `text` or %s", cell, nothing)
	}
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(words), "…", ".+") + "$")
}

func (f failure) provoke(t *testing.T, want ...*regexp.Regexp) {
	c := newChain(t, 2).onLoopback()
	var logs [2]told
	c.change = func(i int, config *Config) {
		config.Log = zerolog.New(&logs[i])
		config.FallbackDial = time.Hour // node 0 dials
		config.HandshakeTimeout = 2 * time.Second
		config.Peers = config.Peers[1-i : 2-i] // the other one
		if f.change != nil {
			f.change(t, c, i, config)
		}
	}
	setup := func(i int) func(*Endpoint) {
		return func(e *Endpoint) {
			if f.setup != nil {
				f.setup(i, e)
			}
		}
	}
	var b *member
	if f.other != nil {
		f.other(t, c.addrs[1])
	} else {
		b = c.start(1, setup(1))
	}
	a := c.start(0, setup(0))
	if f.then != nil {
		connected(t, a, b)
		f.then(c, a, b)
	}
	for i, side := range []string{"the node that dials", "the node that answers"} {
		if want[i] == nil {
			continue
		}
		limit := time.Now().Add(20 * time.Second)
		for !slices.ContainsFunc(logs[i].all(), want[i].MatchString) {
			if time.Now().After(limit) {
				t.Fatalf("%s prints\n%s\nwant %s", side, strings.Join(logs[i].all(), "\n"), want[i])
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	for i, w := range want {
		if all := logs[i].all(); w == nil && len(all) > 0 {
			t.Errorf("node %d prints %q, want nothing", i, all)
		}
	}
}
