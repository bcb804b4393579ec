package group

import (
	"errors"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/raft"
	"github.com/fondaco/fondaco/state/ledger"
)

// newRaftWorld makes a world whose members trust one another.
func newRaftWorld(t testing.TB, members, observers int) *world {
	w := newWorld(t, members)
	w.genesis.Engine, w.genesis.Trust = ledger.RaftEngine, true
	w.observe(observers)
	for _, n := range w.nodes {
		n.engine = raft.New
	}
	return w
}

// attested checks that attestations of a majority make a node's blocks final, and nothing else.
func (n *testNode) attested(members int) {
	n.t.Helper()
	for _, b := range n.blocks {
		if c := b.Certificate; c.Statement.Kind != ledger.Attest || c.Count() < members/2+1 {
			n.t.Errorf("node %d: block %d has %d %s statements", n.number, b.Header.Order.Height, c.Count(), c.Statement.Kind)
		}
	}
	for _, st := range n.signed {
		if st.Kind != ledger.Attest {
			n.t.Errorf("node %d signed a %s", n.number, st.Kind)
		}
	}
}

// leader returns the number of the node that leads, once there is one.
func (w *world) leader() int {
	w.t.Helper()
	at := -1
	if !w.run(60_000, func() bool {
		for _, n := range w.nodes {
			if s := n.group; n.up && s.Status().Number >= 0 && s.Status().Consensus.Leader == s.Status().Number {
				at = n.number
				return true
			}
		}
		return false
	}) {
		w.t.Fatal("nobody leads")
	}
	return at
}

// TestRaftLeaderCrashesUnderLoad has the leader crash at blocks that lie differently in the ticks of the others. A member campaigns
// after 8 to 15 ticks of 50 ms without a leader, and if two do so at once, again after as many: few crashes cost that, and none more.
func TestRaftLeaderCrashesUnderLoad(t *testing.T) {
	const campaign, twice = 15 * 50, 1_200
	quick := 0
	for _, height := range []ledger.Height{5, 8, 11, 14, 17, 20} {
		took := raftLeaderCrashes(t, height)
		if took > twice {
			t.Errorf("after block %d, %d ms passed without the leader until blocks were made again, want at most %d", height, took, twice)
		}
		if took <= campaign+150 {
			quick++
		}
	}
	if quick == 0 {
		t.Error("none of the crashes cost a single campaign")
	}
}

// raftLeaderCrashes has the leader crash after a block and come back, and returns for how many ms there were no blocks.
func raftLeaderCrashes(t *testing.T, height ledger.Height) int64 {
	w := newRaftWorld(t, 4, 1)
	w.start(0, 1, 2, 3, 4)
	first := w.leader()
	l := &load{world: w, at: (first + 1) % 4}
	l.begin()
	w.reach(height)
	killed := w.now
	w.nodes[first].crash()
	at := w.nodes[l.at].store.Head().Height()
	w.reach(at + 3)
	took := w.now - killed
	w.start(first)
	w.reach(at + 10)
	l.settled(0, 1, 2, 3, 4)
	if n := w.nodes[first]; !slices.ContainsFunc(n.signed, func(st ledger.Statement) bool { return st.Height > at+3 }) {
		t.Error("the leader that came back attests nothing")
	}
	for _, n := range w.nodes {
		n.attested(4)
	}
	w.noAlarms()

	t.Run("certificates of commit votes and of two members prove nothing", func(t *testing.T) {
		g := w.nodes[0].group
		st := w.nodes[0].blocks[0].Certificate.Statement
		commit := st
		commit.Kind = ledger.Commit
		for _, c := range []ledger.Certificate{w.certificate(commit, 0, 1, 2, 3), w.certificate(st, 0, 1)} {
			data := mustMarshal(&packet{Message: consensus.Message{Certificates: []ledger.Certificate{c}}})
			if err := g.receiveMessage(1, data); !errors.Is(err, ledger.ErrCertificate) {
				t.Errorf("%d %s statements: %v, want ErrCertificate", c.Count(), c.Statement.Kind, err)
			}
		}
		data := mustMarshal(&packet{Message: consensus.Message{Certificates: []ledger.Certificate{w.certificate(st, 0, 1, 3)}}})
		if err := g.receiveMessage(1, data); err != nil {
			t.Errorf("three attestations: %v", err)
		}
	})
	return took
}

func TestRaftMembersChangeUnderLoad(t *testing.T) {
	w := newRaftWorld(t, 3, 1)
	w.start(0, 1, 2, 3)
	first := w.leader()
	other := (first + 1) % 3
	l := &load{world: w, at: other}
	l.begin()
	w.reach(5) // the observer follows

	w.nodes[other].mustOffer(w.activation(1<<40, 0, 1, 2, 3))
	w.inEpoch(1, 0, 1, 2, 3)
	if !w.run(60_000, func() bool {
		return slices.ContainsFunc(w.nodes[3].signed, func(st ledger.Statement) bool { return st.Epoch == 1 })
	}) {
		t.Fatal("the node that joined attests nothing")
	}

	// The leader leaves, and the others have other numbers.
	leaves := w.leader()
	stay := []uint32{3, 2, 1, 0}
	stay = slices.DeleteFunc(stay, func(i uint32) bool { return int(i) == leaves })
	w.nodes[other].mustOffer(w.activation(2<<40, stay...))
	w.inEpoch(2, 0, 1, 2, 3)
	signed := len(w.nodes[leaves].signed)
	w.reach(w.nodes[other].store.Head().Height() + 5)
	if len(w.nodes[leaves].signed) != signed {
		t.Error("the node that left still signs")
	}

	// A member that loses its journal follows, and takes part again in an epoch that begins later.
	lost := int(stay[0])
	if lost == l.at {
		lost = int(stay[1])
	}
	w.nodes[lost].crash()
	file := must(w.nodes[lost].fs.Open("data/journal", true))
	if err := errors.Join(file.Truncate(0), file.Sync(), file.Close()); err != nil {
		t.Fatal(err)
	}
	w.nodes[lost].signed = nil
	w.start(lost)
	w.reach(w.nodes[other].store.Head().Height() + 5)
	if n := w.nodes[lost]; len(n.signed) > 0 || !errors.Is(n.group.Status().Muted, ErrJournalLost) {
		t.Errorf("without its journal it attested %d blocks; %v", len(n.signed), n.group.Status().Muted)
	}
	w.reach(w.nodes[other].store.Head().Height() + maxRecovered + 1) // an epoch that begins sooner may have begun before the loss
	w.nodes[other].mustOffer(w.activation(3<<40, stay...))
	w.inEpoch(3, 0, 1, 2, 3)
	if !w.run(60_000, func() bool { return len(w.nodes[lost].signed) > 0 }) {
		t.Error("in the next epoch it still attests nothing")
	}
	l.settled(0, 1, 2, 3)
	for _, n := range w.nodes {
		n.attested(3)
	}
	w.noAlarms()
}

// TestRaftClock: a leader whose clock is an hour off cannot have its blocks taken, steps aside, and the others go on.
func TestRaftClock(t *testing.T) {
	w := newRaftWorld(t, 4, 0)
	w.start(0, 1, 2, 3)
	wrong := w.leader()
	w.nodes[wrong].skew = 3_600_000
	at := (wrong + 1) % 4
	w.nodes[at].mustOffer(w.tx(1, 60_000))
	w.reach(1)
	if now := w.leader(); now == wrong {
		t.Errorf("node %d, whose clock is off, still leads", now)
	}
	ahead := w.nodes[at].store.Head().Header().Order.UnixMilli - begins - w.now
	if ahead > ledger.DefaultParams().ClockSkew {
		t.Errorf("block time is %d ms ahead", ahead)
	}
	w.noAlarms()
}

// TestRaftLeaves counts the requests that followers need besides: the leaf digests come with the proposal.
func TestRaftLeaves(t *testing.T) {
	w := newRaftWorld(t, 4, 0)
	asked := 0
	w.hook = func(_, _ int, p Protocol, m []byte) []byte {
		if p == Leaves {
			asked++
		}
		return m
	}
	w.start(0, 1, 2, 3)
	l := w.leader()
	for i := range uint64(10) {
		w.nodes[l].mustOffer(w.tx(i, 60_000))
		w.reach(ledger.Height(i + 1))
	}
	if asked > 0 {
		t.Errorf("followers asked %d times for the leaves of 10 blocks", asked)
	}
}

// TestRaftMuteSaysNothing: of three members, two make a block final, then one of these stops and the other loses its disk,
// in an epoch that it enters anew. Its votes and answers in that epoch are not signed, so more than its signatures must stop:
// together with the member that missed the block it would be a majority that undoes it.
func TestRaftMuteSaysNothing(t *testing.T) {
	w := newRaftWorld(t, 3, 0)
	w.start(0, 1, 2)
	w.nodes[w.leader()].mustOffer(w.activation(1, 0, 1, 2))
	w.inEpoch(1, 0, 1, 2)
	w.run(1_000, func() bool { return false })
	leader := w.leader()
	missed, lost := w.nodes[(leader+1)%3], w.nodes[(leader+2)%3]
	apart, said := true, 0
	w.hook = func(from, to int, p Protocol, m []byte) []byte {
		if apart && (from == missed.number || to == missed.number) {
			return nil
		}
		if !apart && from == lost.number && p == Consensus {
			said++
		}
		return m
	}
	w.nodes[leader].mustOffer(w.tx(2, 60_000))
	if !w.run(10_000, func() bool { return lost.store.Head().Height() == 2 }) {
		t.Fatal("two of three make no block")
	}
	w.nodes[leader].crash()
	lost.loseDisk()
	apart = false
	w.start(lost.number)
	w.inEpoch(1, lost.number, missed.number)
	missed.mustOffer(w.tx(3, 60_000))
	w.run(10_000, func() bool { return false })
	if said > 0 || lost.group.Status().Muted == nil || missed.store.Head().Height() != 1 {
		t.Errorf("it said %d things, muted: %v; the other is at height %d, want 1", said, lost.group.Status().Muted, missed.store.Head().Height())
	}
	w.start(leader)
	w.reach(3)
	if s := lost.group.Status(); !s.Engine || said > 0 {
		t.Errorf("with the leader back it follows with its engine: %t, and said %d things", s.Engine, said)
	}
	w.noAlarms()
}

// TestRaftLacksBlocks: a member with its journal and older blocks keeps what it acknowledged, and does not lead before it has
// the blocks: of three members with the leader gone, the other one leads, and the two make blocks.
func TestRaftLacksBlocks(t *testing.T) {
	w := newRaftWorld(t, 3, 0)
	w.start(0, 1, 2)
	first := w.leader()
	n, other := w.nodes[(first+1)%3], w.nodes[(first+2)%3]
	backup := n.fs.Clone()
	for h := range ledger.Height(10) {
		other.mustOffer(w.tx(uint64(h), 10_000))
		w.reach(h + 1)
	}
	w.nodes[first].crash()
	other.crash()
	n.crash()
	n.takeBlocks(backup)
	w.start(n.number)
	signed := len(n.signed)
	w.run(20_000, func() bool { return false }) // it would stand long before
	w.start(other.number)
	if leader := w.leader(); leader != other.number || n.store.Head().Height() != 0 {
		t.Errorf("node %d leads, want %d, which has the blocks; node %d is at height %d", leader, other.number, n.number, n.store.Head().Height())
	}
	n.mustOffer(w.tx(100, 60_000))
	w.reach(11)
	if !slices.ContainsFunc(n.signed[signed:], func(st ledger.Statement) bool { return st.Height == 11 }) {
		t.Error("the member that lacked blocks attests nothing")
	}
	w.start(first)
	w.reach(11)
	w.noAlarms()
}
