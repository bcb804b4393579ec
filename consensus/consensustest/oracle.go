package consensustest

import (
	"fmt"
	"maps"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Oracle knows every statement that was signed and every block that became final, across crashes, and checks
// them: statements against the rules of the double-sign guard, blocks for agreement. Agreement alone is a weak
// test: most mistakes break it only in the rarest schedules.
type Oracle struct {
	net       *Network
	histories map[int]*History
	votes     map[ledger.Statement]map[uint32]bool
	final     map[ledger.Height]Block
	kind      ledger.StatementKind // of the certificates that make blocks final, once the first one showed it
	Found     int                  // pieces of evidence against liars
}

// History is what one honest member has signed so far, across crashes, and the rules that it must keep: those of
// the double-sign guard, written down a second time.
type History struct {
	epoch                         uint64
	proposed, prepared, committed ledger.Statement // the last of each kind
	changed                       ledger.Statement // the highest view change
	attested                      ledger.Statement // the highest attestation
	proposals                     map[ledger.Rank]ledger.Statement
	prepares                      map[ledger.Rank]ledger.Statement
	commits                       map[ledger.Rank]ledger.Statement
	top                           ledger.Rank // of its commit votes
}

func newOracle(n *Network) *Oracle {
	return &Oracle{
		net: n, histories: map[int]*History{}, votes: map[ledger.Statement]map[uint32]bool{},
		final: map[ledger.Height]Block{0: n.genesis},
	}
}

// Height returns the highest final block's height.
func (o *Oracle) Height() ledger.Height { return ledger.Height(len(o.final) - 1) }

// voted notes a vote of any member.
func (o *Oracle) voted(v ledger.Vote) {
	if o.votes[v.Statement] == nil {
		o.votes[v.Statement] = map[uint32]bool{}
	}
	o.votes[v.Statement][v.Signer] = true
}

// signed checks a statement of an honest member against all that it signed before.
func (o *Oracle) signed(x *Node, st ledger.Statement) {
	h := o.histories[x.Member]
	if h == nil {
		h = NewHistory()
		o.histories[x.Member] = h
	}
	if err := h.Check(st); err != nil {
		o.net.fail("member %d signs %s: %w", x.Member, Describe(st), err)
		return
	}
	if st.Kind == ledger.Commit && !o.net.CrashOnly && !o.certified(st) {
		o.net.fail("member %d signs %s: no quorum prepared it", x.Member, Describe(st))
		return
	}
	h.Note(st)
}

// NewHistory returns the history of a member that signed nothing.
func NewHistory() *History {
	return &History{
		proposals: map[ledger.Rank]ledger.Statement{}, prepares: map[ledger.Rank]ledger.Statement{},
		commits: map[ledger.Rank]ledger.Statement{},
	}
}

// Check says which rule the member would break with a statement.
func (h *History) Check(st ledger.Statement) error {
	last := func(what string, old ledger.Statement, all map[ledger.Rank]ledger.Statement) error {
		if same, ok := all[st.Rank()]; ok {
			if same != st {
				return fmt.Errorf("it signed %s before", Describe(same))
			}
			return nil
		}
		if old.Kind != 0 && st.Rank().Compare(old.Rank()) <= 0 {
			return fmt.Errorf("its last %s was %s", what, Describe(old))
		}
		return nil
	}
	if st.Epoch != h.epoch {
		if st.Epoch < h.epoch {
			return fmt.Errorf("it signed in epoch %d before", h.epoch)
		}
		return nil
	}
	if st.Kind == ledger.Attest {
		if h.attested.Kind != 0 && st != h.attested && st.Height <= h.attested.Height {
			return fmt.Errorf("it signed %s before", Describe(h.attested))
		}
		return nil
	}
	if h.changed.Kind != 0 && st.View < h.changed.View {
		return fmt.Errorf("it left that view with %s", Describe(h.changed))
	}
	switch st.Kind {
	case ledger.Propose:
		return last("proposal", h.proposed, h.proposals)
	case ledger.Prepare:
		return last("prepare vote", h.prepared, h.prepares)
	case ledger.Commit:
		return last("commit vote", h.committed, h.commits)
	case ledger.ViewChange:
		if st.View == h.changed.View && st != h.changed {
			return fmt.Errorf("it signed %s before", Describe(h.changed))
		}
		for _, old := range []ledger.Statement{h.proposed, h.prepared, h.committed} {
			if old.Kind != 0 && old.View >= st.View && st != h.changed {
				return fmt.Errorf("it signed %s in that view or a later one", Describe(old))
			}
		}
		if st.High.Compare(h.top) < 0 && st != h.changed {
			return fmt.Errorf("it signed a commit vote of rank %d/%d", h.top.View, h.top.Height)
		}
	default:
	}
	return nil
}

// Note adds a statement that the member signed.
func (h *History) Note(st ledger.Statement) {
	if st.Epoch > h.epoch {
		*h = *NewHistory()
		h.epoch = st.Epoch
	}
	switch st.Kind {
	case ledger.Propose:
		h.proposed, h.proposals[st.Rank()] = st, st
	case ledger.Prepare:
		h.prepared, h.prepares[st.Rank()] = st, st
	case ledger.Commit:
		h.committed, h.commits[st.Rank()] = st, st
		if st.Rank().Compare(h.top) > 0 {
			h.top = st.Rank()
		}
	case ledger.ViewChange:
		h.changed = st
	case ledger.Attest:
		h.attested = st
	default: // heartbeats bind nobody
	}
}

// clone returns a history that goes on by itself.
func (h *History) clone() *History {
	c := *h
	c.proposals, c.prepares, c.commits = maps.Clone(h.proposals), maps.Clone(h.prepares), maps.Clone(h.commits)
	return &c
}

// certified reports whether a quorum prepared the order of a commit vote, or one above it in the same view.
func (o *Oracle) certified(commit ledger.Statement) bool {
	prepare := commit
	prepare.Kind, prepare.Block = ledger.Prepare, keys.Digest{}
	quorum := ledger.Quorum(o.net.Members)
	if len(o.votes[prepare]) >= quorum {
		return true
	}
	for st, voters := range o.votes {
		if st.Kind == ledger.Prepare && st.Epoch == commit.Epoch && st.View == commit.View && st.Height > commit.Height && len(voters) >= quorum {
			return true
		}
	}
	return false
}

// stored checks a block that became durable at a node.
func (o *Oracle) stored(x *Node, b Block) {
	if x.Liar {
		return
	}
	height := b.Head.Order.Height
	c := b.Head.Certificate.Statement
	if o.kind == 0 && (c.Kind == ledger.Commit || c.Kind == ledger.Attest) {
		o.kind = c.Kind
	}
	quorum := o.kind.Quorum(o.net.Members)
	if c.Kind != o.kind || len(o.votes[c]) < quorum || b.Head.Certificate.Count() < quorum {
		o.net.fail("node %d: block %d has no quorum of %s statements", x.ID, height, o.kind)
		return
	}
	old, known := o.final[height]
	if !known {
		o.final[height] = b
		return
	}
	if old.Head.Block != b.Head.Block || old.Head.Order.Hash(o.net.suite) != b.Head.Order.Hash(o.net.suite) {
		o.net.fail("node %d: two final blocks at height %d", x.ID, height)
	}
}

// evidence checks that nobody is accused without guilt.
func (o *Oracle) evidence(x *Node, ef consensus.Evidence) {
	if x.Liar {
		return
	}
	for _, node := range o.net.nodes {
		if node.Member == int(ef.A.Signer) && !node.Liar {
			o.net.fail("node %d accuses honest member %d: %s, %s", x.ID, ef.A.Signer, Describe(ef.A.Statement), Describe(ef.B.Statement))
		}
	}
	if ef.A.Signer != ef.B.Signer || ef.A.Statement == ef.B.Statement {
		o.net.fail("node %d shows evidence that proves nothing", x.ID)
	}
	o.Found++
}
