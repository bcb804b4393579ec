// Package vouch keeps what a CA provider said of other nodes: whom each chain of certificates stands for, and until when
// that counts. It is asked on handshakes and in between, never while a block is made.
//
// # What counts
//
// A verdict in favour answers at once. When it is older than Config.Fresh, the provider is asked again behind the answer, and
// Config.Changed is told if it says something else now. While the provider cannot tell, because its program is down or because what it
// knows of revocations is too old, the verdict goes on counting until the certificate ends, for Config.Grace after
// the provider last confirmed it. So a provider that is down separates nobody, and lets in nobody who is not known.
//
// Who is not known waits for an answer, at most for Config.Wait. A refusal, and the reason why the provider cannot tell, is
// the answer to whoever comes within the next seconds, without asking again.
//
// # Bounds
//
// At most 8 questions are with the provider at a time, one for each chain. At most MaxVerdicts chains are kept, 4 for each
// key: a node that shows many drives out its own. So callers ask only about nodes that may take part, and that have
// proved that they hold the key.
//
// # The file
//
// Verdicts in favour outlive the process, with the time at which each was confirmed, in a file: canonical CBOR with a digest over it,
// written whole beside the one before and then renamed. One that is damaged counts as none. Each verdict has the origin under which it was
// confirmed, and counts after a restart only under that: who was trusted by settings that are gone is asked about anew.
//
// The package is public by path but promised nothing.
package vouch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// MaxVerdicts bounds what is kept: the verdict that was used longest ago goes first.
const MaxVerdicts = 1024

// Defaults of Config.
const (
	DefaultFresh = 30 * time.Second
	DefaultGrace = 72 * time.Hour // a weekend: what fails on Friday evening is mended on Monday
	DefaultWait  = time.Second    // two sides of a handshake may have to wait, one after the other
)

const (
	maxChains    = 4               // of one key: two while a certificate is replaced, and as many to spare
	maxQuestions = 8               // with the provider at a time, of the ca.MaxCalls that it takes
	maxAgain     = 2 * time.Second // for which an answer that is not in favour counts
	patience     = ca.DefaultTimeout + 5*time.Second
)

// Config says how verdicts are kept. Provider and Suite are required.
type Config struct {
	Provider ca.Provider
	Suite    keys.Suite
	Path     string           // of the file; empty: none
	Origin   keys.Digest      // of what verdicts depend on besides the chain, the provider's program and settings, until Under is called
	Fresh    time.Duration    // how long a verdict counts without asking again; DefaultFresh
	Grace    time.Duration    // how long one in favour counts while the provider cannot tell; DefaultGrace
	Wait     time.Duration    // for an answer about a chain of which nothing is known; DefaultWait
	Now      func() time.Time // time.Now
	Changed  func()           // called when a verdict in favour is none any more, or is for somebody else; it must not block; nil
	Log      zerolog.Logger
}

// Verdicts asks the provider and keeps what it said. Its methods are safe for concurrent use.
type Verdicts struct {
	config   Config
	verifier ca.Verifier
	again    time.Duration

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // workers and the keeper; Add only under mu while closed is not set
	dirty  chan struct{}  // holds one: the file is to be written

	mu      sync.Mutex // guards what follows
	closed  bool
	origin  keys.Digest
	known   map[keys.Digest]*verdict
	due     []question // that wait for a worker; first those that somebody waits for
	workers int
	down    error     // the provider's program does not run; nil: it does, as far as is known
	until   time.Time // when it is asked again
}

// verdict is what is known of one chain, shown by the holder of one key. Verdicts.mu guards it.
type verdict struct {
	id        keys.Digest
	key       ledger.Key
	who       *identity.Identity // nil: nobody is vouched for
	holder    *ca.Holder         // the same as the provider says it
	confirmed time.Time          // when it last did
	origin    keys.Digest        // under which it did
	dormant   bool               // it is of the file and of another origin, and so does not count
	saved     time.Time          // confirmed, as the file has it; zero: the file lacks it
	refusal   *ca.Refusal        // the last answer, where who is nil
	doubt     error              // why the provider could not tell when it was last asked; nil: it could
	asked     time.Time          // for the last time; zero: never by this process
	used      time.Time
	done      chan struct{} // closed when the question under way is answered; nil: there is none
}

// question is a verdict to ask for.
type question struct {
	verdict *verdict
	chain   [][]byte
}

// New returns the verdicts of the file, if there is one that counts. Close must be called.
func New(c Config) *Verdicts {
	c.Fresh, c.Grace, c.Wait = cmp.Or(c.Fresh, DefaultFresh), cmp.Or(c.Grace, DefaultGrace), cmp.Or(c.Wait, DefaultWait)
	if c.Now == nil {
		c.Now = time.Now
	}
	v := &Verdicts{
		config: c, verifier: ca.Verifier{Provider: c.Provider, Suite: c.Suite, Purpose: ca.Node}, again: min(c.Fresh, maxAgain),
		dirty: make(chan struct{}, 1), origin: c.Origin, known: map[keys.Digest]*verdict{},
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	if c.Path != "" {
		v.read()
		v.tasks.Go(v.keep)
	}
	return v
}

// Close ends the questions that are under way, and writes the file. It is called once.
func (v *Verdicts) Close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.cancel()
	v.tasks.Wait()
}

// Under says that the provider has taken settings, on which what it says depends from now on: call it before they count. Verdicts of the
// file that were confirmed under the same origin count again. Others that count go on doing so, and after a restart of this process if they
// were confirmed anew until then.
func (v *Verdicts) Under(origin keys.Digest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.origin = origin
	for _, k := range v.known {
		if k.origin == origin {
			k.dormant = false
		}
	}
}

// Of returns whom a chain stands for, which is DER, the node's own certificate first, and must be for key. The caller looks at the
// identity's end. The error says why the chain does not count, in words for both operators; it is a *ca.Refusal, or
// wraps what kept the provider from answering.
func (v *Verdicts) Of(chain [][]byte, key keys.PublicKey) (identity.Identity, error) {
	if len(chain) == 0 {
		return identity.Identity{}, ca.Refuse(ca.Malformed, "the node shows no certificate: set ca.chain in its configuration")
	}
	raw, err := ledger.Marshal(chain)
	if err != nil {
		return identity.Identity{}, err
	}
	own := ledger.KeyOf(key)
	id := keys.Hash(v.config.Suite, "vouched", []byte{byte(own.Algorithm)}, own.Bytes, raw)
	now := v.config.Now()
	v.mu.Lock()
	k := v.about(id, own, now)
	who, settled, err := v.judge(k, now)
	if v.closed && !settled {
		err, settled = errors.New("this node stops"), true
	}
	if stale := now.Sub(k.asked) >= v.config.Fresh || now.Before(k.asked); k.done == nil && !v.isDown(now) && !v.closed && (!settled || k.who != nil && stale) {
		v.ask(question{k, chain}, !settled)
	}
	done := k.done
	v.mu.Unlock()
	if settled {
		return who, err
	}

	patience := time.NewTimer(v.config.Wait)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	case <-v.ctx.Done():
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if who, settled, err = v.judge(k, v.config.Now()); !settled {
		err = fmt.Errorf("the CA provider has not answered within %v about a node that is not known from before: it goes on being asked", v.config.Wait)
	}
	return who, err
}

// about returns what is known of a chain, and makes room for it if that is nothing. v.mu is held.
func (v *Verdicts) about(id keys.Digest, key ledger.Key, now time.Time) *verdict {
	k := v.known[id]
	if k == nil {
		var oldest, sibling *verdict
		siblings := 0
		for _, other := range v.known {
			if oldest == nil || other.used.Before(oldest.used) {
				oldest = other
			}
			if other.key.Algorithm == key.Algorithm && bytes.Equal(other.key.Bytes, key.Bytes) {
				if siblings++; sibling == nil || other.used.Before(sibling.used) {
					sibling = other
				}
			}
		}
		if siblings >= maxChains {
			v.drop(sibling)
		} else if len(v.known) >= MaxVerdicts {
			v.drop(oldest)
		}
		k = &verdict{id: id, key: key}
		v.known[id] = k
	}
	k.used = now
	return k
}

// drop forgets a verdict, and the question for it unless that is with the provider. v.mu is held.
func (v *Verdicts) drop(k *verdict) {
	delete(v.known, k.id)
	v.due = slices.DeleteFunc(v.due, func(q question) bool { return q.verdict == k })
}

// judge answers by what is known, if that settles it. v.mu is held.
func (v *Verdicts) judge(k *verdict, now time.Time) (who identity.Identity, settled bool, err error) {
	recent := !now.Before(k.asked) && now.Sub(k.asked) < v.again
	switch {
	case v.counts(k, now):
		return *k.who, true, nil
	case k.refusal != nil && recent:
		return who, true, k.refusal
	case k.doubt != nil && recent:
		return who, true, v.cannotTell(k, k.doubt)
	case v.isDown(now):
		return who, true, v.cannotTell(k, v.down)
	}
	return who, false, nil
}

// counts reports whether a verdict is in favour, and was confirmed not too long ago, and not under settings that are gone. v.mu is held.
func (v *Verdicts) counts(k *verdict, now time.Time) bool {
	return k.who != nil && !k.dormant && now.Sub(k.confirmed) <= v.config.Grace
}

// isDown reports whether the provider was found down just now. v.mu is held.
func (v *Verdicts) isDown(now time.Time) bool { return v.down != nil && now.Before(v.until) }

// cannotTell says why there is no answer about a chain.
func (v *Verdicts) cannotTell(k *verdict, why error) error {
	if k.who == nil {
		return fmt.Errorf("the CA provider cannot be asked about a node that is not known from before: %w", why)
	}
	if k.dormant {
		return fmt.Errorf("the CA provider vouched for certificate %s of %s under other settings, on %s, and cannot tell now: %w",
			k.who.Serial, k.who.Institution, k.confirmed.UTC().Format(time.RFC3339), why)
	}
	return fmt.Errorf("the CA provider last vouched for certificate %s of %s on %s, longer ago than ca.grace allows (%v), and cannot tell now: %w",
		k.who.Serial, k.who.Institution, k.confirmed.UTC().Format(time.RFC3339), v.config.Grace, why)
}

// ask has the provider asked, ahead of others if somebody waits. v.mu is held.
func (v *Verdicts) ask(q question, ahead bool) {
	q.verdict.done = make(chan struct{})
	if ahead {
		v.due = slices.Insert(v.due, 0, q)
	} else {
		v.due = append(v.due, q)
	}
	if v.workers < maxQuestions {
		v.workers++
		v.tasks.Go(v.work)
	}
}

// work asks until nothing is due.
func (v *Verdicts) work() {
	for {
		v.mu.Lock()
		if len(v.due) == 0 || v.ctx.Err() != nil {
			v.workers--
			v.mu.Unlock()
			return
		}
		q := v.due[0]
		v.due = v.due[1:]
		origin := v.origin
		v.mu.Unlock()
		at := v.config.Now()
		ctx, cancel := context.WithTimeout(v.ctx, patience)
		holder, who, err := v.verifier.Ask(ctx, q.chain, at)
		cancel()
		v.answered(q.verdict, at, origin, holder, who, err)
	}
}

// answered takes an answer to the question that was put at a time, under an origin.
func (v *Verdicts) answered(k *verdict, at time.Time, origin keys.Digest, holder *ca.Holder, who identity.Identity, err error) {
	if err == nil && !(who.Key.Algorithm() == k.key.Algorithm && bytes.Equal(who.Key.Bytes(), k.key.Bytes)) {
		err = ca.Refuse(ca.WrongPurpose, "the certificate %s of %s is for another key than the node's: have one issued for the node's key", who.Serial, who.Institution)
	}
	refusal, refused := errors.AsType[*ca.Refusal](err)
	v.mu.Lock()
	before := k.who
	k.asked = at
	switch {
	case err == nil:
		if v.known[k.id] == k && (k.who == nil || !same(k.who, &who) || k.origin != origin || at.Sub(k.saved) >= saveAfter) {
			wake(v.dirty)
		}
		k.who, k.holder, k.confirmed, k.origin, k.dormant, k.refusal, k.doubt = &who, holder, at, origin, false, nil, nil
	case refused && !(refusal.Code == ca.StaleList && v.counts(k, at)):
		if k.who != nil {
			wake(v.dirty)
		}
		k.who, k.holder, k.refusal, k.doubt = nil, nil, refusal, nil
		if refusal.Code == ca.Revoked { // what was said of the key under other chains is asked for anew
			for _, other := range v.known {
				if other != k && other.done == nil && other.key.Algorithm == k.key.Algorithm && bytes.Equal(other.key.Bytes, k.key.Bytes) {
					v.drop(other)
					wake(v.dirty)
				}
			}
		}
	default:
		if k.doubt == nil && v.counts(k, at) && !errors.Is(err, ca.ErrDown) {
			v.config.Log.Warn().Err(err).Str("institution", k.who.Institution).Str("serial", k.who.Serial).Time("until", k.confirmed.Add(v.config.Grace)).
				Msg("the CA provider cannot confirm the certificate of a node that it vouched for before, which goes on counting for a while")
		}
		k.refusal, k.doubt = nil, err
	}
	switch {
	case errors.Is(err, ca.ErrDown):
		if v.down == nil {
			v.config.Log.Warn().Err(err).Dur("grace", v.config.Grace).Msg("the CA provider is down: nodes that it vouched for before go on counting for a while, others are refused")
		}
		v.down, v.until = err, v.config.Now().Add(v.again)
	case v.down != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
		v.config.Log.Info().Msg("the CA provider answers again")
		v.down = nil
	}
	changed := before != nil && (k.who == nil || !same(before, k.who))
	close(k.done)
	k.done = nil
	v.mu.Unlock()
	if changed && v.config.Changed != nil {
		v.config.Changed()
	}
}

// same reports whether two identities of one chain are one for all that hangs on them.
func same(a, b *identity.Identity) bool {
	return a.Institution == b.Institution && a.NotAfter.Equal(b.NotAfter) && a.Serial == b.Serial
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will look anyway
	}
}

// Stats counts the chains for which a verdict in favour counts now.
type Stats struct {
	Confirmed int // the provider said so when it was last asked
	Doubted   int // it could not tell then: see Config.Grace
}

// Stats returns how many verdicts count.
func (v *Verdicts) Stats() Stats {
	now := v.config.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	var s Stats
	for _, k := range v.known {
		switch {
		case !v.counts(k, now):
		case k.doubt != nil || v.down != nil:
			s.Doubted++
		default:
			s.Confirmed++
		}
	}
	return s
}
