package vouch

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// provider answers Verify as a test says.
type provider struct {
	ca.Provider // nil: nothing else is asked

	mu     sync.Mutex // guards what follows
	verify func(ca.VerifyRequest) (ca.VerifyResponse, error)
	takes  time.Duration // for an answer
	asked  int
	now    int // questions that are under way
	most   int // of them, at a time
}

func (p *provider) Verify(ctx context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	p.mu.Lock()
	p.asked++
	p.now++
	p.most = max(p.most, p.now)
	verify, takes := p.verify, p.takes
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.now--
		p.mu.Unlock()
	}()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ca.VerifyResponse{}, ctx.Err()
	}
	return verify(r)
}

func (p *provider) says(verify func(ca.VerifyRequest) (ca.VerifyResponse, error), takes time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verify, p.takes = verify, takes
}

func (p *provider) times() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func down(ca.VerifyRequest) (ca.VerifyResponse, error) {
	return ca.VerifyResponse{}, &ca.DownError{Plugin: "x", Reason: "it exited"}
}

func refuses(code ca.Code, reason string) func(ca.VerifyRequest) (ca.VerifyResponse, error) {
	return func(ca.VerifyRequest) (ca.VerifyResponse, error) {
		return ca.VerifyResponse{Refusal: ca.Refuse(code, "%s", reason)}, nil
	}
}

// bench is a provider, and verdicts that ask it.
type bench struct {
	t       *testing.T
	suite   keys.Suite
	key     keys.PublicKey
	p       *provider
	v       *Verdicts
	config  Config
	changed chan struct{}
	log     bytes.Buffer
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, suite: keystest.Suite(), p: new(provider), changed: make(chan struct{}, 100)}
	b.key = b.generate()
	b.p.says(b.vouches, 0)
	b.config = Config{
		Provider: b.p, Suite: b.suite, Fresh: time.Minute, Grace: 48 * time.Hour, Changed: func() { b.changed <- struct{}{} },
		Log: zerolog.New(zerolog.SyncWriter(&b.log)),
	}
	return b
}

func (b *bench) open() {
	b.v = New(b.config)
	b.t.Cleanup(b.v.Close)
}

func (b *bench) generate() keys.PublicKey {
	signer, err := b.suite.Generate(b.suite.Vote(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	return signer.Public()
}

// vouches for the holder of b.key, a year long.
func (b *bench) vouches(r ca.VerifyRequest) (ca.VerifyResponse, error) {
	return ca.VerifyResponse{Holder: &ca.Holder{
		Institution: "bank-a", Roles: []identity.Role{identity.Node}, Key: ledger.KeyOf(b.key), Serial: "1", NotBefore: 0, NotAfter: year2001.UnixMilli(),
	}}, nil
}

// year2001 is a year after the beginning of a bubble's time.
var year2001 = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)

// of wants consent, for no words, or an error with the words; and how long it takes.
func (b *bench) of(chain [][]byte, want string, within time.Duration) {
	b.t.Helper()
	began := time.Now()
	who, err := b.v.Of(chain, b.key)
	if took := time.Since(began); took > within {
		b.t.Errorf("Of took %v, want at most %v", took, within)
	}
	if want == "" && (err != nil || who.Institution != "bank-a") {
		b.t.Errorf("Of = %+v, %v", who, err)
	}
	if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		b.t.Errorf("Of = %+v, %v; want %s", who, err, want)
	}
}

const atOnce = 0

var known, stranger = [][]byte{{1}}, [][]byte{{2}}

func TestVerdicts(t *testing.T) {
	run := func(name string, story func(*bench)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.open()
				story(b)
			})
		})
	}
	run("a verdict is kept while it is fresh, and asked for again behind the answer", func(b *bench) {
		b.of(nil, "set ca.chain", atOnce)
		b.of(known, "", atOnce)
		b.of(known, "", atOnce)
		if n := b.p.times(); n != 1 {
			b.t.Errorf("asked %d times within the time that a verdict is fresh", n)
		}
		b.p.says(b.vouches, 5*time.Second)
		time.Sleep(time.Minute)
		b.of(known, "", atOnce)
		b.of(known, "", atOnce)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := b.p.times(); n != 2 || len(b.changed) > 0 {
			b.t.Errorf("asked %d times, want 2: one question for a chain at a time", n)
		}
	})
	run("a certificate for another key", func(b *bench) {
		if _, err := b.v.Of(known, b.generate()); err == nil || !strings.Contains(err.Error(), "is for another key") {
			b.t.Errorf("Of: %v", err)
		}
		b.of(known, "", atOnce)
	})
	run("the provider is down for a day", func(b *bench) {
		b.of(known, "", atOnce)
		b.p.says(down, 500*time.Millisecond)
		for range 24 * 60 {
			b.of(known, "", atOnce)
			time.Sleep(time.Minute)
		}
		const words = "cannot be asked about a node that is not known from before: CA provider x is down: it exited"
		time.Sleep(maxAgain)
		b.of(stranger, words, 500*time.Millisecond)
		b.of(stranger, words, atOnce)
		b.of([][]byte{{3}}, words, atOnce) // not even another one waits
		if _, err := b.v.Of(stranger, b.key); !errors.Is(err, ca.ErrDown) {
			b.t.Errorf("error %v, want ca.ErrDown", err)
		}
		if s := b.v.Stats(); s != (Stats{Doubted: 1}) {
			b.t.Errorf("Stats = %+v", s)
		}
		b.p.says(b.vouches, 0)
		time.Sleep(maxAgain)
		b.of(stranger, "", atOnce)
		time.Sleep(time.Minute)
		b.of(known, "", atOnce)
		synctest.Wait()
		if s := b.v.Stats(); s != (Stats{Confirmed: 2}) {
			b.t.Errorf("Stats = %+v", s)
		}
		if text := b.log.String(); strings.Count(text, "the CA provider is down") != 1 || strings.Count(text, "the CA provider answers again") != 1 {
			b.t.Errorf("the log says %s", text)
		}
	})
	run("a node that was revoked does not come in by another form of its chain", func(b *bench) {
		longer := [][]byte{{1}, {9}}
		b.of(known, "", atOnce)
		b.of(longer, "", atOnce)
		b.p.says(refuses(ca.Revoked, "it was revoked yesterday"), 0)
		time.Sleep(time.Minute)
		b.of(known, "", atOnce) // the answer comes behind
		synctest.Wait()
		b.p.says(down, 0)
		b.of(known, "it was revoked yesterday", atOnce)
		b.of(longer, "cannot be asked about a node that is not known from before", atOnce)
	})
	run("the provider is down for longer than grace", func(b *bench) {
		b.of(known, "", atOnce)
		b.p.says(down, 0)
		time.Sleep(48 * time.Hour)
		b.of(known, "", atOnce)
		time.Sleep(time.Second)
		b.of(known, "last vouched for certificate 1 of bank-a on 2000-01-01T00:00:00Z, longer ago than ca.grace allows (48h0m0s), and cannot tell now: CA provider x is down", atOnce)
		b.p.says(b.vouches, 0)
		time.Sleep(maxAgain)
		b.of(known, "", atOnce)
	})
	run("a revocation list is too old", func(b *bench) {
		b.of(known, "", atOnce)
		b.p.says(refuses(ca.StaleList, "the list is 25h old"), 0)
		b.of(stranger, "the list is 25h old", atOnce)
		for range 47 {
			time.Sleep(time.Hour)
			b.of(known, "", atOnce)
		}
		synctest.Wait()
		if s := b.v.Stats(); s != (Stats{Doubted: 1}) || len(b.changed) > 0 {
			b.t.Errorf("Stats = %+v, changed %d times", s, len(b.changed))
		}
		if text := b.log.String(); strings.Count(text, "cannot confirm the certificate") != 1 || !strings.Contains(text, "the list is 25h old") {
			b.t.Errorf("the log says %s", text)
		}
		time.Sleep(time.Hour + 1)
		b.of(known, "the list is 25h old", atOnce)
	})
	run("a refusal ends consent, and being down does not bring it back", func(b *bench) {
		b.of(known, "", atOnce)
		b.p.says(refuses(ca.Revoked, "certificate 1 was revoked"), 0)
		time.Sleep(time.Minute)
		b.of(known, "", atOnce) // what was known; the question is under way
		<-b.changed
		b.of(known, "certificate 1 was revoked", atOnce)
		asked := b.p.times()
		b.of(known, "certificate 1 was revoked", atOnce)
		if n := b.p.times(); n != asked {
			b.t.Errorf("a refusal was asked for again at once")
		}
		b.p.says(down, 0)
		time.Sleep(time.Hour)
		b.of(known, "cannot be asked", atOnce)
		b.p.says(b.vouches, 0)
		time.Sleep(maxAgain)
		b.of(known, "", atOnce)
	})
	run("a provider that takes long is not asked twice, and what it says at last counts", func(b *bench) {
		b.p.says(b.vouches, 3*time.Second)
		b.of(stranger, "has not answered within 1s", time.Second)
		b.of(stranger, "has not answered within 1s", time.Second)
		time.Sleep(time.Second)
		b.of(stranger, "", atOnce)
		if n := b.p.times(); n != 1 {
			b.t.Errorf("asked %d times", n)
		}
	})
	run("many ask at once", func(b *bench) {
		b.p.says(b.vouches, 10*time.Millisecond)
		var wait sync.WaitGroup
		for i := range 100 {
			wait.Go(func() { b.of([][]byte{{3, byte(i % 4)}}, "", 20*time.Millisecond) })
		}
		wait.Wait()
		if n := b.p.times(); n != 4 {
			b.t.Errorf("asked %d times about 4 chains", n)
		}
	})
	run("a node that shows many chains drives out its own", func(b *bench) {
		b.of(known, "", atOnce)
		other := b.generate()
		for i := range 100 {
			b.v.Of([][]byte{{3, byte(i)}}, other) //nolint:errcheck // refused: the certificate is for another key
		}
		if n := len(b.v.known); n > 1+maxChains {
			b.t.Errorf("%d verdicts are kept of two nodes", n)
		}
		b.p.says(down, 0)
		time.Sleep(time.Hour)
		b.of(known, "", atOnce)
		b.p.says(b.vouches, time.Hour) // it hangs
		for i := range 1000 {
			go b.v.Of([][]byte{{4, byte(i), byte(i >> 8)}}, other) //nolint:errcheck // no answer
			synctest.Wait()
		}
		if n := len(b.v.due); n > maxChains {
			b.t.Errorf("%d questions wait for one node", n)
		}
		if b.p.most > maxQuestions {
			b.t.Errorf("%d questions were with the provider at once", b.p.most)
		}
		b.of(known, "", atOnce)
		time.Sleep(patience)
	})
	run("no more verdicts are kept than there is room for", func(b *bench) {
		for i := range MaxVerdicts + 50 {
			b.p.says(refuses(ca.UnknownRoot, "a stranger"), 0)
			b.v.Of([][]byte{{3, byte(i), byte(i >> 8)}}, fakeKey{fmt.Sprint(i)}) //nolint:errcheck // refused
			time.Sleep(time.Millisecond)
		}
		if n := len(b.v.known); n != MaxVerdicts {
			b.t.Errorf("%d verdicts are kept", n)
		}
	})
	run("after Close nobody waits", func(b *bench) {
		b.v.Close()
		b.of(stranger, "this node stops", atOnce)
	})
}

// fakeKey is a key of which only the bytes are looked at.
type fakeKey struct{ text string }

func (fakeKey) Algorithm() keys.Algorithm        { return keys.Ed25519 }
func (k fakeKey) Bytes() []byte                  { return []byte(k.text) }
func (fakeKey) Verify(keys.Digest, []byte) error { return errors.New("no key") }

// TestFile tells what outlives a process.
func TestFile(t *testing.T) {
	run := func(name string, story func(b *bench, path string)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.config.Path = filepath.Join(t.TempDir(), "verdicts.cbor")
				b.v = New(b.config)
				b.of(known, "", atOnce)
				time.Sleep(2 * saveWithin) // it is written without Close: the process may be killed
				synctest.Wait()
				if _, err := os.Stat(b.config.Path); err != nil {
					t.Fatal(err)
				}
				story(b, b.config.Path)
			})
		})
	}
	again := func(b *bench) {
		b.v.Close()
		b.p.says(down, 0)
		b.log.Reset()
		b.open()
	}
	const unknown = "a node that is not known from before"
	run("a verdict counts after a restart without the provider, until grace ends", func(b *bench, path string) {
		again(b)
		b.of(known, "", atOnce)
		b.of(stranger, unknown, time.Second)
		time.Sleep(47 * time.Hour)
		again(b)
		b.of(known, "", atOnce)
		time.Sleep(time.Hour)
		again(b)
		b.of(known, unknown, time.Second)
	})
	run("one killed process loses little of when a verdict was confirmed", func(b *bench, path string) {
		for range 100 {
			time.Sleep(time.Minute)
			b.of(known, "", atOnce)
		}
		synctest.Wait()
		killed, err := os.ReadFile(path)
		if err != nil {
			b.t.Fatal(err)
		}
		b.v.Close()
		if err := os.WriteFile(path, killed, 0o600); err != nil {
			b.t.Fatal(err)
		}
		b.p.says(down, 0)
		b.open()
		time.Sleep(b.config.Grace - saveAfter - 2*time.Minute)
		b.of(known, "", atOnce)
	})
	run("a certificate that was revoked is not kept", func(b *bench, path string) {
		b.p.says(refuses(ca.Revoked, "revoked"), 0)
		time.Sleep(time.Minute)
		b.of(known, "", atOnce)
		<-b.changed
		time.Sleep(2 * saveWithin)
		synctest.Wait()
		again(b)
		b.of(known, unknown, time.Second)
	})
	run("other settings", func(b *bench, path string) {
		b.config.Origin = keys.Digest{1}
		again(b)
		b.of(known, "vouched for certificate 1 of bank-a under other settings", time.Second)
		if text := b.log.String(); !strings.Contains(text, "its program, or its settings, were others") {
			b.t.Errorf("the log says %s", text)
		}
		b.v.Under(keys.Digest{1}) // the provider has taken them
		time.Sleep(maxAgain)
		b.of(known, "under other settings", time.Second)
		b.v.Under(keys.Digest{}) // it did not take others, and goes on with those of before
		b.of(known, "", atOnce)
	})
	run("settings that change while the process runs", func(b *bench, path string) {
		offline := [][]byte{{3}}
		b.of(offline, "", atOnce)
		b.v.Under(keys.Digest{1})
		b.of(known, "", atOnce) // nobody is cut off by it
		time.Sleep(b.config.Fresh)
		b.of(known, "", atOnce) // and the provider is asked behind
		time.Sleep(2 * saveWithin)
		synctest.Wait()
		b.config.Origin = keys.Digest{1}
		again(b)
		b.of(known, "", atOnce)
		b.of(offline, "under other settings", time.Second)
	})
	run("a certificate that ended meanwhile", func(b *bench, path string) {
		b.config.Grace = 1000 * 24 * time.Hour
		again(b)
		b.of(known, "", atOnce)
		time.Sleep(time.Until(year2001))
		again(b)
		b.of(known, unknown, time.Second)
	})
	run("a clock that was set back", func(b *bench, path string) {
		b.config.Now = func() time.Time { return time.Now().Add(-1000 * time.Hour) }
		again(b)
		b.of(known, "", atOnce)
		time.Sleep(b.config.Grace + time.Second)
		b.of(known, "longer ago than ca.grace allows", atOnce)
	})
	run("a file that is missing, damaged or cut", func(b *bench, path string) {
		b.v.Close()
		whole, err := os.ReadFile(path)
		if err != nil {
			b.t.Fatal(err)
		}
		b.p.says(down, 0)
		try := func(what string, data []byte, words string) {
			b.t.Helper()
			if err := os.WriteFile(path, data, 0o600); err != nil {
				b.t.Fatal(err)
			}
			b.log.Reset()
			v := New(b.config)
			defer v.Close()
			if len(v.known) != 0 || !strings.Contains(b.log.String(), words) || !strings.Contains(b.log.String(), `"warn"`) {
				b.t.Errorf("%s: %d verdicts, the log says %s", what, len(v.known), b.log.String())
			}
		}
		for i := range whole {
			bad := bytes.Clone(whole)
			bad[i] ^= 1
			try(fmt.Sprintf("byte %d flipped", i), bad, "damaged")
		}
		for i := range whole {
			try(fmt.Sprintf("cut after %d bytes", i), whole[:i], "damaged")
		}
		try("more behind it", append(bytes.Clone(whole), 0), "damaged")
		try("enormous", make([]byte, maxFile+1), "want a file of at most")
		if err := os.Remove(path); err != nil {
			b.t.Fatal(err)
		}
		b.log.Reset()
		b.open()
		if b.of(known, unknown, time.Second); !strings.Contains(b.log.String(), "nothing is kept") {
			b.t.Errorf("the log says %s", b.log.String())
		}
	})
}
