// Package vouch keeps what a CA provider said of other nodes: whom each chain of certificates stands for, and until when
// that counts. It is asked on handshakes and in between, never while a block is made.
//
// A verdict younger than Config.Fresh counts as it is. An older one is asked for again; while the provider does not
// answer, one in favour goes on counting until the certificate ends, and who has none is refused. So a provider that is
// down separates nobody who is connected, and lets in nobody who is not known.
//
// The package is public by path but promised nothing.
package vouch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// MaxVerdicts bounds what is kept: the verdict that was used longest ago goes first.
const MaxVerdicts = 4096

// Config says how verdicts are kept. Provider and Suite are required.
type Config struct {
	Provider ca.Provider
	Suite    keys.Suite
	Fresh    time.Duration    // how long a verdict counts without asking again; 30 s
	Wait     time.Duration    // for an answer, which a handshake waits for; 2 s
	Now      func() time.Time // time.Now
}

// Verdicts asks the provider and keeps what it said. Its methods are safe for concurrent use.
type Verdicts struct {
	config   Config
	verifier ca.Verifier

	mu    sync.Mutex // guards known
	known map[keys.Digest]*verdict
}

// verdict is for whom the provider vouched by one chain.
type verdict struct {
	who   identity.Identity
	asked time.Time
	used  time.Time
}

// New returns no verdicts yet.
func New(c Config) *Verdicts {
	c.Fresh, c.Wait = cmp.Or(c.Fresh, 30*time.Second), cmp.Or(c.Wait, 2*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Verdicts{config: c, verifier: ca.Verifier{Provider: c.Provider, Suite: c.Suite, Purpose: ca.Node}, known: map[keys.Digest]*verdict{}}
}

// Of returns whom a chain stands for, which is DER, the node's own certificate first, and must be for key. The error says why the
// chain does not count, in words for both operators; it is a *ca.Refusal, or wraps what kept the provider from answering.
func (v *Verdicts) Of(chain [][]byte, key keys.PublicKey) (identity.Identity, error) {
	if len(chain) == 0 {
		return identity.Identity{}, ca.Refuse(ca.Malformed, "the node shows no certificate: set ca.chain in its configuration")
	}
	raw, err := ledger.Marshal(chain)
	if err != nil {
		return identity.Identity{}, err
	}
	id, now := keys.Hash(v.config.Suite, "certificates", raw), v.config.Now()
	v.mu.Lock()
	last := v.known[id]
	if last != nil {
		last.used = now
	}
	v.mu.Unlock()
	if last == nil || now.Sub(last.asked) >= v.config.Fresh || now.Before(last.asked) {
		ctx, cancel := context.WithTimeout(context.Background(), v.config.Wait)
		who, err := v.verifier.Verify(ctx, chain, now)
		cancel()
		refusal, refused := errors.AsType[*ca.Refusal](err)
		switch {
		case err == nil:
			last = &verdict{who: who, asked: now, used: now}
			v.keep(id, last)
		case refused: // nothing is kept of it, so that who sends much nonsense drives out nobody
			v.forget(id)
			return identity.Identity{}, refusal
		case last == nil:
			return identity.Identity{}, fmt.Errorf("the CA provider cannot be asked about a node that is not known from before: %w", err)
		}
	}
	if !bytes.Equal(last.who.Key.Bytes(), key.Bytes()) || last.who.Key.Algorithm() != key.Algorithm() {
		return identity.Identity{}, ca.Refuse(ca.WrongPurpose, "the certificate %s of %s is for another key than the node's: have one issued for the node's key", last.who.Serial, last.who.Institution)
	}
	return last.who, nil
}

func (v *Verdicts) keep(id keys.Digest, said *verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.known[id]; !known && len(v.known) >= MaxVerdicts {
		var oldest keys.Digest
		var at time.Time
		for other, k := range v.known {
			if at.IsZero() || k.used.Before(at) {
				oldest, at = other, k.used
			}
		}
		delete(v.known, oldest)
	}
	v.known[id] = said
}

func (v *Verdicts) forget(id keys.Digest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.known, id)
}
