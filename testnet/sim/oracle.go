package sim

import (
	"bytes"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// oracle sees what no node can: every statement that left a host, and every block that became final anywhere,
// across crashes. It checks
//
//   - each statement of an honest member against the rules of the double-sign guard, with a memory of its own,
//     and that a quorum prepared what a member commits to, and that who signs is a member in that epoch;
//   - each final block: one for each height, that which a quorum voted to commit, certified by members that did sign, its
//     transactions submitted by a client, in no other block and in time, its state root and running digest those of the
//     model, and it ends the epoch if it holds what does, alone, and for something;
//   - each host: blocks come to it once and in order, and what it finalized is there after a crash;
//   - each block keeps the limits of the group's parameters, and its time is after its parent's and near the clocks of when
//     the first honest member voted for it;
//   - a recovery: it has all blocks that are final anywhere, all who stay signed it, and they do not vote in an epoch that it ends;
//   - evidence: none against an honest member, and none of what a member did not sign;
//   - each honest member sends a bounded number of messages, whatever it is asked, and the group settles within
//     a bounded number of view changes after the last fault.
type oracle struct {
	world     *world
	histories map[span]*consensustest.History
	members   [][]uint32                        // by epoch, as host.member
	votes     map[ledger.Statement]map[int]bool // by who said it: it left the host
	signed    map[ledger.Statement]map[int]bool // by who signed it: a block that the host stored may hold the vote, though it crashed before the vote left
	bound     map[int]uint64                    // by host.member: the highest epoch of what left it
	judged    map[keys.Digest]int64             // by order: when the first honest member with a sound clock voted to prepare it, Unix ms
	decided   map[ledger.Height]keys.Digest     // blocks that a quorum's commit votes left for, whoever knows
	chain     []final                           // by height
	submitted map[ledger.TxID]*request
	hosts     []witness
	gave      map[int]uint64       // by host.member: the first epoch in which it may vote, after it signed a recovery
	recovered map[keys.Digest]bool // hashes of blocks that survivors signed in a recovery
}

// final is a block that became final.
type final struct {
	hash, root keys.Digest
	value      []byte // the running digest, as the model computes it
	at         int64  // its time
}

// witness is what the oracle remembers of a host.
type witness struct {
	height ledger.Height      // of the last block that it finalized
	epoch  uint64             // the highest that it signed in
	view   uint64             // the highest that it signed in, of that epoch
	unsent []ledger.Statement // signed, and not yet out of the host
	sent   int                // messages and requests
}

// span is a member in an epoch: what it signed in another does not bind it.
type span struct {
	member int
	epoch  uint64
}

func newOracle(w *world) *oracle {
	o := &oracle{world: w, histories: map[span]*consensustest.History{}, members: make([][]uint32, 1), votes: map[ledger.Statement]map[int]bool{}, signed: map[ledger.Statement]map[int]bool{}, bound: map[int]uint64{}, judged: map[keys.Digest]int64{}, decided: map[ledger.Height]keys.Digest{}, submitted: map[ledger.TxID]*request{}, gave: map[int]uint64{}, recovered: map[keys.Digest]bool{}}
	o.chain = []final{{hash: w.first.Hash(), root: w.first.Root(), at: w.block.Header.Order.UnixMilli}}
	for i := range w.config.Members {
		o.members[0] = append(o.members[0], uint32(i))
	}
	return o
}

func (o *oracle) witness(h *host) *witness {
	for len(o.hosts) <= h.index {
		o.hosts = append(o.hosts, witness{})
	}
	return &o.hosts[h.index]
}

func (o *oracle) history(member int, epoch uint64) *consensustest.History {
	s := span{member, epoch}
	if o.histories[s] == nil {
		o.histories[s] = consensustest.NewHistory()
	}
	return o.histories[s]
}

// quorum returns how many members of an epoch must vote alike. It does not ask the ledger, which may be wrong: it is the
// smallest number of which any two sets share more members than may lie.
func (o *oracle) quorum(epoch uint64) int {
	n := len(o.members[min(epoch, uint64(len(o.members)-1))])
	lie := (n - 1) / 3
	if o.world.config.Trust {
		lie = 0
	}
	q := 1
	for 2*q-n <= lie {
		q++
	}
	return q
}

// height returns that of the highest final block.
func (o *oracle) height() ledger.Height { return ledger.Height(len(o.chain) - 1) }

// trace returns the hooks through which the oracle watches a node of one life.
func (o *oracle) trace(h *host) group.Trace {
	t := group.Trace{
		Signing: func(st ledger.Statement) { o.signing(h, st) },
		Finalized: func(b *ledger.Block, _ []ledger.Receipt, txs []*ledger.SignedTx) {
			o.finalized(h, b, txs)
		},
		Evidence: func(a, b ledger.Vote) { o.evidence(h, a, b) },
		Alarm:    func(reason string) { o.world.tell("%s ALARM %s", h, reason) },
	}
	if h.honest() {
		t.Refused = o.refused(h)
	}
	t.Phase = func(phase string, height ledger.Height, view uint64, order keys.Digest) {
		if strings.HasPrefix(phase, "view-change: ") && h.group != nil && h.honest() {
			// The status is that of before: its leader is the one that is left. There is none where a view did not begin.
			if leader := h.group.Status().Consensus.Leader; leader >= 0 {
				o.count(leader, phase)
			}
		}
		if o.world.print != nil {
			o.world.tell("%s   %s view %d height %d %s", h, phase, view, height, order.Short())
		}
	}
	return t
}

// refused returns what counts the rules by which a host refuses what liars send.
func (o *oracle) refused(h *host) func(member uint32, rule string) {
	return func(member uint32, rule string) {
		o.world.tell("%s refuses from %d: %s", h, int32(member), rule)
		o.count(int32(member), rule)
	}
}

// count counts a rule by which a member was refused, or -1 for nobody's.
func (o *oracle) count(member int32, rule string) {
	now := o.members[len(o.members)-1]
	for _, l := range o.world.liars {
		if (member < 0 || int(member) < len(now) && int(now[member]) == l.member) && slices.Contains(l.rules, rule) {
			o.world.report.Refusals[l.number]++
		}
	}
}

// signing checks a statement against all that left the member before. It counts once it leaves: a host that
// crashes with it inside has not said it.
func (o *oracle) signing(h *host, st ledger.Statement) {
	if st.Kind == ledger.Heartbeat {
		return
	}
	o.world.tell("%s signs %s", h, consensustest.Describe(st))
	x := o.witness(h)
	if st.Epoch > x.epoch {
		x.epoch, x.view = st.Epoch, 0
	}
	if st.Epoch == x.epoch && st.View > x.view {
		x.view = st.View
		if !h.removed { // else it is alone in what was its epoch
			o.world.report.Views++
		}
	}
	if h.honest() {
		if last := o.bound[h.member]; st.Epoch < last || st.Epoch > uint64(len(o.members)) {
			o.world.fail("%s signs %s: it signed in epoch %d, and %d have begun", h, consensustest.Describe(st), last, len(o.members))
			return
		}
		if st.Epoch < uint64(len(o.members)) && !slices.Contains(o.members[st.Epoch], uint32(h.member)) {
			o.world.fail("%s signs %s: it is no member in epoch %d", h, consensustest.Describe(st), st.Epoch)
			return
		}
		if from := o.gave[h.member]; st.Epoch < from {
			o.world.fail("%s signs %s: it signed a recovery, and may vote from epoch %d on", h, consensustest.Describe(st), from)
			return
		}
		if err := o.history(h.member, st.Epoch).Check(st); err != nil {
			o.world.fail("%s signs %s: %v", h, consensustest.Describe(st), err)
			return
		}
	}
	if _, known := o.judged[st.Order]; !known && st.Kind == ledger.Prepare && h.honest() && h.skew <= maxSkew && h.skew >= -maxSkew {
		o.judged[st.Order] = epochStart + o.world.now/milli
	}
	x.unsent = append(x.unsent, st)
	note(o.signed, st, h.member)
}

// left notes that messages leave a host: whatever it signed before may be in them.
func (o *oracle) left(h *host) {
	x := o.witness(h)
	for _, st := range x.unsent {
		if h.honest() {
			if err := o.history(h.member, st.Epoch).Check(st); err != nil {
				o.world.fail("%s sends %s: %v", h, consensustest.Describe(st), err)
				return
			}
			if st.Kind == ledger.Commit && !o.certified(st) {
				o.world.fail("%s sends %s: no quorum prepared it", h, consensustest.Describe(st))
				return
			}
			o.history(h.member, st.Epoch).Note(st)
			o.bound[h.member] = max(o.bound[h.member], st.Epoch)
		}
		o.voted(st, h.member)
	}
	x.unsent = x.unsent[:0]
}

func (o *oracle) voted(st ledger.Statement, member int) {
	note(o.votes, st, member)
	note(o.signed, st, member)
	if st.Kind != ledger.Commit || o.voters(st) < o.quorum(st.Epoch) {
		return
	}
	if was, known := o.decided[st.Height]; known && was != st.Block {
		o.world.fail("quorums voted to commit two blocks at height %d: %s and %s", st.Height, was.Short(), st.Block.Short())
	}
	o.decided[st.Height] = st.Block
}

func note(by map[ledger.Statement]map[int]bool, st ledger.Statement, member int) {
	if by[st] == nil {
		by[st] = map[int]bool{}
	}
	by[st][member] = true
}

// voters returns how many members of its epoch sent a statement.
func (o *oracle) voters(st ledger.Statement) (n int) {
	if st.Epoch >= uint64(len(o.members)) { // nobody is in it yet
		return 0
	}
	for member := range o.votes[st] {
		if slices.Contains(o.members[st.Epoch], uint32(member)) {
			n++
		}
	}
	return n
}

// certified reports whether a quorum prepared the order of a commit vote, or one above it in the same
// view.
func (o *oracle) certified(commit ledger.Statement) bool {
	prepare := commit
	prepare.Kind, prepare.Block = ledger.Prepare, keys.Digest{}
	quorum := o.quorum(commit.Epoch)
	if o.voters(prepare) >= quorum {
		return true
	}
	for st := range o.votes {
		if st.Kind == ledger.Prepare && st.Epoch == commit.Epoch && st.View == commit.View && st.Height > commit.Height && o.voters(st) >= quorum {
			return true
		}
	}
	return false
}

// finalized checks a block that became final and durable at a host.
func (o *oracle) finalized(h *host, b *ledger.Block, txs []*ledger.SignedTx) {
	w := o.world
	x := o.witness(h)
	height := b.Header.Order.Height
	if height != x.height+1 {
		w.fail("%s finalizes block %d after block %d", h, height, x.height)
		return
	}
	x.height = height
	o.block(h, b, txs)
}

// block checks a block that is durable at a host.
func (o *oracle) block(h *host, b *ledger.Block, txs []*ledger.SignedTx) {
	w := o.world
	height := b.Header.Order.Height
	hash := b.Header.Hash(w.suite)
	w.note(h.index, int(height), hash[:])
	w.tell("%s finalizes block %d %s with %d transactions", h, height, hash.Short(), len(txs))
	st := b.Certificate.Statement
	order := b.Header.Order.Hash(w.suite)
	kind := ledger.Commit
	if w.config.Trust {
		kind = ledger.Attest
	}
	if st.Kind == ledger.Recover && o.recovered[hash] {
		kind = ledger.Recover
	}
	if st.Kind != kind || st.Epoch != b.Header.Order.Epoch || st.Height != height || st.Order != order || st.Block != hash {
		w.fail("%s: the certificate of block %d is %s", h, height, consensustest.Describe(st))
		return
	}
	signers := 0
	for _, number := range b.Certificate.Members() {
		if st.Epoch >= uint64(len(o.members)) || int(number) >= len(o.members[st.Epoch]) {
			w.fail("%s: block %d is signed by member %d of epoch %d, which there is not", h, height, number, st.Epoch)
			return
		}
		// What others have of a member left it; what the host itself signed may be in its block alone.
		if member := int(o.members[st.Epoch][number]); o.votes[st][member] || o.signed[st][member] && (member == h.member || kind == ledger.Recover) {
			o.voted(st, member) // the host serves the block from now on
			signers++
		}
	}
	quorum := o.quorum(st.Epoch)
	if kind == ledger.Recover { // all who stay
		quorum = len(o.gave)
	}
	if signers < quorum {
		w.fail("%s: %d members signed block %d, want %d", h, signers, height, quorum)
		return
	}
	if was, known := o.decided[height]; known && was != hash {
		w.fail("%s: block %d is %s, and a quorum voted to commit %s", h, height, hash.Short(), was.Short())
		return
	}
	if height <= o.height() {
		if was := o.chain[height]; was.hash != hash {
			w.fail("%s: two final blocks at height %d: %s and %s", h, height, was.hash.Short(), hash.Short())
		} else if was.root != b.Header.StateRoot {
			w.fail("%s: two state roots at height %d", h, height)
		}
		return
	}
	o.extend(h, b, hash, txs)
}

// extend takes the first sight of a block into the model.
func (o *oracle) extend(h *host, b *ledger.Block, hash keys.Digest, txs []*ledger.SignedTx) {
	w := o.world
	height := b.Header.Order.Height
	last := o.chain[len(o.chain)-1]
	if height != o.height()+1 || b.Header.Parent != last.hash {
		w.fail("%s: final block %d does not extend final block %d", h, height, o.height())
		return
	}
	order, params := &b.Header.Order, &w.config.Params
	value := last.value
	var size uint64
	var gas ledger.Gas
	for _, tx := range txs {
		size += uint64(len(tx.Raw))
		gas += tx.GasLimit
		r := o.submitted[tx.ID]
		switch {
		case o.recovered[hash] && precompiles.Recovers(&tx.Tx):
		case r == nil:
			w.fail("%s: block %d holds transaction %s, which nobody submitted", h, height, tx.ID)
		case r.height != 0:
			w.fail("%s: transaction %s is in blocks %d and %d", h, tx.ID, r.height, height)
		case tx.Expiry < b.Header.Order.UnixMilli:
			w.fail("%s: transaction %s is in block %d after it expired", h, tx.ID, height)
		default:
			r.height = height
		}
		if w.whole == nil {
			value = w.running(value, tx.ID)
		}
	}
	switch {
	case order.Epoch+1 != uint64(len(o.members)):
		w.fail("%s: block %d is of epoch %d, after %d others have begun", h, height, order.Epoch, len(o.members)-1)
	case len(txs) == 0:
		w.fail("%s: block %d is empty", h, height)
	case len(txs) > int(params.BlockTxs) || size > params.BlockBytes || gas > params.BlockGas:
		w.fail("%s: block %d has %d transactions of %d bytes and %d gas", h, height, len(txs), size, gas)
	case order.UnixMilli <= last.at:
		w.fail("%s: the time of block %d is not after that of its parent", h, height)
	case order.Barrier != slices.ContainsFunc(txs, h.executor.Barrier):
		w.fail("%s: block %d says %t of ending epoch %d, and its transactions the opposite", h, height, order.Barrier, order.Epoch)
	case order.UnixMilli > epochStart+w.now/milli+maxSkew+params.ClockSkew<<3:
		w.fail("%s: block %d is of %d ms ahead", h, height, order.UnixMilli-epochStart-w.now/milli)
	case !w.config.Trust && !o.recovered[hash]:
		// Who was the first to vote for it held its time against a clock that is wrong by no more than maxSkew.
		at, known := o.judged[b.Header.Order.Hash(w.suite)]
		if late, most := at-order.UnixMilli, maxSkew+params.ClockSkew<<3; !known || late > most || -late > most {
			w.fail("%s: the time of block %d is %d ms behind when an honest member first voted for it (one did: %t), at most %d", h, height, late, known, most)
		}
	}
	if w.whole != nil {
		w.whole.extend(h, b, hash, txs)
	}
	if order.Barrier {
		var next []uint32
		var err error
		if w.whole != nil {
			next, err = w.whole.members()
		} else {
			next, err = w.membersBy(txs[len(txs)-1], o.members[order.Epoch])
		}
		want := len(w.config.Members)
		if o.recovered[hash] {
			want = len(o.gave)
		}
		if err != nil || len(next) != want {
			w.fail("%s: block %d ends epoch %d with %d members, want %d: %v", h, height, order.Epoch, len(next), want, err)
		}
		if len(txs) != 1 || w.whole == nil && slices.Equal(next, o.members[order.Epoch]) {
			w.fail("%s: block %d of %d transactions ends epoch %d for nothing", h, height, len(txs), order.Epoch)
		}
		o.members = append(o.members, next)
		w.report.Epochs++
		if w.turned != nil {
			w.turned()
		}
	}
	o.chain = append(o.chain, final{hash, b.Header.StateRoot, value, order.UnixMilli})
	w.report.Blocks++
	w.report.Txs += len(txs)
	if w.sighted != nil {
		w.sighted(h)
	}
}

// evidence checks that nobody is accused without guilt.
func (o *oracle) evidence(h *host, a, b ledger.Vote) {
	w := o.world
	w.report.Evidence++
	w.tell("%s accuses member %d: %s, %s", h, a.Signer, consensustest.Describe(a.Statement), consensustest.Describe(b.Statement))
	if !h.honest() {
		return
	}
	if a.Signer != b.Signer || a.Statement == b.Statement {
		w.fail("%s shows evidence that proves nothing", h)
	}
	e := a.Statement.Epoch
	if e >= uint64(len(o.members)) || w.hosts[o.members[e][a.Signer]].honest() {
		w.fail("%s accuses honest member %d: %s, %s", h, a.Signer, consensustest.Describe(a.Statement), consensustest.Describe(b.Statement))
		return
	}
	if member := int(o.members[e][a.Signer]); !o.signed[a.Statement][member] || !o.signed[b.Statement][member] {
		w.fail("%s accuses member %d of what it did not sign: %s, %s", h, a.Signer, consensustest.Describe(a.Statement), consensustest.Describe(b.Statement))
	}
}

// crashed forgets what never left the host.
func (o *oracle) crashed(h *host) {
	o.witness(h).unsent = nil
}

// started checks what a host found on its disk: at least what it finalized before, and the model's state.
func (o *oracle) started(h *host) {
	x := o.witness(h)
	head := h.store.Head()
	if head.Height() < x.height {
		o.world.fail("%s finalized block %d and has only %d after a crash", h, x.height, head.Height())
		return
	}
	for x.height < head.Height() && o.world.broken == nil { // it stored a block and crashed before it told anybody
		x.height++
		b, err := h.store.Block(x.height)
		if err != nil {
			o.world.fail("%s: read block %d: %v", h, x.height, err)
			return
		}
		txs := make([]*ledger.SignedTx, len(b.Txs))
		for i, raw := range b.Txs {
			if txs[i], err = ledger.DecodeTx(o.world.suite, raw); err != nil {
				o.world.fail("%s: transaction %d of block %d: %v", h, i, b.Header.Order.Height, err)
				return
			}
		}
		o.block(h, b, txs)
	}
	o.compare(h)
}

// compare checks a host's head against the model.
func (o *oracle) compare(h *host) {
	if o.world.broken != nil {
		return
	}
	head := h.store.Head()
	want := o.chain[head.Height()]
	if o.world.whole != nil {
		o.world.whole.compare(h)
	}
	value, _, err := head.Get(counterKey)
	switch {
	case err != nil:
		o.world.fail("%s: read the state of block %d: %v", h, head.Height(), err)
	case head.Hash() != want.hash || head.Root() != want.root:
		o.world.fail("%s has block %s with state root %s at height %d, final is %s with %s", h,
			head.Hash().Short(), head.Root().Short(), head.Height(), want.hash.Short(), want.root.Short())
	case !bytes.Equal(value, want.value):
		o.world.fail("%s: the state of block %d is not what its transactions give", h, head.Height())
	}
}
