package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/transport/simnet"
)

// agreed returns both sides of an inner layer.
func agreed(t *testing.T, b *binding) (client, server *inner) {
	t.Helper()
	var own [2]*keys.Agreement
	for i := range own {
		var err error
		if own[i], err = keys.NewAgreement(); err != nil {
			t.Fatal(err)
		}
	}
	client, err1 := newInner(keys.GM(), own[0], own[1].Point(), b, roleClient)
	server, err2 := newInner(keys.GM(), own[1], own[0].Point(), b, roleServer)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// TestInnerPlace: what is sealed opens on the other side, in its own place alone.
func TestInnerPlace(t *testing.T) {
	client, server := agreed(t, &binding{exporter: [32]byte{7}})
	vote := []byte("commit 17")
	sealed := client.seal(4, 2, byte(Consensus), vote)
	if bytes.Contains(sealed, vote[:4]) || len(sealed) != server.most(len(vote)) {
		t.Errorf("%q is sealed as %q", vote, sealed)
	}
	if opened, err := server.open(4, 2, byte(Consensus), bytes.Clone(sealed)); err != nil || !bytes.Equal(opened, vote) {
		t.Errorf("opened %q, %v", opened, err)
	}
	for name, open := range map[string]func(m []byte) ([]byte, error){
		"another stream":       func(m []byte) ([]byte, error) { return server.open(8, 2, byte(Consensus), m) },
		"another number":       func(m []byte) ([]byte, error) { return server.open(4, 1, byte(Consensus), m) },
		"another protocol":     func(m []byte) ([]byte, error) { return server.open(4, 2, byte(Status), m) },
		"its sender":           func(m []byte) ([]byte, error) { return client.open(4, 2, byte(Consensus), m) },
		"cut short":            func(m []byte) ([]byte, error) { return server.open(4, 2, byte(Consensus), m[:len(m)-1]) },
		"less than a tag":      func(m []byte) ([]byte, error) { return server.open(4, 2, byte(Consensus), m[:3]) },
		"without the layer":    func([]byte) ([]byte, error) { return server.open(4, 2, byte(Consensus), bytes.Clone(vote)) },
		"of another agreement": func(m []byte) ([]byte, error) { _, s := agreed(t, &binding{}); return s.open(4, 2, 1, m) },
		"a bit flipped":        func(m []byte) ([]byte, error) { m[5] ^= 4; return server.open(4, 2, byte(Consensus), m) },
	} {
		if opened, err := open(bytes.Clone(sealed)); err == nil {
			t.Errorf("%s: it opens as %q", name, opened)
		}
	}
}

// sealing returns a chain of n nodes that have the inner layer.
func sealing(t testing.TB, n int) *chain {
	c := newChainOf(t, keys.GM(), n)
	c.change = func(_ int, config *Config) { config.Inner = true }
	return c
}

// TestInner sends messages of all sizes both ways between nodes with the inner layer, on a network that loses packets.
func TestInner(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		network.SetConditions(simnet.Conditions{Loss: 0.02})
		c := sealing(t, 2).onSimnet(network)
		random := mathrand.NewChaCha8([32]byte{1})
		var (
			mu      sync.Mutex
			arrived = map[string]int{}
			members []*member
		)
		for i := range 2 {
			members = append(members, c.start(i, func(e *Endpoint) {
				note := func(_ identity.NodeID, m []byte) {
					mu.Lock()
					defer mu.Unlock()
					arrived[fmt.Sprint(i)+string(m)]++
				}
				e.Handle(Consensus, note)
				e.Handle(TxGossip, note)
				e.HandleRequest(BlockSync, func(_ context.Context, _ identity.NodeID, m []byte) ([]byte, error) {
					if len(m) == 1 {
						return nil, fmt.Errorf("no block %d", m[0])
					}
					return bytes.Repeat(m, 70), nil
				})
			}))
		}
		connected(t, members...)
		sent := 0
		for i, from := range members {
			to := members[1-i]
			for _, size := range []int{0, 1, 15, 16, 250, 300, copied - 1, copied, copied + 1, copied + 17, Consensus.MaxMessage()} {
				for _, p := range []Protocol{Consensus, TxGossip} {
					m := make([]byte, size)
					random.Read(m) //nolint:errcheck // never fails
					if err := from.Send(to.Self(), p, append(m, byte(p))[min(size, 1):]); err != nil {
						t.Fatal(err)
					}
					sent++
				}
			}
			for _, size := range []int{0, 2, 1 << 10, BlockSync.MaxMessage()} {
				m := make([]byte, size)
				random.Read(m) //nolint:errcheck // never fails
				if answer, err := from.Request(t.Context(), to.Self(), BlockSync, m); err != nil || !bytes.Equal(answer, bytes.Repeat(m, 70)) {
					t.Errorf("a request of %d bytes is answered with %d, %v", size, len(answer), err)
				}
			}
			if _, err := from.Request(t.Context(), to.Self(), BlockSync, []byte{9}); err == nil || !strings.HasSuffix(err.Error(), "peer answered: no block 9") {
				t.Errorf("the error of a handler arrives as %v", err)
			}
		}
		eventually(t, "all messages arrive", func() bool {
			mu.Lock()
			defer mu.Unlock()
			n := 0
			for _, times := range arrived {
				n += times
			}
			return n >= sent
		})
		if len(arrived) != sent-4 { // the first two of each protocol are the same
			t.Errorf("%d different messages arrived, of %d", len(arrived), sent)
		}
	})
}

// TestInnerHostile: a member that proved its identity and then sends something else than it agreed to is cut off.
func TestInnerHostile(t *testing.T) {
	c := sealing(t, 2).onLoopback()
	var votes counter
	a := c.start(0, nil)
	b := c.start(1, func(e *Endpoint) { e.Handle(Consensus, votes.handle) })
	connected(t, a, b)
	other, _ := agreed(t, &binding{})
	a.peer(b.Self()).link(ClassConsensus).who.inner.out = other.out
	if err := a.Send(b.Self(), Consensus, []byte("vote")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is closed", func() bool {
		for p := range a.Peers() {
			if p.LastError == "closed by the other node: protocol consensus: "+errSealed.Error() {
				return true
			}
		}
		return false
	})
	connected(t, a, b) // they agree anew
	if err := a.Send(b.Self(), Consensus, []byte("vote")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the vote of the new connection arrives", func() bool { return votes.len() == 1 })
}

// BenchmarkInner compares sealing a message and opening it with the layer to the pair of connections without.
func BenchmarkInner(b *testing.B) {
	for _, size := range []int{220, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			own, err := keys.NewAgreement()
			if err != nil {
				b.Fatal(err)
			}
			x, err := newInner(keys.GM(), own, own.Point(), &binding{}, roleClient)
			if err != nil {
				b.Fatal(err)
			}
			x.in = x.out
			m := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := x.open(quic.StreamID(2), 0, 1, x.seal(2, 0, 1, m)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
