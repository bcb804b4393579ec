package group

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// faraway is a signer that is shown what it signs.
type faraway struct {
	keys.Signer
	node *testNode
	err  error // what it answers with; nil: signatures
	hang int64 // ms that it takes to answer with an error
	lost error // a statement that it was shown sooner than the node could not forget it any more
}

func (*faraway) Sign(keys.Digest) ([]byte, error) {
	return nil, errors.New("this signer signs no digests")
}

func (f *faraway) SignMessage(thing string, message []byte) ([]byte, error) {
	if f.err != nil {
		f.node.busy = max(f.node.busy, f.hang)
		return nil, f.err
	}
	_, _, st, err := ledger.ParseStatement(message)
	if err != nil {
		return nil, err
	}
	if st.Kind != ledger.Heartbeat {
		disk := f.node.fs.Clone()
		disk.Crash(nil)
		j, err := openJournal(disk, "data", 0)
		if err != nil {
			return nil, err
		}
		if _, err := j.guard.allow(rival(st)); !errors.Is(err, doublesign.Err) {
			f.lost = errors.Join(f.lost, fmt.Errorf("a crash would make it forget the %s at height %d", st.Kind, st.Height))
		}
	}
	return f.Signer.Sign(keys.Hash(f.node.suite, thing, message))
}

// remote puts the key of a node behind a signer that is elsewhere.
func (n *testNode) remote() *faraway {
	f := &faraway{Signer: n.key, node: n}
	n.key = f
	return f
}

// trickle submits a transaction at a node that never fails, ten times a second.
func (w *world) trickle(milli int64) {
	for at := int64(0); at < milli; at += 100 {
		raw := w.tx(uint64(1<<20+at), 600_000).Raw
		w.nodes[1].on(at, func() { w.nodes[1].group.Offer(raw, func(ledger.TxID, error) {}) })
	}
}

func TestSignerElsewhere(t *testing.T) {
	t.Run("it is asked when the node cannot forget any more what it asked", func(t *testing.T) {
		w := newWorld(t, 4)
		signer := w.nodes[0].remote()
		w.start(0, 1, 2, 3)
		w.trickle(2_000)
		w.reach(5)
		if signer.lost != nil {
			t.Error(signer.lost)
		}
	})
	t.Run("while it is away the node follows, and votes again after that", func(t *testing.T) {
		w := newWorld(t, 4)
		signer := w.nodes[0].remote()
		w.start(0, 1, 2, 3)
		w.trickle(60_000)
		w.reach(3)
		signer.err = fmt.Errorf("dial: %w", keys.ErrAway)
		w.reach(w.height() + 20) // node 0 leads at first, so the others replace it
		n := w.nodes[0]
		if err := n.group.Status().Muted; !errors.Is(err, keys.ErrAway) || n.group.Stopped() != nil {
			t.Errorf("it is muted with %v and stopped with %v, want ErrAway and nil", err, n.group.Stopped())
		}
		if waiting := len(n.group.unsigned); waiting > maxUnsigned {
			t.Errorf("%d statements wait, at most %d", waiting, maxUnsigned)
		}
		signer.err = nil
		w.nodes[3].crash() // now no quorum is without it
		w.reach(w.height() + 5)
		if err := n.group.Status().Muted; err != nil {
			t.Errorf("it is still muted: %v", err)
		}
		w.noAlarms()
	})
	t.Run("while it hangs the node follows no later than others", func(t *testing.T) {
		w := newWorld(t, 4)
		signer := w.nodes[0].remote()
		w.start(0, 1, 2, 3)
		w.trickle(60_000)
		w.reach(3)
		signer.err, signer.hang = fmt.Errorf("dial: %w", keys.ErrAway), 2_000
		w.reach(w.height() + 5) // until somebody else leads
		began := w.now
		w.reach(w.height() + 10) // a transaction comes every 100 ms
		if took := w.now - began; took > 2*signer.hang {
			t.Errorf("ten blocks took %d ms of virtual time", took)
		}
		signer.err = nil
		w.nodes[3].crash()
		w.reach(w.height() + 5)
		w.noAlarms()
	})
	t.Run("one that signed otherwise before stops the node", func(t *testing.T) {
		w := newWorld(t, 4)
		signer := w.nodes[0].remote()
		w.start(0, 1, 2, 3)
		w.trickle(60_000)
		w.reach(3)
		signer.err = doublesign.Refuse(ledger.Statement{Kind: ledger.Prepare}, "another order was signed before")
		w.run(60_000, func() bool { return w.nodes[0].group.Stopped() != nil })
		if err := w.nodes[0].group.Stopped(); !errors.Is(err, doublesign.Err) {
			t.Errorf("it is stopped with %v, want what the signer said", err)
		}
	})
}

// TestNoteSigner tells of looks at whether the signer answers. Whatever the log says of one that does not has its end there, and the status says which it is.
func TestNoteSigner(t *testing.T) {
	const (
		gone  = "the signer does not answer: this member cannot vote on the next block"
		mute  = "this member does not vote until its signer answers"
		back  = "the signer answers again"
		votes = "the signer answers again: this member votes"
	)
	away := fmt.Errorf("dial: %w", keys.ErrAway)
	for _, c := range []struct {
		story string
		tell  func(w *world, n *testNode, signer *faraway)
		logs  []string
	}{
		{"it is gone, and a look finds it again", func(_ *world, n *testNode, _ *faraway) {
			n.group.NoteSigner(away)
			n.group.NoteSigner(away)
			if err := n.group.Status().Muted; !errors.Is(err, keys.ErrAway) {
				t.Errorf("while it is gone the member is muted with %v", err)
			}
			n.group.NoteSigner(nil)
			n.group.NoteSigner(nil)
		}, []string{gone, back}},
		{"it is gone, and signs a vote before the next look", func(w *world, n *testNode, _ *faraway) {
			n.group.NoteSigner(away)
			w.reach(w.height() + 5)
			n.group.NoteSigner(nil)
		}, []string{gone, votes}},
		{"votes find that it is gone before a look does", func(w *world, n *testNode, signer *faraway) {
			signer.err = away
			w.reach(w.height() + 20)
			n.group.NoteSigner(away)
			signer.err = nil
			w.nodes[3].crash() // now no quorum is without it
			w.reach(w.height() + 5)
			n.group.NoteSigner(nil)
		}, []string{mute, votes}},
	} {
		t.Run(c.story, func(t *testing.T) {
			w := newWorld(t, 4)
			signer := w.nodes[0].remote()
			w.start(0, 1, 2, 3)
			w.trickle(60_000)
			w.reach(3)
			n := w.nodes[0]
			var lines bytes.Buffer
			n.group.log = zerolog.New(&lines)
			c.tell(w, n, signer)
			var logs []string
			for line := range strings.Lines(lines.String()) {
				if strings.Contains(line, "signer") {
					_, text, _ := strings.Cut(line, `"message":"`)
					logs = append(logs, strings.TrimSuffix(text, "\"}\n"))
				}
			}
			if !slices.Equal(logs, c.logs) {
				t.Errorf("it logs %q, want %q", logs, c.logs)
			}
			if err := n.group.Status().Muted; err != nil {
				t.Errorf("in the end the member is muted with %v", err)
			}
		})
	}
}
