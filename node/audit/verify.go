package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on what a package can make a verifier hold.
const (
	maxStrays   = 1 << 20 // statements that are not about the chain's own blocks
	maxEvidence = 1_000
)

// FaultError says what of a package does not hold, and where.
type FaultError struct {
	Height ledger.Height // of the block, or the last before what does not hold
	What   string
	Broken bool // the file is not a whole package, as after a download that broke off: that says nothing of the members
	Cause  error
}

// Unwrap returns the cause, which may be nil.
func (f *FaultError) Unwrap() error { return f.Cause }

func (f *FaultError) Error() string { return fmt.Sprintf("at block %d: %s", f.Height, f.What) }

// Trust is what a verifier takes for granted.
type Trust struct {
	Suite   keys.Suite
	Genesis *ledger.Genesis
	First   keys.Digest // hash of the block that the genesis gives
	// Recoveries are the hashes of the recovery blocks that the verifier accepts. A package whose history goes on by another
	// one is a fault that is ledger.ErrRecovery.
	Recoveries []keys.Digest
}

// Verdict is what a package proves.
type Verdict struct {
	Chain      keys.Digest       `json:"chain"`
	Group      ledger.GroupID    `json:"group"`
	From       ledger.Height     `json:"from"`
	Height     ledger.Height     `json:"height"` // of the last block that holds
	Block      keys.Digest       `json:"block"`
	Epoch      uint64            `json:"epoch"` // of the last block
	NewViews   int               `json:"new_views"`
	Signatures int               `json:"signatures"` // in certificates and new-views
	Statements int               `json:"statements"` // in the statement log
	Unchecked  int               `json:"unchecked"`  // of those, the ones of epochs that the package does not reach
	Missed     uint64            `json:"missed"`     // that the node left out, by its own account
	LogDigest  keys.Digest       `json:"log_digest"` // stands for the statement log up to its end; zero: there is none
	Notes      []string          `json:"notes,omitempty"`
	Evidence   []ledger.Evidence `json:"-"` // against members that signed what no honest member signs both
}

// Verify checks a package against a genesis:
//
//   - blocks: each follows the one before, its time rises, its history root is that of the blocks before, and a quorum of
//     the members of its epoch signed it, once each, or it leads to a recovery that the verifier accepts; the first is the
//     genesis block, or one that such a quorum signed;
//   - epochs: each is the one that the block before it names;
//   - new-views: a quorum of different members signed a change to that view, the certificate with it holds and is the
//     highest that they claim, and the leader of the view made the block;
//   - the statement log: it is one chain of digests, every signature holds, every new-view in it too;
//   - members: none signed two statements, anywhere in the package, that no honest member signs both. Such pairs are
//     no fault of the history; they are in the verdict as evidence.
//
// A package that does not hold is a *FaultError. open is called once or twice, as the package is read again when
// there are statements to compare. Memory is bounded by 64 bytes for each block, and by the statements that are not
// about the chain's own blocks. progress is told the height and how many bytes of the package were read.
func Verify(ctx context.Context, open func() (io.ReadCloser, error), t Trust, progress func(h ledger.Height, read int64)) (*Verdict, error) {
	chain := t.Genesis.Hash(t.Suite)
	v := &verifier{
		Trust: t, ctx: ctx, progress: progress, keys: map[uint64][]keys.PublicKey{}, epochs: map[uint64]*ledger.Epoch{},
		verdict: Verdict{Chain: chain, Group: t.Genesis.Group}, strays: map[spot][]ledger.Vote{}, changes: map[voter][]ledger.Vote{},
		found: map[ledger.Place]bool{}, history: ledger.History{Finality: t.Genesis.Finality(), Accepted: t.Recoveries},
	}
	if err := v.enter(t.Genesis.Epoch()); err != nil {
		return nil, err
	}
	err := v.pass(open, v.check)
	if err == nil {
		err = v.complete()
	}
	if err == nil && (len(v.strays) > 0 || len(v.changes) > 0) {
		v.index()
		err = v.pass(open, v.compare)
	}
	return &v.verdict, err
}

type verifier struct {
	Trust
	ctx      context.Context
	progress func(ledger.Height, int64)
	verdict  Verdict

	history ledger.History
	start   *start
	turned  uint64 // epochs that turns have shown
	epoch   *ledger.Epoch
	epochs  map[uint64]*ledger.Epoch
	keys    map[uint64][]keys.PublicKey
	parent  *ledger.Header
	due     bool // the last block ends its epoch
	below   ledger.Frontier
	view    uint64 // of the last new-view of the epoch
	orders  []keys.Digest
	blocks  []keys.Digest
	logged  *SegmentHead // the segment being read
	whole   bool

	strays  map[spot][]ledger.Vote
	strayed int
	changes map[voter][]ledger.Vote // view changes; sorted by view by index
	lowest  map[voter][]int         // of the changes from each on, the one that claims least
	results map[result][]ledger.Vote
	found   map[ledger.Place]bool
}

// voter is a member of an epoch, spot a place at which it may state one thing, result an order that it may give one block.
type (
	voter struct {
		epoch  uint64
		member uint32
	}
	spot struct {
		voter
		kind   ledger.StatementKind
		view   uint64
		height ledger.Height
	}
	result struct {
		voter
		order keys.Digest
	}
)

func spotOf(v *ledger.Vote) spot {
	st := &v.Statement
	s := spot{voter: voter{st.Epoch, v.Signer}, kind: st.Kind, view: st.View, height: st.Height}
	if st.Kind == ledger.Attest {
		s.view = 0
	}
	return s
}

func (v *verifier) pass(open func() (io.ReadCloser, error), each func(kind uint8, body []byte) error) (err error) {
	file, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r, err := bundle.NewReader(file, v.Suite, packageMark, maxItem)
	for err == nil {
		var kind uint8
		var body []byte
		kind, body, err = r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = v.ctx.Err()
		}
		if err == nil {
			err = each(kind, body)
		}
		if v.progress != nil {
			v.progress(v.verdict.Height, r.Bytes())
		}
	}
	if errors.Is(err, bundle.ErrBroken) || errors.Is(err, ledger.ErrEncoding) {
		return &FaultError{Height: v.height(), What: err.Error(), Broken: errors.Is(err, bundle.ErrBroken)}
	}
	return err
}

func (v *verifier) fault(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &FaultError{Height: v.height(), What: err.Error(), Cause: errors.Unwrap(err)}
}

// height returns where a fault is that is found now.
func (v *verifier) height() ledger.Height {
	if v.start == nil {
		return v.verdict.Height
	}
	return max(v.verdict.Height, v.start.From)
}

// enter makes an epoch the one of the blocks that follow.
func (v *verifier) enter(e *ledger.Epoch) error {
	public, err := e.PublicKeys(v.Suite)
	if err != nil {
		return err
	}
	if len(public) == 0 || len(public) > ledger.MaxMembers {
		return fmt.Errorf("epoch %d has %d members", e.Number, len(public))
	}
	v.epoch, v.keys[e.Number], v.epochs[e.Number], v.view, v.due = e, public, e, 0, false
	return nil
}

// check is the first reading of an item.
func (v *verifier) check(kind uint8, body []byte) error {
	if (kind == itemStart) != (v.start == nil) {
		return v.fault("an item of kind %d where it does not belong", kind)
	}
	switch kind {
	case itemStart:
		return v.checkStart(body)
	case itemTurn:
		return v.checkTurn(body)
	case itemBlock:
		return v.checkBlock(body)
	case itemEpoch:
		var e ledger.Epoch
		if err := ledger.Unmarshal(body, &e); err != nil {
			return err
		}
		if !v.due {
			return v.fault("an epoch that no block begins")
		}
		return v.checkEpoch(v.parent, &e)
	case itemFrame:
		if err := v.complete(); err != nil {
			return err
		}
		return v.checkFrame(body)
	default:
		return fmt.Errorf("%w: an item of kind %d; it may be of a later release", bundle.ErrBroken, kind)
	}
}

func (v *verifier) checkStart(body []byte) error {
	var s start
	if err := ledger.Unmarshal(body, &s); err != nil {
		return err
	}
	v.verdict.From, v.verdict.Height = s.From, s.From
	switch {
	case s.Version != 1:
		return v.fault("a package of version %d, this program knows 1", s.Version)
	case s.Chain != v.verdict.Chain || s.Group != v.verdict.Group:
		return v.fault("it is of chain %s group %q, the genesis gives chain %s group %q", s.Chain, s.Group, v.verdict.Chain, v.verdict.Group)
	case s.From > s.To || s.Below.Size != uint64(s.From):
		return v.fault("a package of blocks %d to %d over %d blocks", s.From, s.To, s.Below.Size)
	}
	if err := s.Below.Check(); err != nil {
		return v.fault("%v", err)
	}
	v.start, v.below = &s, ledger.Frontier{Size: s.Below.Size, Peaks: slices.Clone(s.Below.Peaks)}
	return nil
}

// checkTurn follows the epochs up to the one of the first block.
func (v *verifier) checkTurn(body []byte) error {
	var t turn
	if err := ledger.Unmarshal(body, &t); err != nil {
		return err
	}
	order := &t.Header.Order
	if v.parent != nil || v.turned >= v.start.Epoch || order.Epoch != v.turned || order.Height >= v.start.From || !order.Barrier ||
		order.Chain != v.verdict.Chain || order.Group != v.verdict.Group {
		return v.fault("block %d, which is to show that epoch %d began, does not", order.Height, v.turned+1)
	}
	if err := v.history.Finalizes(v.Suite, &t.Certificate, &t.Header, v.keys[order.Epoch]); err != nil {
		return v.fault("block %d, which ends epoch %d: %w", order.Height, order.Epoch, err)
	}
	v.verdict.Signatures += t.Certificate.Count()
	v.turned++
	return v.checkEpoch(&t.Header, &t.Epoch)
}

func (v *verifier) checkEpoch(after *ledger.Header, e *ledger.Epoch) error {
	if e.Number != after.Order.Epoch+1 || e.Hash(v.Suite) != after.NextEpoch {
		return v.fault("epoch %d is not the one that block %d begins", e.Number, after.Order.Height)
	}
	if err := v.enter(e); err != nil {
		return v.fault("%v", err)
	}
	return nil
}

func (v *verifier) checkBlock(body []byte) error {
	var b block
	if err := ledger.Unmarshal(body, &b); err != nil {
		return err
	}
	o, height := &b.Header.Order, v.start.From
	if v.parent != nil {
		height = v.parent.Order.Height + 1
	}
	v.verdict.Height = height
	order, hash := o.Hash(v.Suite), b.Header.Hash(v.Suite)
	switch {
	case v.due || v.logged != nil || height > v.start.To || v.turned != v.start.Epoch && v.parent == nil:
		return v.fault("a block where none belongs")
	case o.Chain != v.verdict.Chain || o.Group != v.verdict.Group || o.Height != height:
		return v.fault("it is block %d of chain %s group %q", o.Height, o.Chain, o.Group)
	case o.Epoch != v.epoch.Number:
		return v.fault("it is of epoch %d, the chain is in epoch %d", o.Epoch, v.epoch.Number)
	case v.parent != nil && (o.Parent != v.orders[len(v.orders)-1] || b.Header.Parent != v.blocks[len(v.blocks)-1]):
		return v.fault("it does not follow block %d", height-1)
	case v.parent != nil && o.UnixMilli <= v.parent.Order.UnixMilli:
		return v.fault("its time is not after that of block %d", height-1)
	case int64(o.Proposer) >= int64(len(v.epoch.Members)):
		return v.fault("it is of member %d of %d", o.Proposer, len(v.epoch.Members))
	case b.Header.HistoryRoot != v.below.Root(v.Suite):
		return v.fault("its history root is not that of the blocks below it")
	case o.Barrier == b.Header.NextEpoch.IsZero():
		return v.fault("it ends its epoch, and names no next one, or the other way round")
	}
	if height == 0 {
		c, err := ledger.Marshal(&b.Certificate)
		none, failed := ledger.Marshal(&ledger.Certificate{})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		if hash != v.First || !bytes.Equal(c, none) || b.NewView != nil {
			return v.fault("it is not the block that the genesis gives, %s", v.First)
		}
	} else {
		if err := v.history.Finalizes(v.Suite, &b.Certificate, &b.Header, v.keys[o.Epoch]); err != nil {
			return v.fault("%w", err)
		}
		if b.Certificate.Statement.Kind == ledger.Recover {
			v.verdict.Notes = append(v.verdict.Notes, fmt.Sprintf("block %d: %d of %d members signed it as survivors of a disaster, and no quorum did",
				height, b.Certificate.Count(), len(v.epoch.Members)))
		}
		v.verdict.Signatures += b.Certificate.Count()
		if err := v.checkOpening(&b); err != nil {
			return err
		}
	}
	v.below.Append(v.Suite, hash)
	v.parent, v.due = &b.Header, o.Barrier
	v.orders, v.blocks = append(v.orders, order), append(v.blocks, hash)
	v.verdict.Block, v.verdict.Epoch = hash, o.Epoch
	if b.NewView != nil {
		for _, c := range b.NewView.Votes {
			v.sort(c)
		}
	}
	return nil
}

// checkOpening checks the new-view that a block names: why its leader could propose it.
func (v *verifier) checkOpening(b *block) error {
	o, n := &b.Header.Order, b.NewView
	switch {
	case n == nil && o.NewView.IsZero():
		return nil
	case n == nil || n.Digest(v.Suite) != o.NewView:
		return v.fault("the new-view that its header names is missing, or another")
	case n.Epoch != o.Epoch:
		return v.fault("its new-view is of epoch %d", n.Epoch)
	case n.View <= v.view:
		return v.fault("its new-view is for view %d, after view %d", n.View, v.view)
	case b.Certificate.Statement.View < n.View && b.Certificate.Statement.Kind == ledger.Commit:
		return v.fault("it was proposed in view %d and certified in view %d", n.View, b.Certificate.Statement.View)
	case v.Genesis.Engine == "pbft" && uint64(o.Proposer) != n.View%uint64(len(v.epoch.Members)):
		return v.fault("member %d made it, who does not lead view %d", o.Proposer, n.View)
	}
	if err := v.newView(n); err != nil {
		return v.fault("its new-view: %v", err)
	}
	v.view = n.View
	v.verdict.NewViews++
	// The leader built on the highest certificate that was claimed, or on a higher one that it held itself.
	if at := n.High.Statement.Height; !n.High.IsZero() && at >= v.start.From && at < o.Height && v.orders[at-v.start.From] != n.High.Statement.Order {
		v.verdict.Notes = append(v.verdict.Notes, fmt.Sprintf("block %d: the highest certificate of the new-view for view %d is for order %s at height %d, "+
			"which is not in the chain: its leader held a higher one", o.Height, n.View, n.High.Statement.Order, at))
	}
	return nil
}

// newView checks that a quorum signed changes to a view, and that the certificate is the highest that they claim.
func (v *verifier) newView(n *ledger.NewView) error {
	members := v.keys[n.Epoch]
	var top ledger.Statement
	batch := v.Suite.NewBatch()
	for i, c := range n.Votes {
		st := &c.Statement
		if int64(c.Signer) >= int64(len(members)) || i > 0 && c.Signer <= n.Votes[i-1].Signer || st.Kind != ledger.ViewChange || st.View != n.View ||
			st.Epoch != n.Epoch {
			return fmt.Errorf("vote %d, of member %d, is no change to view %d, or comes twice", i, c.Signer, n.View)
		}
		batch.Add(members[c.Signer], st.Digest(v.Suite, v.verdict.Chain, v.verdict.Group), c.Signature)
		if st.High.Compare(top.High) > 0 {
			top = *st
		}
	}
	if want := ledger.Quorum(len(members)); len(n.Votes) < want {
		return fmt.Errorf("%d of %d members changed to view %d, want %d", len(n.Votes), len(members), n.View, want)
	}
	for i, valid := range batch.Verify() {
		if !valid {
			return fmt.Errorf("the signature of member %d does not verify", n.Votes[i].Signer)
		}
	}
	v.verdict.Signatures += len(n.Votes)
	st := &n.High.Statement
	switch {
	case n.High.IsZero():
		if top.High != (ledger.Rank{}) || !top.Order.IsZero() {
			return fmt.Errorf("it has no certificate, and view %d height %d is claimed", top.High.View, top.High.Height)
		}
		return nil
	case st.Rank() != top.High || st.Order != top.Order:
		return fmt.Errorf("its certificate is of view %d height %d, the highest claimed is of view %d height %d", st.View, st.Height, top.High.View, top.High.Height)
	case st.Epoch != n.Epoch || st.Kind != ledger.Prepare && st.Kind != ledger.Commit:
		return fmt.Errorf("its certificate is of %s statements of epoch %d", st.Kind, st.Epoch)
	}
	if err := n.High.Verify(v.Suite, v.verdict.Chain, v.verdict.Group, members); err != nil {
		return err
	}
	v.verdict.Signatures += n.High.Count()
	return nil
}

// complete checks that all blocks are there before what follows them.
func (v *verifier) complete() error {
	if v.whole {
		return nil
	}
	if v.start == nil {
		return v.fault("the package is empty")
	}
	if v.parent == nil || v.parent.Order.Height != v.start.To || v.due {
		return v.fault("the package ends here, and its start promises blocks up to %d with the epochs that they begin", v.start.To)
	}
	if err := v.history.End(); err != nil {
		return v.fault("%w", err)
	}
	v.whole = true
	return nil
}

// checkFrame checks a frame of the statement log.
func (v *verifier) checkFrame(data []byte) error {
	if len(data) < keys.DigestSize {
		return v.fault("a frame of %d bytes in the statement log", len(data))
	}
	digest, body := keys.Digest(data[:keys.DigestSize]), data[keys.DigestSize:]
	var head SegmentHead
	if err := ledger.Unmarshal(body, &head); err == nil {
		return v.checkSegment(&head, digest, body)
	}
	if v.logged == nil {
		return v.fault("the statement log does not begin with a segment")
	}
	if chained(v.Suite, v.verdict.LogDigest, body) != digest {
		return v.fault("the statement log of node %s was changed: a record of segment %d behind height %d does not continue its chain of digests",
			v.logged.Node, v.logged.Index, v.logged.Head)
	}
	v.verdict.LogDigest = digest
	var r Record
	if err := ledger.Unmarshal(body, &r); err != nil {
		return err
	}
	v.verdict.Missed += r.Missed
	batch := v.Suite.NewBatch()
	var votes []ledger.Vote
	for _, s := range r.Stated {
		st := &s.Statement
		members, known := v.keys[st.Epoch]
		if st.Kind < ledger.Propose || st.Kind > ledger.Attest || len(s.Signed) == 0 {
			return v.fault("the statement log has a %s of %d members", st.Kind, len(s.Signed))
		}
		v.verdict.Statements += len(s.Signed)
		if !known {
			v.verdict.Unchecked += len(s.Signed)
			continue
		}
		what := st.Digest(v.Suite, v.verdict.Chain, v.verdict.Group)
		for _, signed := range s.Signed {
			if int64(signed.Member) >= int64(len(members)) {
				return v.fault("the statement log has a %s of member %d of %d", st.Kind, signed.Member, len(members))
			}
			batch.Add(members[signed.Member], what, signed.Signature)
			votes = append(votes, ledger.Vote{Signer: signed.Member, Statement: *st, Signature: signed.Signature})
		}
	}
	for i, valid := range batch.Verify() {
		if st := &votes[i].Statement; !valid {
			return v.fault("the statement log has a %s of member %d at view %d height %d whose signature does not verify", st.Kind, votes[i].Signer, st.View, st.Height)
		}
		v.sort(votes[i])
	}
	for i := range r.NewViews {
		n := &r.NewViews[i]
		if _, known := v.keys[n.Epoch]; !known {
			v.verdict.Unchecked += len(n.Votes)
			continue
		}
		if err := v.newView(n); err != nil {
			return v.fault("the statement log has a new-view for view %d that does not hold: %v", n.View, err)
		}
		for _, c := range n.Votes {
			v.sort(c)
		}
	}
	if v.strayed > maxStrays {
		return v.fault("more than %d statements are about other blocks than the chain's: export fewer blocks at once", maxStrays)
	}
	return nil
}

func (v *verifier) checkSegment(head *SegmentHead, digest keys.Digest, body []byte) error {
	switch {
	case head.Version != 1 || head.Chain != v.verdict.Chain || head.Group != v.verdict.Group:
		return v.fault("a segment of the statement log is of version %d, chain %s, group %q", head.Version, head.Chain, head.Group)
	case v.logged != nil && (head.Index != v.logged.Index+1 || head.Node != v.logged.Node || head.Previous != v.verdict.LogDigest):
		return v.fault("segment %d of the statement log does not continue segment %d", head.Index, v.logged.Index)
	case chained(v.Suite, head.Previous, body) != digest:
		return v.fault("the head of segment %d of the statement log was changed", head.Index)
	}
	v.logged, v.verdict.LogDigest = head, digest
	return nil
}

// sort keeps a statement for the second reading, unless it agrees with the chain: of two that contradict one another, at
// most one does.
func (v *verifier) sort(vote ledger.Vote) {
	st := &vote.Statement
	switch {
	case st.Kind == ledger.Heartbeat:
		return
	case st.Kind == ledger.ViewChange:
		who := voter{st.Epoch, vote.Signer}
		if !slices.ContainsFunc(v.changes[who], func(o ledger.Vote) bool { return o.Statement == *st }) {
			v.changes[who] = append(v.changes[who], vote)
			v.strayed++
		}
		return
	case st.Height >= v.start.From && st.Height-v.start.From < ledger.Height(len(v.orders)):
		at := st.Height - v.start.From
		if st.Order == v.orders[at] && (st.Block.IsZero() || st.Block == v.blocks[at]) {
			return
		}
	}
	s := spotOf(&vote)
	if kept := v.strays[s]; len(kept) < 4 && !slices.ContainsFunc(kept, func(o ledger.Vote) bool { return o.Statement == *st }) {
		v.strays[s] = append(kept, vote)
		v.strayed++
	}
}

// index prepares the second reading.
func (v *verifier) index() {
	v.results, v.lowest = map[result][]ledger.Vote{}, map[voter][]int{}
	for s, votes := range v.strays {
		for _, vote := range votes {
			if s.kind == ledger.Commit || s.kind == ledger.Attest {
				key := result{s.voter, vote.Statement.Order}
				v.results[key] = append(v.results[key], vote)
			}
		}
	}
	for who, changes := range v.changes {
		slices.SortFunc(changes, func(a, b ledger.Vote) int {
			return ledger.Rank{View: a.Statement.View, Height: a.Statement.Height}.Compare(b.Statement.Rank())
		})
		lowest := make([]int, len(changes))
		for i := len(changes) - 1; i >= 0; i-- {
			lowest[i] = i
			if i+1 < len(changes) {
				if next := lowest[i+1]; changes[next].Statement.High.Compare(changes[i].Statement.High) < 0 {
					lowest[i] = next
				}
			}
			if i > 0 && changes[i-1].Statement.View == changes[i].Statement.View {
				v.accuse(changes[i-1], changes[i])
			}
		}
		v.lowest[who] = lowest
	}
}

// compare is the second reading of an item: every vote against what the first reading kept.
func (v *verifier) compare(kind uint8, body []byte) error {
	var certificates []ledger.Certificate
	switch kind {
	case itemTurn:
		var t turn
		if err := ledger.Unmarshal(body, &t); err != nil {
			return err
		}
		certificates = append(certificates, t.Certificate)
	case itemBlock:
		var b block
		if err := ledger.Unmarshal(body, &b); err != nil {
			return err
		}
		certificates = append(certificates, b.Certificate)
		if b.NewView != nil {
			certificates = append(certificates, b.NewView.High)
		}
	case itemFrame:
		var r Record
		if err := ledger.Unmarshal(body[keys.DigestSize:], &r); err != nil {
			return nil // the head of a segment
		}
		for _, s := range r.Stated {
			for _, signed := range s.Signed {
				v.compareVote(ledger.Vote{Signer: signed.Member, Statement: s.Statement, Signature: signed.Signature})
			}
		}
		for _, n := range r.NewViews {
			certificates = append(certificates, n.High)
		}
	default:
	}
	for _, c := range certificates {
		for i, m := range c.Members() {
			v.compareVote(ledger.Vote{Signer: m, Statement: c.Statement, Signature: c.Signatures[i]})
		}
	}
	return nil
}

func (v *verifier) compareVote(vote ledger.Vote) {
	st := &vote.Statement
	if st.Kind == ledger.ViewChange || st.Kind == ledger.Heartbeat {
		return
	}
	for _, stray := range v.strays[spotOf(&vote)] {
		v.accuse(stray, vote)
	}
	who := voter{st.Epoch, vote.Signer}
	if st.Kind == ledger.Commit || st.Kind == ledger.Attest {
		for _, stray := range v.results[result{who, st.Order}] {
			v.accuse(stray, vote)
		}
	}
	if changes := v.changes[who]; st.Kind == ledger.Commit && len(changes) > 0 {
		later, _ := slices.BinarySearchFunc(changes, st.View, func(c ledger.Vote, view uint64) int {
			if c.Statement.View <= view {
				return -1
			}
			return 1
		})
		if later < len(changes) {
			v.accuse(changes[v.lowest[who][later]], vote)
		}
	}
}

// accuse adds evidence to the verdict if two votes are some.
func (v *verifier) accuse(a, b ledger.Vote) {
	if ledger.Contradict(&a.Statement, &b.Statement) == 0 || len(v.verdict.Evidence) >= maxEvidence {
		return
	}
	e, err := ledger.NewEvidence(a, b)
	if err != nil {
		return
	}
	place, err := e.Place()
	if epoch := v.epochs[place.Epoch]; err != nil || epoch == nil || v.found[place] ||
		e.Verify(v.Suite, v.verdict.Chain, v.verdict.Group, epoch) != nil { // unverified votes of epochs that the package does not reach
		return
	}
	v.found[place] = true
	at, _ := slices.BinarySearchFunc(v.verdict.Evidence, place, func(o ledger.Evidence, p ledger.Place) int {
		other, _ := o.Place() //nolint:errcheck // it was checked when it came in
		return comparePlaces(other, p)
	})
	v.verdict.Evidence = slices.Insert(v.verdict.Evidence, at, *e)
}

// comparePlaces orders evidence, so that a verdict does not depend on the order of maps.
func comparePlaces(a, b ledger.Place) int {
	x, _ := ledger.Marshal(&a) //nolint:errcheck // numbers cannot fail to encode
	y, _ := ledger.Marshal(&b) //nolint:errcheck // likewise
	return bytes.Compare(x, y)
}
