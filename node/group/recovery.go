package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Disaster recovery: so many members are gone for good that no quorum is left. The survivors, all stopped, report what
// they helped to agree on; one proposes blocks that continue the chain with all of it and end in a recovery block, which
// begins an epoch without those that are gone; each survivor signs, after which it votes no more in the old epoch; and
// each node's operator applies the result. See consensus/README.md for what that preserves and what it cannot.

// ErrRecover says why a recovery is refused, and what to do next.
var ErrRecover = errors.New("recovery refused")

const (
	recoveryPrefix = "recovery-" // of the files with what the operator applied; the epoch that ended follows
	// MaxRecoverySize bounds the encoding of a report and of a recovery, in bytes: the blocks that can be in flight, and as
	// much again as one transaction of the largest size for the rest.
	MaxRecoverySize = 2*ledger.MaxInFlight + ledger.MaxDeployTxSize
	maxRecovered    = 2*ledger.MaxWindow + 1 // blocks in a recovery
)

func refuseRecovery(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRecover}, args...)...)
}

// Report is what a stopped member knows of the end of its chain: what is final there, and what above it may be final
// elsewhere with its vote.
type Report struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16   // ledger.Version
	Chain       keys.Digest
	Group       ledger.GroupID
	Node        identity.NodeID
	Epoch       uint64        // in force after the head
	Head        ledger.Header // of the last block that is final here
	Certificate ledger.Certificate
	Lost        bool // the node lost its journal in this epoch, so it cannot know what it voted for
	Holding     consensus.Holding
	Txs         [][][]byte // of each block of Holding; none where they are missing
	Signature   []byte     // by the node's key, over all of the above
}

func (r *Report) digest(s keys.Suite) keys.Digest {
	contents := r.contents(s)
	return keys.Hash(s, reportThing, contents[:])
}

// contents returns a digest of the report, which is what is signed: a signer need not be shown all transactions.
func (r *Report) contents(s keys.Suite) keys.Digest {
	unsigned := *r
	unsigned.Signature = nil
	return keys.Hash(s, "recovery-contents", mustMarshal(&unsigned))
}

// reportThing is what keys.Hash takes a report for.
const reportThing = "recovery-report"

// DecodeReport reads a report from its canonical encoding. It checks the form only.
func DecodeReport(raw []byte) (*Report, error) {
	var r Report
	if len(raw) > MaxRecoverySize {
		return nil, fmt.Errorf("a report of %d bytes, at most %d", len(raw), MaxRecoverySize)
	}
	if err := ledger.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	if r.Version != ledger.Version || len(r.Txs) != len(r.Holding.Blocks) {
		return nil, fmt.Errorf("a report of version %d with %d blocks and the transactions of %d", r.Version, len(r.Holding.Blocks), len(r.Txs))
	}
	return &r, nil
}

// Recovery is how a group goes on after a disaster: blocks on top of one that is final, the last of which begins an epoch
// without the members that are gone, and what survivors signed about them.
type Recovery struct {
	_        struct{}           `cbor:",toarray"`
	Version  uint16             // ledger.Version
	Reported []identity.NodeID  // whose reports tell all that they voted for, by the proposer's word
	Holding  ledger.Rank        // of the report whose blocks are kept
	Lock     ledger.Certificate // that shows they may be final; zero if there is none, or with members that do not lie
	Blocks   []ledger.Block     // lowest first; their certificates are made of Votes
	Lacking  []ledger.Order     // of that report, on the kept blocks: given up, since no report has the transactions of the first
	Votes    []ledger.Vote      // recover statements, by height and signer
}

// Last returns the recovery block.
func (r *Recovery) Last() *ledger.Block { return &r.Blocks[len(r.Blocks)-1] }

// DecodeRecovery reads a recovery from its canonical encoding. It checks the form: that the blocks follow one another
// and that the last, and no other, is a recovery block.
func DecodeRecovery(s keys.Suite, raw []byte) (*Recovery, error) {
	if len(raw) > MaxRecoverySize {
		return nil, fmt.Errorf("a recovery of %d bytes, at most %d", len(raw), MaxRecoverySize)
	}
	var r Recovery
	if err := ledger.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	if r.Version != ledger.Version || len(r.Blocks) == 0 || len(r.Blocks)+len(r.Lacking) > maxRecovered {
		return nil, fmt.Errorf("a recovery of version %d with %d blocks and %d that are lacking", r.Version, len(r.Blocks), len(r.Lacking))
	}
	for _, v := range r.Votes {
		if v.Signer >= ledger.MaxMembers {
			return nil, fmt.Errorf("a signature of member %d, and no group has more than %d", v.Signer, ledger.MaxMembers)
		}
	}
	for i := range r.Blocks {
		b, err := ledger.DecodeBlock(mustMarshal(&r.Blocks[i])) // which checks more than the encoding
		if err != nil {
			return nil, err
		}
		if i > 0 {
			if err := blocksync.Follows(s, &r.Blocks[i-1].Header, &b.Header); err != nil {
				return nil, err
			}
		}
		txs, err := b.Decode(s)
		if err != nil {
			return nil, err
		}
		if last := i == len(r.Blocks)-1; last != slices.ContainsFunc(txs, func(tx *ledger.SignedTx) bool { return precompiles.Recovers(&tx.Tx) }) {
			return nil, fmt.Errorf("block %d: the last block of a recovery, and no other, is a recovery block", b.Header.Order.Height)
		}
	}
	return &r, nil
}

// hashes returns the blocks' hashes.
func (r *Recovery) hashes(s keys.Suite) []keys.Digest {
	hashes := make([]keys.Digest, len(r.Blocks))
	for i := range r.Blocks {
		hashes[i] = r.Blocks[i].Header.Hash(s)
	}
	return hashes
}

// Merge adds the signatures of other copies of the same recovery.
func (r *Recovery) Merge(s keys.Suite, others ...*Recovery) error {
	for _, o := range others {
		if own, other := r.hashes(s), o.hashes(s); !slices.Equal(own, other) {
			return refuseRecovery("the files are about two recoveries, %s and %s: all must sign the same one", own[len(own)-1], other[len(other)-1])
		}
		r.Votes = append(r.Votes, o.Votes...)
	}
	slices.SortStableFunc(r.Votes, func(a, b ledger.Vote) int {
		return cmp.Or(cmp.Compare(a.Statement.Height, b.Statement.Height), cmp.Compare(a.Signer, b.Signer))
	})
	r.Votes = slices.CompactFunc(r.Votes, func(a, b ledger.Vote) bool { return a.Statement == b.Statement && a.Signer == b.Signer })
	return nil
}

// contradicts reports whether no chain can have both: they end the same epoch or have blocks of the same height, and differ.
func (r *Recovery) contradicts(s keys.Suite, other *Recovery) bool {
	a, b := r.Last(), other.Last()
	if a.Header.Order.Epoch == b.Header.Order.Epoch && a.Header.Hash(s) != b.Header.Hash(s) {
		return true
	}
	for i := range r.Blocks {
		for j := range other.Blocks {
			x, y := &r.Blocks[i].Header, &other.Blocks[j].Header
			if x.Order.Height == y.Order.Height && x.Hash(s) != y.Hash(s) {
				return true
			}
		}
	}
	return false
}

// certify makes the blocks' certificates of the votes.
func (r *Recovery) certify(s keys.Suite) {
	for i := range r.Blocks {
		want := ledger.RecoverStatement(s, &r.Blocks[i].Header)
		r.Blocks[i].Certificate = ledger.NewCertificate(slices.DeleteFunc(slices.Clone(r.Votes), func(v ledger.Vote) bool { return v.Statement != want }))
	}
}

// Stopped is the group of a node that does not run. It holds the node's journal open. Not safe for concurrent use.
type Stopped struct {
	cfg     Config
	self    identity.NodeID
	journal *journal
	base    *state.Snapshot
	epoch   ledger.Epoch // in force after base
	public  []keys.PublicKey
	number  int32 // of this node in it; -1: it is no member
}

// OpenStopped opens what a stopped node has. Env and Pool of the configuration are not used. Close ends it; the store
// stays open.
func OpenStopped(c Config) (*Stopped, error) {
	c.Finality = cmp.Or(c.Finality, ledger.Commit)
	s := &Stopped{cfg: c, self: identity.NodeIDOf(c.Suite, c.Signer.Public()), base: c.Store.Head(), number: -1}
	var err error
	if s.epoch, s.public, err = epochAfter(&c, s.base); err != nil {
		return nil, err
	}
	for i, m := range s.epoch.Members {
		if m.Node == s.self {
			s.number = int32(i)
		}
	}
	s.journal, err = openJournal(c.FS, c.Dir, c.JournalBytes)
	return s, err
}

// Close closes the journal.
func (s *Stopped) Close() error { return s.journal.close() }

func epochAfter(c *Config, base *state.Snapshot) (ledger.Epoch, []keys.PublicKey, error) {
	epoch, err := c.Executor.Epoch(base)
	if err != nil {
		return epoch, nil, err
	}
	public, err := epoch.PublicKeys(c.Suite)
	return epoch, public, err
}

// Nodes returns the nodes that have to do with the group.
func (s *Stopped) Nodes() ([]precompiles.ListedNode, error) { return s.cfg.Executor.Nodes(s.base) }

// lost reports whether the journal does not tell what this member voted for. Who has neither blocks nor a journal may have
// an empty disk in the place of a lost one.
func (s *Stopped) lost() bool { return s.journal.seq == 0 || s.epoch.Number < s.journal.guard.Mute }

// holding asks the engine what this member helped to agree on above its head.
func (s *Stopped) holding() (consensus.Holding, error) {
	var none consensus.Holding
	head, err := s.cfg.Store.Block(s.base.Height())
	if err != nil {
		return none, err
	}
	engine := s.cfg.Engine()
	_, err = engine.Init(consensus.Config{
		Suite: s.cfg.Suite.Name(), Chain: s.cfg.Chain, Group: s.cfg.Group, Epoch: s.epoch, Self: s.number, Node: s.self,
		Head: consensus.Head{Order: head.Header.Order, Block: s.base.Hash(), Certificate: head.Certificate},
	}, s.journal.records)
	if err != nil {
		return none, fmt.Errorf("start the consensus engine: %w", err)
	}
	effects, err := engine.Step(consensus.Survey{})
	if err != nil {
		return none, fmt.Errorf("ask the consensus engine: %w", err)
	}
	for _, effect := range effects {
		if h, ok := effect.(consensus.Holding); ok {
			return h, nil
		}
	}
	return none, errors.New("the consensus engine does not say what it holds, so a recovery could lose blocks that are final: it must answer consensus.Survey")
}

// Report returns what this node knows, signed.
func (s *Stopped) Report() (*Report, error) {
	if s.number < 0 {
		return nil, refuseRecovery("this node is no member of epoch %d and voted for nothing: the members' reports count", s.epoch.Number)
	}
	head, err := s.cfg.Store.Block(s.base.Height())
	if err != nil {
		return nil, err
	}
	r := &Report{
		Version: ledger.Version, Chain: s.cfg.Chain, Group: s.cfg.Group, Node: s.self, Epoch: s.epoch.Number,
		Head: head.Header, Certificate: head.Certificate, Lost: s.lost(),
	}
	if r.Holding, err = s.holding(); err != nil {
		return nil, err
	}
	if err := s.remembers(func(st ledger.Statement) bool {
		leads := len(r.Holding.Blocks) > 0 || r.Holding.Rank.Height <= s.base.Height()
		return leads && outranks(r.Holding.Rank, st) ||
			slices.ContainsFunc(r.Holding.Blocks, func(b consensus.HeldBlock) bool { return b.Order.Hash(s.cfg.Suite) == st.Order })
	}); err != nil {
		return nil, err
	}
	for _, b := range r.Holding.Blocks {
		r.Txs = append(r.Txs, s.body(&b.Order))
	}
	contents := r.contents(s.cfg.Suite)
	r.Signature, err = keys.SignHash(s.cfg.Suite, s.cfg.Signer, reportThing, contents[:])
	return r, err
}

// body returns the transactions of an order above the head; nil if this member has never had all.
func (s *Stopped) body(o *ledger.Order) [][]byte {
	for _, p := range s.journal.payloads {
		if p.Height == o.Height && p.TxRoot == o.TxRoot {
			return p.Txs
		}
	}
	return nil
}

// outranks reports whether what has a rank speaks against a vote for a block that it does not stand on.
func outranks(rank ledger.Rank, voted ledger.Statement) bool {
	return voted.Kind == ledger.Commit && rank.Compare(voted.Rank()) > 0
}

// remembers checks what the guard kept, whatever the engine says: what this node voted to make final above its head is
// covered.
func (s *Stopped) remembers(covered func(voted ledger.Statement) bool) error {
	g := &s.journal.guard
	if g.Epoch != s.epoch.Number {
		return nil
	}
	for _, st := range []ledger.Statement{g.Commit, g.Attest} {
		if st.Kind == 0 || st.Height <= s.base.Height() || covered(st) {
			continue
		}
		return refuseRecovery("this node signed a %s for block %d, order %s, which is left out, so it may be final: make a report here and propose again with it", st.Kind, st.Height, st.Order)
	}
	return nil
}

// check verifies a report against what this node knows.
func (s *Stopped) check(r *Report) error {
	suite := s.cfg.Suite
	i := slices.IndexFunc(s.epoch.Members, func(m ledger.Member) bool { return m.Node == r.Node })
	switch {
	case r.Chain != s.cfg.Chain || r.Group != s.cfg.Group:
		return refuseRecovery("the report of node %s is about chain %s, group %q", r.Node, r.Chain, r.Group)
	case r.Head.Order.Height > s.base.Height():
		return refuseRecovery("block %d is final on node %s, and this node has %d: run both with `fondaco run` until `fondaco status` says %d here too, "+
			"stop them, and make both reports again; or propose there", r.Head.Order.Height, r.Node, s.base.Height(), r.Head.Order.Height)
	case i < 0:
		return refuseRecovery("node %s is no member of epoch %d: leave its report out", r.Node, s.epoch.Number)
	}
	if err := s.public[i].Verify(r.digest(suite), r.Signature); err != nil {
		return refuseRecovery("the report of node %s: %v", r.Node, err)
	}
	own, err := s.cfg.Store.BlockHash(r.Head.Order.Height)
	if err != nil {
		return err
	}
	if hash := r.Head.Hash(suite); own != hash {
		return refuseRecovery("block %d is %s on node %s and %s here: the two histories contradict one another; find out with `fondaco verify` which holds", r.Head.Order.Height, hash, r.Node, own)
	}
	for i := range r.Holding.Blocks {
		if o := &r.Holding.Blocks[i].Order; len(r.Txs[i]) > 0 && !s.gives(r.Txs[i], o.TxRoot) {
			return refuseRecovery("the report of node %s has other transactions for block %d than that has: make the report again, or leave it out", r.Node, o.Height)
		}
	}
	for i := range r.Holding.Blocks {
		b := &r.Holding.Blocks[i]
		if named := b.Order.NewView; named.IsZero() != (b.NewView == nil) || b.NewView != nil && b.NewView.Digest(suite) != named {
			return refuseRecovery("the report of node %s has another new-view for block %d than its order names: leave it out", r.Node, b.Order.Height)
		}
	}
	if r.Epoch != s.epoch.Number {
		return nil
	}
	switch c := &r.Holding.Certificate; {
	case !c.IsZero():
		if err := s.isLock(c, r.Holding.Rank); err != nil {
			return refuseRecovery("the report of node %s: %v", r.Node, err)
		}
	case !s.cfg.Trust && (r.Holding.Rank != ledger.Rank{} || len(r.Holding.Blocks) > 0): // only what a quorum signed counts of members that may lie
		return refuseRecovery("the report of node %s shows nothing for rank %v of its %d blocks: leave it out", r.Node, r.Holding.Rank, len(r.Holding.Blocks))
	}
	return nil
}

// gives reports whether transactions are those with a root.
func (s *Stopped) gives(txs [][]byte, root keys.Digest) bool {
	leaves := make([]keys.Digest, len(txs))
	for i, raw := range txs {
		tx, err := ledger.DecodeTx(s.cfg.Suite, raw)
		if err != nil {
			return false
		}
		leaves[i] = tx.Leaf
	}
	return ledger.Root(s.cfg.Suite, leaves) == root
}

// isLock checks a certificate that shows that a block may be final.
func (s *Stopped) isLock(c *ledger.Certificate, rank ledger.Rank) error {
	st := &c.Statement
	if st.Epoch != s.epoch.Number || st.Kind != ledger.Prepare && st.Kind != ledger.Commit || st.Rank() != rank {
		return fmt.Errorf("a %s certificate of epoch %d does not show rank %v", st.Kind, st.Epoch, rank)
	}
	return c.Verify(s.cfg.Suite, s.cfg.Chain, s.cfg.Group, s.public)
}

// Plan is what the proposer of a recovery decides.
type Plan struct {
	Reform precompiles.Reform // as precompiles.RecoverArgs.Reform; Add is made of Observe
	// Lossy accepts that blocks which are final may be missing, because a quorum of members made no report.
	Lossy bool
	Now   int64 // Unix ms
}

// Propose returns the recovery that keeps all that the reports, this node's own among them, have. Nobody has signed it.
func (s *Stopped) Propose(ctx context.Context, reports []*Report, p *Plan) (*Recovery, error) {
	if s.number < 0 {
		return nil, refuseRecovery("this node is no member of epoch %d: a survivor proposes", s.epoch.Number)
	}
	r := &Recovery{Version: ledger.Version}
	var from []identity.NodeID
	for _, report := range reports {
		if err := s.check(report); err != nil {
			return nil, err
		}
		if slices.Contains(from, report.Node) {
			return nil, refuseRecovery("there are two reports of node %s: leave the older one out", report.Node)
		}
		from = append(from, report.Node)
		if !report.Lost {
			r.Reported = append(r.Reported, report.Node)
		}
	}
	if !slices.Contains(from, s.self) {
		return nil, refuseRecovery("the report of this node is missing: make it with `fondaco recover report`")
	}
	silent := len(s.epoch.Members) - len(r.Reported)
	if quorum := s.cfg.Finality.Quorum(len(s.epoch.Members)); silent >= quorum && !p.Lossy {
		return nil, refuseRecovery("%d of %d members make no report or lost their journals, and %d are enough to make a block final that no other has: "+
			"look for more reports, or accept with --lossy that blocks may be missing of which clients were told", silent, len(s.epoch.Members), quorum)
	}
	kept, err := s.kept(reports, r)
	if err != nil {
		return nil, err
	}
	base := s.base
	for _, b := range kept {
		txs, err := b.Decode(s.cfg.Suite)
		if err != nil {
			return nil, err
		}
		if base, err = s.cfg.Executor.Execute(ctx, base, &b.Header.Order, txs); err != nil {
			return nil, err
		}
		b.Header = *base.Header()
		r.Blocks = append(r.Blocks, b)
	}
	last, err := s.barrier(ctx, base, p)
	if err != nil {
		return nil, err
	}
	r.Blocks = append(r.Blocks, *last)
	return r, nil
}

// kept chooses the blocks above the head that must stay: those that lead to the highest rank that a report shows, as far as
// reports have their transactions. A block that is final somewhere has the commit votes of a quorum. If fewer than a quorum
// are silent, an honest survivor is among these, which noted a certificate on it, and a higher one is on it too; and it has
// the orders and transactions that lead there, as it executed them. So no honest survivor voted to make final what is left out.
func (s *Stopped) kept(reports []*Report, r *Recovery) ([]ledger.Block, error) {
	suite := s.cfg.Suite
	bodies := map[keys.Digest][][]byte{}
	held := map[keys.Digest]consensus.HeldBlock{}
	for _, report := range reports {
		for i, b := range report.Holding.Blocks {
			held[b.Order.Hash(suite)] = b
			if len(report.Txs[i]) > 0 {
				bodies[b.Order.TxRoot] = report.Txs[i]
			}
		}
	}
	current := slices.DeleteFunc(slices.Clone(reports), func(report *Report) bool { return report.Epoch != s.epoch.Number })
	slices.SortStableFunc(current, func(a, b *Report) int { return b.Holding.Rank.Compare(a.Holding.Rank) })
	for _, report := range current {
		h := &report.Holding
		tip := h.Certificate.Statement.Order
		if h.Certificate.IsZero() {
			tip = s.base.OrderHash()
			if n := len(h.Blocks); n > 0 {
				tip = h.Blocks[n-1].Order.Hash(suite)
			}
		}
		if h.Rank.Height <= s.base.Height() {
			r.Holding, r.Lock = h.Rank, h.Certificate // the tip was agreed on again, so nothing above it
			return nil, nil
		}
		var path []consensus.HeldBlock
		for at := tip; at != s.base.OrderHash(); {
			if len(path) == maxRecovered-1 { // the last is the recovery block
				return nil, refuseRecovery("the report of node %s leads over more than %d blocks, and so many cannot be in flight: leave it out", report.Node, len(path))
			}
			b, known := held[at]
			if !known {
				path = nil
				break
			}
			path = append(path, b)
			at = b.Order.Parent
		}
		if path == nil {
			continue
		}
		slices.Reverse(path)
		r.Holding, r.Lock = h.Rank, h.Certificate
		var blocks []ledger.Block
		for _, b := range path {
			txs, complete := bodies[b.Order.TxRoot]
			if !complete || len(r.Lacking) > 0 {
				r.Lacking = append(r.Lacking, b.Order)
				continue
			}
			blocks = append(blocks, ledger.Block{Version: ledger.Version, Header: ledger.Header{Order: b.Order}, Txs: txs, NewView: b.NewView})
		}
		return blocks, nil
	}
	return nil, nil
}

// barrier makes the recovery block on a base.
func (s *Stopped) barrier(ctx context.Context, base *state.Snapshot, p *Plan) (*ledger.Block, error) {
	epoch, _, err := epochAfter(&s.cfg, base)
	if err != nil {
		return nil, err
	}
	number := slices.IndexFunc(epoch.Members, func(m ledger.Member) bool { return m.Node == s.self })
	if number < 0 {
		return nil, refuseRecovery("this node is no member of epoch %d, which block %d begins: a member of it proposes", epoch.Number, base.Height())
	}
	parent := base.Header()
	args := &precompiles.RecoverArgs{Epoch: epoch.Number, Reform: p.Reform}
	at := max(p.Now, parent.Order.UnixMilli+1)
	nonce := base.Hash()
	tx, err := ledger.Tx{
		Version: ledger.Version, Chain: s.cfg.Chain, Group: s.cfg.Group, Sender: precompiles.MembersAddress, Nonce: [16]byte(nonce[:16]), Expiry: at,
		GasLimit: min(epoch.Params.TxGas, epoch.Params.BlockGas), To: ledger.Target{Address: precompiles.MembersAddress}, Method: "recover", Args: mustMarshal(args),
	}.Sign(s.cfg.Suite, s.cfg.Signer)
	if err != nil {
		return nil, err
	}
	order := ledger.Order{
		Version: ledger.Version, Chain: s.cfg.Chain, Group: s.cfg.Group, Epoch: epoch.Number, Height: parent.Order.Height + 1, Parent: base.OrderHash(),
		UnixMilli: at, Proposer: uint32(number), TxRoot: ledger.Root(s.cfg.Suite, []keys.Digest{tx.Leaf}), TxCount: 1,
		TxBytes: uint64(len(tx.Raw)), GasLimit: tx.GasLimit, Barrier: true,
	}
	next, err := s.cfg.Executor.Execute(ctx, base, &order, []*ledger.SignedTx{tx})
	if err != nil {
		return nil, err
	}
	if err := s.fits(&order, tx, &epoch.Params); err != nil {
		return nil, refuseRecovery("%v", err)
	}
	if err := s.sound(base, next, tx, &epoch); err != nil {
		return nil, err
	}
	return &ledger.Block{Version: ledger.Version, Header: *next.Header(), Txs: [][]byte{tx.Raw}}, nil
}

// sound checks what a recovery block, which has one transaction on base, leads to.
func (s *Stopped) sound(base, next *state.Snapshot, tx *ledger.SignedTx, before *ledger.Epoch) error {
	if next.Receipts()[0].Status != ledger.OK {
		return refuseRecovery("the group does not take the change of members: %v", s.cfg.Executor.EndsEpoch(base, &next.Header().Order, tx))
	}
	after, _, err := epochAfter(&s.cfg, next)
	if err != nil {
		return err
	}
	if n, want := len(precompiles.Stay(before, &after)), ledger.Recover.Quorum(len(before.Members)); n < want {
		return refuseRecovery("%d of %d members stay, and %d must, so that one of them is honest: no recovery can be verified with fewer, begin a new chain",
			n, len(before.Members), want)
	}
	return nil
}

// Findings is what a recovery does, as a node found by executing it.
type Findings struct {
	Base    ledger.Height
	Kept    []*ledger.Header // of blocks that no certificate made final
	Lacking []*ledger.Order  // of blocks above those, given up since nobody who reported has the transactions of the first
	Last    *ledger.Header
	Before  ledger.Epoch
	After   ledger.Epoch
	Args    precompiles.RecoverArgs
	Silent  []uint32 // members that made no report or lost their journal, by number in Before
	Signed  []uint32 // members that signed
	Missing []uint32 // members that stay and did not sign yet
	// Lossy says that the silent could have made blocks final that no other has. Forkable says that those who do not
	// stay and have not signed, with as many of the others as may lie, are enough to go on by themselves, if they are not gone.
	Lossy, Forkable bool
}

// Examine executes a recovery on this node's data and returns what it does, or why this node refuses it. Signatures on it
// are verified. Whether all are there is for Findings.Missing to tell.
func (s *Stopped) Examine(ctx context.Context, r *Recovery) (*Findings, error) {
	suite, first := s.cfg.Suite, &r.Blocks[0].Header
	below := first.Order.Height - 1
	switch own := s.base.Height(); {
	case first.Order.Chain != s.cfg.Chain || first.Order.Group != s.cfg.Group:
		return nil, refuseRecovery("it is of chain %s, group %q", first.Order.Chain, first.Order.Group)
	case own < below:
		return nil, refuseRecovery("it goes on from block %d, and this node has %d: run this node and one that has it until `fondaco status` says %d, then stop them", below, own, below)
	case own > below && s.stores(r.Last()):
		return nil, refuseRecovery("it is applied on this node already: run the node")
	case own > below:
		return nil, refuseRecovery("block %d is final on this node, and the recovery goes on from block %d: make a report here, and propose again with it", own, below)
	case first.Parent != s.base.Hash():
		return nil, refuseRecovery("it goes on from a block %d with hash %s, and this node has %s: one of the two is not of this chain", below, first.Parent, s.base.Hash())
	}
	if err := blocksync.Follows(suite, s.base.Header(), first); err != nil {
		return nil, refuseRecovery("%v", err)
	}
	f := &Findings{Base: below, Last: &r.Last().Header}
	base := s.base
	for i := range r.Blocks {
		b := &r.Blocks[i]
		epoch, public, err := epochAfter(&s.cfg, base)
		if err != nil {
			return nil, err
		}
		chain := blocksync.Chain{Suite: suite, ID: s.cfg.Chain, Group: s.cfg.Group, Epoch: epoch.Number, Members: public}
		o := &b.Header.Order
		if o.Epoch != epoch.Number || int64(o.Proposer) >= int64(len(public)) {
			return nil, refuseRecovery("block %d is of epoch %d, and the group is in epoch %d there", o.Height, o.Epoch, epoch.Number)
		}
		txs, err := chain.CheckBody(b)
		if err == nil && slices.Contains(ledger.CheckBatch(suite, txs), false) {
			err = keys.ErrSignature
		}
		if err != nil {
			return nil, refuseRecovery("block %d: %v", o.Height, err)
		}
		if i == len(r.Blocks)-1 {
			if err := s.fits(o, txs[0], &epoch.Params); err != nil {
				return nil, refuseRecovery("block %d: %v", o.Height, err)
			}
		}
		next, err := s.cfg.Executor.Execute(ctx, base, o, txs)
		if err != nil {
			return nil, err
		}
		if next.Hash() != b.Header.Hash(suite) {
			return nil, refuseRecovery("executing block %d gives %s here, and the recovery says %s: compare the releases of the nodes", o.Height, next.Hash(), b.Header.Hash(suite))
		}
		want := ledger.RecoverStatement(suite, &b.Header)
		digest := want.Digest(suite, s.cfg.Chain, s.cfg.Group)
		for _, v := range r.Votes {
			if v.Statement != want {
				continue
			}
			if int64(v.Signer) >= int64(len(public)) || public[v.Signer].Verify(digest, v.Signature) != nil {
				return nil, refuseRecovery("the signature of member %d for block %d does not verify", v.Signer, o.Height)
			}
			if i == len(r.Blocks)-1 {
				f.Signed = append(f.Signed, v.Signer)
			}
		}
		if i < len(r.Blocks)-1 {
			f.Kept = append(f.Kept, &b.Header)
			base = next
			continue
		}
		if err := s.sound(base, next, txs[0], &epoch); err != nil {
			return nil, err
		}
		f.Before = epoch
		if f.After, _, err = epochAfter(&s.cfg, next); err != nil {
			return nil, err
		}
		if f.Args, err = precompiles.DecodeRecovery(&txs[0].Tx); err != nil {
			return nil, refuseRecovery("%v", err)
		}
	}
	s.judge(r, f)
	if err := s.locked(r, f); err != nil {
		return nil, err
	}
	return f, nil
}

// locked checks that what a recovery keeps and what it says that is lacking lead to what its certificate is about.
func (s *Stopped) locked(r *Recovery, f *Findings) error {
	tip, height, st := s.base.OrderHash(), f.Base, &r.Lock.Statement
	if n := len(f.Kept); n > 0 {
		tip, height = f.Kept[n-1].Order.Hash(s.cfg.Suite), f.Kept[n-1].Order.Height
	}
	for i := range r.Lacking {
		o := &r.Lacking[i]
		if height++; o.Parent != tip || o.Height != height {
			return refuseRecovery("block %d, which it says is lacking, is not on the block before: propose again", o.Height)
		}
		tip = o.Hash(s.cfg.Suite)
		f.Lacking = append(f.Lacking, o)
	}
	switch {
	case height > f.Base && !s.cfg.Trust:
		if err := s.isLock(&r.Lock, r.Holding); err != nil {
			return refuseRecovery("nothing shows that a quorum accepted block %d: %v", height, err)
		}
		if st.Order != tip {
			return refuseRecovery("nothing shows that a quorum accepted block %d: its certificate is about another, order %s", height, st.Order)
		}
		if st.Kind == ledger.Commit && len(f.Lacking) > 0 && !f.Lossy {
			return refuseRecovery("block %d is final, as its own certificate shows, and it leaves out block %d below: propose again with the report of a node that has the transactions", st.Height, f.Lacking[0].Height)
		}
	case height == f.Base && st.Height > f.Base:
		return refuseRecovery("a quorum accepted block %d, order %s, as its own certificate shows, and it leaves that out: propose again", st.Height, st.Order)
	}
	return nil
}

// stores reports whether a block is final on this node.
func (s *Stopped) stores(b *ledger.Block) bool {
	if b.Header.Order.Height > s.base.Height() {
		return false
	}
	hash, err := s.cfg.Store.BlockHash(b.Header.Order.Height)
	return err == nil && hash == b.Header.Hash(s.cfg.Suite)
}

// fits checks a recovery block against the rules for all blocks, which no quorum did: who audits the history checks them too.
func (s *Stopped) fits(o *ledger.Order, tx *ledger.SignedTx, params *ledger.Params) error {
	switch size, most := uint64(len(tx.Raw)), min(params.TxGas, params.BlockGas); {
	case tx.Chain != o.Chain || tx.Group != o.Group:
		return fmt.Errorf("its transaction is for chain %s, group %q", tx.Chain, tx.Group)
	case size > min(uint64(s.cfg.Executor.SizeLimit(tx.To)), params.BlockBytes):
		return fmt.Errorf("its transaction has %d bytes, and a block of this group does not take so many", size)
	case tx.GasLimit == 0 || tx.GasLimit > most:
		return fmt.Errorf("its gas limit is %d, want 1 to %d", tx.GasLimit, most)
	case tx.Expiry < o.UnixMilli || tx.Expiry-params.MaxLifetime > o.UnixMilli:
		return fmt.Errorf("its transaction's expiry %d does not suit block time %d", tx.Expiry, o.UnixMilli)
	case size != o.TxBytes || tx.GasLimit != o.GasLimit:
		return fmt.Errorf("the order claims %d bytes and %d gas, its transaction has %d and %d", o.TxBytes, o.GasLimit, size, tx.GasLimit)
	}
	return nil
}

// judge fills in what the numbers of silent and missing members mean.
func (s *Stopped) judge(r *Recovery, f *Findings) {
	n := len(f.Before.Members)
	bound := f.Signed
	for _, i := range precompiles.Stay(&f.Before, &f.After) {
		if !slices.Contains(f.Signed, i) {
			f.Missing = append(f.Missing, i)
			bound = append(bound, i)
		}
	}
	for i, m := range f.Before.Members {
		if !slices.Contains(r.Reported, m.Node) {
			f.Silent = append(f.Silent, uint32(i))
		}
	}
	quorum := s.cfg.Finality.Quorum(n)
	liars := 0
	if !s.cfg.Trust {
		liars = ledger.Faulty(n)
	}
	f.Lossy, f.Forkable = len(f.Silent) >= quorum, n-len(bound)+liars >= quorum
}

// Sign adds this node's signatures to a recovery that Examine let pass. Before, it gives up what it could vote for in the
// epochs that the recovery ends, on disk. It signs one recovery from where it is, unless instead names the recovery block
// that it signed before, which its operator must know that nobody applied. now is in Unix ms.
func (s *Stopped) Sign(ctx context.Context, r *Recovery, instead keys.Digest, now int64) (*Findings, error) {
	f, err := s.Examine(ctx, r)
	if err != nil {
		return nil, err
	}
	suite, last := s.cfg.Suite, f.Last.Hash(s.cfg.Suite)
	number := slices.IndexFunc(f.Before.Members, func(m ledger.Member) bool { return m.Node == s.self })
	guard := s.journal.guard
	switch ahead := f.Last.Order.UnixMilli - now; {
	case number < 0:
		return nil, refuseRecovery("this node is no member of epoch %d: it has nothing to sign, only to apply", f.Before.Number)
	case ahead > f.Before.Params.ClockSkew:
		return nil, refuseRecovery("its time is %d ms ahead of this node's clock: correct the clock of the machine that is wrong, and propose again if that is the other", ahead)
	case guard.Leave > s.epoch.Number && guard.Left != last && guard.Left != instead: // from the same block, whatever epochs the two end
		return nil, refuseRecovery("this node signed another recovery before, %s: use that one; or, if you are certain that nobody ever applies it, sign with --instead %s",
			guard.Left, guard.Left)
	}
	if err := s.leavesNothingOut(r, f); err != nil {
		return nil, err
	}
	if guard.Leave <= f.Before.Number || guard.Left != last || s.journal.seq == 0 {
		if s.lost() {
			guard.Mute, guard.Lost = max(guard.Mute, s.epoch.Number+1), true
		}
		guard.Leave, guard.Left = max(guard.Leave, f.Before.Number+1), last
		s.journal.setGuard(guard)
		if err := s.journal.sync(); err != nil {
			return nil, err
		}
	}
	own := &Recovery{Blocks: r.Blocks}
	for i := range r.Blocks {
		h := &r.Blocks[i].Header
		members := &s.epoch
		if h.Order.Epoch == f.Before.Number {
			members = &f.Before
		}
		signer := slices.IndexFunc(members.Members, func(m ledger.Member) bool { return m.Node == s.self })
		if signer < 0 {
			continue
		}
		st := ledger.RecoverStatement(suite, h)
		signature, err := st.Sign(suite, s.cfg.Signer, s.cfg.Chain, s.cfg.Group)
		if err != nil {
			return nil, err
		}
		own.Votes = append(own.Votes, ledger.Vote{Signer: uint32(signer), Statement: st, Signature: signature})
	}
	if err := r.Merge(suite, own); err != nil {
		return nil, err
	}
	return s.Examine(ctx, r)
}

// leavesNothingOut refuses a recovery without a block that this node helped to agree on.
func (s *Stopped) leavesNothingOut(r *Recovery, f *Findings) error {
	if s.number < 0 || s.lost() {
		return nil
	}
	suite := s.cfg.Suite
	kept := func(order keys.Digest) bool {
		return slices.ContainsFunc(f.Kept, func(h *ledger.Header) bool { return h.Order.Hash(suite) == order })
	}
	lacking := func(order keys.Digest) bool {
		return slices.ContainsFunc(f.Lacking, func(o *ledger.Order) bool { return o.Hash(suite) == order })
	}
	rank := r.Holding
	if !s.cfg.Trust && s.isLock(&r.Lock, rank) != nil {
		rank = ledger.Rank{} // nothing shows it
	}
	h, err := s.holding()
	if err != nil {
		return err
	}
	missing := false // the transactions of a block below
	for i := range h.Blocks {
		o := &h.Blocks[i].Order
		order := o.Hash(suite)
		missing = missing || s.body(o) == nil
		if kept(order) || lacking(order) && missing || !lacking(order) && rank.Compare(h.Rank) > 0 {
			continue
		}
		return refuseRecovery("this node helped to agree on block %d, order %s, which is left out, so it may be final: make a report here and propose again with it", o.Height, order)
	}
	if st := &h.Certificate.Statement; st.Kind == ledger.Commit && st.Height > s.base.Height() && !kept(st.Order) && !f.Lossy {
		return refuseRecovery("block %d is final, as a certificate on this node shows, and it is left out: propose again with the report of a node that has its transactions", st.Height)
	}
	return s.remembers(func(st ledger.Statement) bool { return kept(st.Order) || outranks(rank, st) && !lacking(st.Order) })
}

// Apply makes a recovery part of the chain on this node: it is kept as the operator's word, and what this node can take of
// its blocks now is stored. It returns the height that the node has then. A node that is behind fetches what is below from
// others, when it runs, and goes on from there with these blocks. Applying it again does no harm.
func (s *Stopped) Apply(ctx context.Context, r *Recovery) (ledger.Height, error) {
	suite, first := s.cfg.Suite, &r.Blocks[0].Header.Order
	r.certify(suite)
	if first.Chain != s.cfg.Chain || first.Group != s.cfg.Group {
		return 0, refuseRecovery("it is of chain %s, group %q", first.Chain, first.Group)
	}
	applied, err := readRecoveries(&s.cfg)
	if err != nil {
		return 0, err
	}
	for _, o := range applied {
		if o.contradicts(suite, r) {
			return 0, refuseRecovery("another recovery is applied on this node, %s: a chain goes on in one way only", o.Last().Header.Hash(suite))
		}
	}
	var before *ledger.Epoch
	switch own := s.base.Height(); {
	case own == first.Height-1:
		f, err := s.Examine(ctx, r)
		if err != nil {
			return 0, err
		}
		before = &f.Before
	case own >= first.Height:
		for i := range r.Blocks {
			h := &r.Blocks[i].Header
			if h.Order.Height > own {
				break
			}
			stored, err := s.cfg.Store.BlockHash(h.Order.Height)
			if err != nil {
				return 0, err
			}
			if stored != h.Hash(suite) {
				return 0, refuseRecovery("block %d is final on this node as %s, and the recovery has %s there: it leaves out what this node knows", h.Order.Height, stored, h.Hash(suite))
			}
		}
	}
	if err := s.certified(r, before); err != nil {
		return 0, err
	}
	if err := keepRecovery(&s.cfg, r); err != nil {
		return 0, err
	}
	if _, err := takeRecoveries(&s.cfg); err != nil {
		return 0, err
	}
	return s.cfg.Store.Head().Height(), nil
}

// certified checks that all who stay signed the recovery, and enough members of each block's epoch that block. before is
// the epoch that the recovery block ends; nil: as this node knows it. Of a later one than it knows, it can tell no more
// than that somebody signed; takeRecovered checks the rest.
func (s *Stopped) certified(r *Recovery, before *ledger.Epoch) error {
	for i, b := range slices.Backward(r.Blocks) {
		epoch, number := before, b.Header.Order.Epoch
		switch {
		case before != nil && before.Number == number:
		case number == s.epoch.Number:
			epoch = &s.epoch
		case number < s.epoch.Number:
			began, found, err := s.cfg.Executor.Beginning(s.base, number)
			if err == nil && !found {
				err = fmt.Errorf("the state at height %d lacks the beginning of epoch %d", s.base.Height(), number)
			}
			if err != nil {
				return err
			}
			epoch = &began.Epoch
		case b.Certificate.IsZero():
			return refuseRecovery("nobody signed block %d: apply it with all signed copies", b.Header.Order.Height)
		default:
			continue
		}
		if i == len(r.Blocks)-1 {
			missing, err := unsigned(&b, epoch)
			if err != nil {
				return err
			}
			if len(missing) > 0 {
				return refuseRecovery("the signatures of members %v are missing, who stay: they could still vote in the epoch that ends; "+
					"have each `fondaco recover sign` it, and apply it with all signed copies", missing)
			}
		}
		public, err := epoch.PublicKeys(s.cfg.Suite)
		if err != nil {
			return err
		}
		if err := b.Certificate.Recovers(s.cfg.Suite, &b.Header, public); err != nil {
			return refuseRecovery("block %d: %v", b.Header.Order.Height, err)
		}
	}
	return nil
}

// unsigned returns the members of the epoch which stay after a recovery block and did not sign it.
func unsigned(last *ledger.Block, before *ledger.Epoch) (missing []uint32, err error) {
	var tx ledger.Tx
	if err := ledger.Unmarshal(last.Txs[0], &tx); err != nil {
		return nil, err
	}
	args, err := precompiles.DecodeRecovery(&tx)
	if err != nil {
		return nil, refuseRecovery("%v", err)
	}
	signed := last.Certificate.Members()
	for i, m := range before.Members {
		if !slices.Contains(args.Reform.Remove, m.Node) && !slices.Contains(signed, uint32(i)) {
			missing = append(missing, uint32(i))
		}
	}
	return missing, nil
}

// keepRecovery writes the operator's word, durably and whole or not at all.
func keepRecovery(c *Config, r *Recovery) error {
	name := fmt.Sprintf("%s%d", recoveryPrefix, r.Last().Header.Order.Epoch)
	file, err := replaceFile(c.FS, c.Dir, name, mustMarshal(r))
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return fmt.Errorf("keep the recovery in %s: %w", filepath.Join(c.Dir, name), err)
	}
	return nil
}

// Applied returns the hashes of the blocks of the recoveries that were applied in a group's folder: Config.Dir.
func Applied(suite keys.Suite, files state.FS, dir string) (accepted []keys.Digest, err error) {
	all, err := readRecoveries(&Config{Suite: suite, FS: files, Dir: dir})
	for _, r := range all {
		accepted = append(accepted, r.hashes(suite)...)
	}
	return accepted, err
}

// readRecoveries returns what the operator applied, by rising height.
func readRecoveries(c *Config) ([]*Recovery, error) {
	names, err := c.FS.ReadDir(c.Dir)
	if err != nil {
		return nil, err
	}
	var all []*Recovery
	for _, name := range names {
		if !strings.HasPrefix(name, recoveryPrefix) || strings.HasSuffix(name, ".new") {
			continue
		}
		path := filepath.Join(c.Dir, name)
		r, err := readRecovery(c, path)
		if err != nil {
			return nil, fmt.Errorf("%s, which `fondaco recover apply` wrote: %w; delete it and apply the recovery again", path, err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Recovery) int {
		return cmp.Compare(a.Last().Header.Order.Height, b.Last().Header.Order.Height)
	})
	return all, nil
}

func readRecovery(c *Config, path string) (*Recovery, error) {
	file, err := c.FS.Open(path, false)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil || size > MaxRecoverySize {
		return nil, errors.Join(err, fmt.Errorf("it has %d bytes", size))
	}
	raw := make([]byte, size)
	if n, err := file.ReadAt(raw, 0); n < len(raw) {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	return DecodeRecovery(c.Suite, raw)
}

// takeRecoveries stores the blocks of applied recoveries that continue the store's head, and returns the hashes of all
// that were applied. A crash between two blocks is repaired by the next start.
func takeRecoveries(c *Config) (accepted []keys.Digest, err error) {
	all, err := readRecoveries(c)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		accepted = append(accepted, r.hashes(c.Suite)...)
	}
	for _, r := range all {
		for i := range r.Blocks {
			head := c.Store.Head()
			b := &r.Blocks[i]
			if head == nil || b.Header.Order.Height != head.Height()+1 || b.Header.Parent != head.Hash() {
				continue // stored already, or not to be reached yet
			}
			err := takeRecovered(c, head, b, accepted)
			if errors.Is(err, ledger.ErrCertificate) { // what the operator agreed to stands: others may have it with more signatures
				c.Log.Error().Err(err).Msg("the applied recovery lacks signatures: apply it again with all signed copies, unless the node gets the blocks from others")
				break
			}
			if err != nil {
				return nil, fmt.Errorf("block %d of a recovery: %w", b.Header.Order.Height, err)
			}
		}
	}
	return accepted, nil
}

func takeRecovered(c *Config, head *state.Snapshot, b *ledger.Block, accepted []keys.Digest) error {
	epoch, public, err := epochAfter(c, head)
	if err != nil {
		return err
	}
	chain := blocksync.Chain{Suite: c.Suite, ID: c.Chain, Group: c.Group, Finality: c.Finality, Epoch: epoch.Number, Members: public, Accepted: accepted}
	checked, err := chain.CheckRange(b.Header.Order.Height, [][]byte{mustMarshal(b)})
	if err != nil {
		return err
	}
	next, err := c.Executor.Execute(context.Background(), head, &b.Header.Order, checked[0].Txs)
	if err != nil {
		return err
	}
	if next.Hash() != b.Header.Hash(c.Suite) {
		return fmt.Errorf("%w: it gives %s here, and survivors signed %s", ErrDiverged, next.Hash(), b.Header.Hash(c.Suite))
	}
	return c.Store.Commit(b, next)
}
