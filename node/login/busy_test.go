package login

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// bureau is a CA provider that takes its time for an answer.
type bureau struct {
	ca.Provider
	mu      sync.Mutex // guards what follows
	takes   time.Duration
	down    bool
	revoked map[string]bool // by common name
	now     int             // questions that are with it
	most    int             // of them at a time, ever
}

func (b *bureau) Verify(ctx context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	b.mu.Lock()
	b.now++
	b.most = max(b.most, b.now)
	takes, down := b.takes, b.down
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.now--
	}()
	if down {
		return ca.VerifyResponse{}, ca.ErrDown
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ca.VerifyResponse{}, ctx.Err()
	}
	leaf, err := x509.ParseCertificate(r.Chain[0])
	if err != nil {
		return ca.VerifyResponse{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch name := leaf.Subject.CommonName; {
	case strings.HasPrefix(name, "stranger"):
		return ca.VerifyResponse{Refusal: ca.Refuse(ca.UnknownRoot, "it leads to no root")}, nil
	case b.revoked[name]:
		return ca.VerifyResponse{Refusal: ca.Refuse(ca.Revoked, "%s was revoked", name)}, nil
	}
	return ca.VerifyResponse{Holder: &ca.Holder{
		Institution: "bank", Roles: []identity.Role{identity.User}, Serial: "01", NotAfter: leaf.NotAfter.UnixMilli(),
		Key: ledger.Key{Algorithm: keys.Ed25519, Bytes: leaf.PublicKey.(ed25519.PublicKey)},
	}}, nil
}

func (b *bureau) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// chainOf returns a certificate with a name.
func chainOf(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	one, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{one}
}

// atBureau runs a story in virtual time, with certificates of which a bureau is asked.
func atBureau(t *testing.T, story func(t *testing.T, b *bureau, c *certificates)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bureau{revoked: map[string]bool{}, takes: 10 * time.Millisecond}
		c := newCertificates(&Gate{trouble: map[string]string{}, config: Config{Name: "api", Provider: b, Suite: keys.Std(), Log: zerolog.Nop(), Now: time.Now}})
		defer c.close()
		story(t, b, c)
	})
}

// shows returns what is said to who shows a chain: nothing if it counts, and how long that took.
func (c *certificates) shows(chain []*x509.Certificate) (reason Reason, words string, took time.Duration) {
	began := time.Now()
	_, reason, err := c.judge(context.Background(), chain)
	if p, ok := errors.AsType[*client.Problem](err); ok {
		words = p.Detail
	}
	return reason, words, time.Since(began)
}

// welcome and refused say what is wanted of an answer to who shows a chain.
func welcome(t *testing.T, c *certificates, chain []*x509.Certificate) {
	t.Helper()
	if reason, words, _ := c.shows(chain); reason != "" {
		t.Errorf("%s: %s %s, want a welcome", chain[0].Subject.CommonName, reason, words)
	}
}

func refused(t *testing.T, c *certificates, chain []*x509.Certificate, want Reason, part string) {
	t.Helper()
	if reason, words, _ := c.shows(chain); reason != want || !strings.Contains(words, part) {
		t.Errorf("%s: %q %s, want %s and %q", chain[0].Subject.CommonName, reason, words, want, part)
	}
}

// TestSlowProvider has a provider that takes longer than a request waits: what it says counts from when it says it.
func TestSlowProvider(t *testing.T) {
	alice := chainOf(t, "alice")
	atBureau(t, func(t *testing.T, b *bureau, c *certificates) {
		welcome(t, c, alice)
		b.set(func() { b.takes, b.revoked["alice"] = 5*time.Second, true })
		time.Sleep(askAgain)
		welcome(t, c, alice) // it waited, and the last word counts for a while
		time.Sleep(5 * time.Second)
		refused(t, c, alice, Unable, "has not said in time") // nothing is kept of it, and it is asked about anew
		time.Sleep(5 * time.Second)
		b.set(func() { delete(b.revoked, "alice") })
		refused(t, c, alice, Unable, "goes on being asked")
		time.Sleep(5 * time.Second)
		welcome(t, c, alice)
		if _, _, took := c.shows(alice); took > 0 {
			t.Errorf("what is known takes %v", took)
		}
	})
}

// TestBusyProvider has strangers keep a slow provider busy, without end: a client whose certificate is revoked meanwhile is found out as soon as if
// they were not there, and others go on.
func TestBusyProvider(t *testing.T) {
	alice, bob := chainOf(t, "alice"), chainOf(t, "bob")
	var strangers [][]*x509.Certificate
	for range 50 {
		strangers = append(strangers, chainOf(t, "stranger"))
	}
	atBureau(t, func(t *testing.T, b *bureau, c *certificates) {
		welcome(t, c, alice)
		welcome(t, c, bob)
		b.set(func() { b.takes, b.revoked["alice"] = time.Second, true })
		over := make(chan struct{})
		var crowd sync.WaitGroup
		for _, s := range strangers {
			crowd.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
						if reason, _, _ := c.shows(s); reason == "" {
							t.Error("a stranger is welcome")
						}
					}
				}
			})
		}
		time.Sleep(askAgain)
		refused(t, c, alice, BadCertificate, "alice was revoked")
		for range 100 {
			welcome(t, c, bob)
			time.Sleep(askAgain / 3)
		}
		close(over)
		crowd.Wait()
		most := 0
		b.set(func() { most = b.most })
		if most > 2*askAtOnce {
			t.Errorf("%d questions at a time, at most %d", most, 2*askAtOnce)
		}
	})
}

// TestCrowdedProvider has many holders of certificates that count, more than a slow provider can be asked about: who was not confirmed in time is sent
// away, and nobody goes on by what was said of him long ago.
func TestCrowdedProvider(t *testing.T) {
	alice := chainOf(t, "alice")
	var others [][]*x509.Certificate
	for range 200 {
		others = append(others, chainOf(t, "other"))
	}
	atBureau(t, func(t *testing.T, b *bureau, c *certificates) {
		welcome(t, c, alice)
		confirmed := time.Now()
		b.set(func() { b.takes = 0 })
		for _, o := range others {
			welcome(t, c, o)
		}
		b.set(func() { b.takes, b.revoked["alice"] = 10*time.Second, true })
		time.Sleep(askAgain)
		over := make(chan struct{})
		var crowd sync.WaitGroup
		for _, o := range others {
			crowd.Go(func() {
				for {
					select {
					case <-over:
						return
					case <-time.After(time.Second):
						c.shows(o)
					}
				}
			})
		}
		for {
			time.Sleep(time.Second)
			since := time.Since(confirmed)
			reason, words, _ := c.shows(alice)
			if reason == "" && since >= keptBusy {
				t.Errorf("a certificate counts that nobody confirmed for %v, while others keep the provider busy", since)
				break
			}
			if reason == Unable && !strings.Contains(words, "goes on being asked: come again") {
				t.Errorf("words that say nothing: %s", words)
			}
			if reason != "" && since >= keptBusy {
				break
			}
		}
		close(over)
		crowd.Wait()
		time.Sleep(answerWithin)
		b.set(func() { b.takes = 0 })
		refused(t, c, alice, BadCertificate, "alice was revoked")
	})
}

// TestOneHolder has one holder show a thousand chains at once, all with the certificate that is his: he is asked about once at a time.
func TestOneHolder(t *testing.T) {
	mallory, alice := chainOf(t, "mallory"), chainOf(t, "alice")
	more := chainOf(t, "more")[0]
	atBureau(t, func(t *testing.T, b *bureau, c *certificates) {
		welcome(t, c, alice)
		welcome(t, c, mallory)
		b.set(func() { b.takes = time.Second })
		time.Sleep(askAgain)
		var crowd sync.WaitGroup
		for i := range 1000 {
			chain := []*x509.Certificate{mallory[0]}
			for range i % ca.MaxChain {
				chain = append(chain, more)
			}
			crowd.Go(func() { c.shows(chain) })
		}
		synctest.Wait()
		b.mu.Lock()
		if b.now != 1 {
			t.Errorf("%d questions about one holder at a time", b.now)
		}
		b.mu.Unlock()
		if reason, _, took := c.shows(alice); reason != "" || took > 2*time.Second {
			t.Errorf("another holder: %q after %v", reason, took)
		}
		crowd.Wait()
		if len(c.known) != 2 {
			t.Errorf("%d verdicts are kept of two holders", len(c.known))
		}
	})
}

// TestProviderAway has a provider that does not run: what it said counts for a while, without anybody having to wait.
func TestProviderAway(t *testing.T) {
	alice := chainOf(t, "alice")
	atBureau(t, func(t *testing.T, b *bureau, c *certificates) {
		welcome(t, c, alice)
		b.set(func() { b.down = true })
		began := time.Now()
		for since := keptBusy; since < keptAtMost; since += 10 * time.Minute {
			time.Sleep(since - time.Since(began))
			welcome(t, c, alice)
		}
		time.Sleep(keptAtMost - time.Since(began))
		refused(t, c, alice, Unable, "cannot be asked")
		b.set(func() { b.down = false })
		welcome(t, c, alice)
	})
}
