package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/consensus/raft"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Bounds on the size of a simulated group.
const (
	MinNodes = 2
	MaxNodes = 31
)

// Schedule names one run: all that happens in it comes from the seed.
type Schedule struct {
	Nodes  int // members of the group
	Seed   uint64
	Raft   bool              // the group trusts its members and runs consensus/raft: nobody lies
	Engine consensus.Factory // nil: consensus/pbft, or consensus/raft
	Trace  io.Writer         // what happens, in words; nil: off
	Log    bool              // with Trace: the nodes' own logs too
	// Byzantine names the strategy by which as many members lie as may; empty: in a quarter of all seeds members lie,
	// and in another they run twice; "none": nobody lies.
	Byzantine string

	// Whole runs the real executor, system contracts and a token in WebAssembly instead of a running digest. It takes
	// some times as long.
	Whole bool

	vm   *wasmvm.VM             // with Whole: shared by schedules; nil: an own one
	lies func(file string) bool // disks that lie about the syncs of some files; nil: none
}

// Report tells what one schedule, or several, contained.
type Report struct {
	Blocks      int   `json:"blocks"`       // that became final
	Txs         int   `json:"txs"`          // in them
	Messages    int   `json:"messages"`     // sent
	Lost        int   `json:"lost"`         // of those
	Copied      int   `json:"copied"`       // of those, delivered twice
	Late        int   `json:"late"`         // of those, overtaken by what was sent after them
	Crashes     int   `json:"crashes"`      // of hosts, losing what was not synced
	SendCrashes int   `json:"send_crashes"` // of those, between two sends, after the journal was synced
	LostWrites  int   `json:"lost_writes"`  // in crashes
	TornWrites  int   `json:"torn_writes"`  // in crashes: in part on disk
	DiskErrors  int   `json:"disk_errors"`  // syncs that failed
	DiskFull    int   `json:"disk_full"`    // writes that found no space
	SlowSyncs   int   `json:"slow_syncs"`   // during which a node stood still
	ClockJumps  int   `json:"clock_jumps"`  // forwards and backwards
	Journals    int   `json:"journals"`     // lost
	Partitions  int   `json:"partitions"`
	Flaps       int   `json:"flaps"`      // partitions that came and went in quick succession
	Uneven      int   `json:"uneven"`     // times that single directions of links became bad
	Views       int   `json:"views"`      // higher views in which a host signed
	Epochs      int   `json:"epochs"`     // that ended with a change of members
	Turns       int   `json:"turns"`      // of those, with a fault just then
	Recoveries  int   `json:"recoveries"` // after more members were lost for good than the group bears
	Kept        int   `json:"kept"`       // blocks above the survivors' heads in them
	Twins       int   `json:"twins"`      // members that ran twice
	Liars       int   `json:"liars"`      // members that lied by a strategy
	Evidence    int   `json:"evidence"`
	Idles       int   `json:"idles"`               // times that the group was watched with nothing to do
	Transfers   int   `json:"transfers,omitempty"` // whole nodes: of tokens, that moved some
	Refused     int   `json:"refused,omitempty"`   // whole nodes: transfers of more than there was
	VirtualMs   int64 `json:"virtual_ms"`

	Attacks  [maxStrategies]int `json:"-"` // messages that broke the rules, by strategy
	Refusals [maxStrategies]int `json:"-"` // times that an honest node refused a liar by a rule that its strategy names
	Digest   uint64             `json:"-"` // of one schedule: everything that was delivered and finalized, and when
}

func (r *Report) add(o Report) {
	r.Blocks += o.Blocks
	r.Txs += o.Txs
	r.Messages += o.Messages
	r.Lost += o.Lost
	r.Copied += o.Copied
	r.Late += o.Late
	r.Crashes += o.Crashes
	r.SendCrashes += o.SendCrashes
	r.LostWrites += o.LostWrites
	r.TornWrites += o.TornWrites
	r.DiskErrors += o.DiskErrors
	r.DiskFull += o.DiskFull
	r.SlowSyncs += o.SlowSyncs
	r.ClockJumps += o.ClockJumps
	r.Journals += o.Journals
	r.Partitions += o.Partitions
	r.Flaps += o.Flaps
	r.Uneven += o.Uneven
	r.Epochs += o.Epochs
	r.Turns += o.Turns
	r.Recoveries += o.Recoveries
	r.Kept += o.Kept
	r.Views += o.Views
	r.Twins += o.Twins
	r.Liars += o.Liars
	r.Evidence += o.Evidence
	r.Idles += o.Idles
	r.Transfers += o.Transfers
	r.Refused += o.Refused
	r.VirtualMs += o.VirtualMs
	for i := range r.Attacks {
		r.Attacks[i] += o.Attacks[i]
		r.Refusals[i] += o.Refusals[i]
	}
	r.Digest ^= o.Digest
}

const (
	// enough is how many blocks each schedule makes.
	enough = 10
	// calm is how long the group may take to recover, µs: progress timers have grown to eight times the view
	// timeout by then, and a member that left the view alone is let back after waits that double.
	calm = 90 * second
	// maxSkew is by how much, in ms, clocks may be wrong: any two differ by less than a block's time may.
	maxSkew = 2_000
	// wildSkew is by how much the clocks of members are that count as faulty.
	wildSkew = 3_600_000
	// maxOpen is how many transactions the client has under way.
	maxOpen = 5
	// idleTime is how long the group is watched with nothing to do, µs.
	idleTime = 2 * second
)

// Run runs one schedule: faults that differ by seed, then a calm in which the group must go on. The error says
// which rule was broken; Violation tells it from a simulator that could not run. A panic, of a node or of the
// simulator, is a broken rule.
func Run(s Schedule) (report Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("seed %d: %w: panic: %v\n%s", s.Seed, errFound, p, debug.Stack())
		}
	}()
	if s.Nodes < MinNodes || s.Nodes > MaxNodes {
		return Report{}, fmt.Errorf("simulate %d nodes: want %d to %d", s.Nodes, MinNodes, MaxNodes)
	}
	if s.Engine == nil {
		s.Engine = pbft.New
		if s.Raft {
			s.Engine = raft.New
		}
	}
	twins, liars, err := s.liars()
	if err != nil {
		return Report{}, err
	}
	if s.Whole && s.vm == nil {
		if s.vm, err = newVM(context.Background()); err != nil {
			return Report{}, err
		}
		defer s.vm.Close(context.Background()) //nolint:errcheck // nothing depends on it
	}
	spares := 0
	if (s.Seed%8 == 2 || s.Seed%16 == 5) && twins == 0 && (ledger.Faulty(s.Nodes) > 0 || s.Raft && s.Nodes > 2) {
		spares = 2
	}
	w, err := newWorld(&s, twins, spares)
	if err != nil {
		return Report{}, err
	}
	w.report.Twins, w.report.Liars, w.lies = twins, len(liars), s.lies
	for i, number := range liars {
		w.lie(w.hosts[i], number)
	}
	if s.Trace != nil {
		w.print = func(format string, args ...any) { fmt.Fprintf(s.Trace, format, args...) }
		if s.Log {
			w.log = zerolog.New(s.Trace)
		}
	}
	p := &play{world: w, faulty: ledger.Faulty(s.Nodes) - twins - len(liars)}
	if s.Seed%16 == 10 {
		w.turned = p.turn
	}
	if least, most := losses(s.Nodes, w.config.Finality()); s.Seed%32 == 8 && !s.Whole && twins+len(liars)+spares == 0 && least <= most {
		p.disaster, p.faulty = true, 0 // who lost its journal has nothing to report
	}
	p.run()
	w.report.VirtualMs = w.now / milli
	if w.broken != nil {
		return w.report, fmt.Errorf("seed %d: %w", s.Seed, w.broken)
	}
	return w.report, nil
}

// liars returns how many members run twice, and by which strategies others lie.
func (s *Schedule) liars() (twins int, liars []int, err error) {
	f := ledger.Faulty(s.Nodes)
	all := strategies()
	switch {
	case s.Byzantine == "none" || s.Raft && s.Byzantine == "":
	case s.Raft:
		return 0, nil, fmt.Errorf("members that lie by strategy %q in a group that trusts them: raft bears none", s.Byzantine)
	case s.Byzantine != "":
		number := slices.IndexFunc(all, func(x *strategy) bool { return x.name == s.Byzantine })
		if number < 0 {
			return 0, nil, fmt.Errorf("no strategy %q: see sim --list", s.Byzantine)
		}
		liars = slices.Repeat([]int{number}, f)
	case s.Seed%4 == 3:
		twins = f
	case s.Seed%4 == 1:
		for i := range f {
			liars = append(liars, int((s.Seed/4+uint64(i)*7)%uint64(len(all))))
		}
	}
	return twins, liars, nil
}

// Violation reports whether an error of Run says that a rule was broken.
func Violation(err error) bool { return errors.Is(err, errFound) }

// play is the course of a schedule: its client and its faults.
type play struct {
	*world
	faulty   int   // members that may still lose their journals
	gap      int64 // usual time between transactions, µs
	disaster bool  // more members are lost than the group bears
	healed   bool  // faults are over
	resting  bool  // the client sends no more
	sent     []*request
	open     []*request // sent and not final, oldest first
}

// request is a transaction of the client.
type request struct {
	id     ledger.TxID
	raw    []byte
	short  bool // it may expire
	ends   bool // it ends an epoch, when what it asks for is agreed on: a node that is behind refuses it
	height ledger.Height
}

func (p *play) run() {
	w := p.world
	w.links.delay = []int64{300, 3 * milli, 30 * milli}[w.rng.IntN(3)]
	w.links.loss = []int{0, 0, 1, 10, 30, 40}[w.rng.IntN(6)]
	w.links.duplicate = []int{0, 0, 5, 20}[w.rng.IntN(4)]
	p.gap = []int64{30 * milli, 80 * milli, 250 * milli}[w.rng.IntN(3)]
	skew := []int64{0, 50, maxSkew}[w.rng.IntN(3)]
	for _, h := range w.hosts {
		h.skew = w.upTo(2*skew) - skew
	}
	for _, l := range w.liars {
		w.tell("%s lies: it %s", l.host, l.does)
	}
	w.tell("delay %d µs, loss %d %%, copies %d %%, a transaction every %d ms, clocks differ by %d ms, %d twins",
		w.links.delay, w.links.loss, w.links.duplicate, p.gap/milli, skew, w.report.Twins)
	for _, h := range w.hosts {
		w.after(w.upTo(20*milli), h.start)
	}
	faults := 500*milli + w.upTo(1_000*milli)
	if w.turned != nil {
		faults += second // epochs are to end meanwhile
	}
	p.client()
	p.resend()
	w.after(w.upTo(200*milli), p.harm)
	if w.whole != nil && len(w.whole.victims) > 0 {
		w.after(w.upTo(200*milli), p.govern)
	} else {
		p.change()
	}
	if p.disaster {
		p.lose(faults)
	}
	w.runUntil(faults, nil)

	p.heal()
	if p.disaster {
		p.recover()
	}
	before, viewsBefore := w.oracle.height(), w.report.Views
	p.submit(false)
	p.gap = 10 * milli
	settled := func() bool {
		if w.steps%16 != 0 {
			return false
		}
		if w.oracle.height() >= max(before+1, enough) && !w.governs() {
			p.resting = true
		}
		return p.resting && p.settled()
	}
	w.runUntil(w.now+calm, settled)
	if w.broken == nil && !p.settled() || !p.resting {
		p.stuck(before)
	}
	p.bounded(viewsBefore)
	for _, h := range w.hosts {
		if h.up && h.honest() {
			w.oracle.compare(h)
		}
	}
	if w.rng.IntN(8) == 0 && len(w.liars) == 0 {
		p.idle()
	}
}

// settled reports whether all honest nodes have all blocks, and all transactions of the client are in them.
func (p *play) settled() bool {
	for _, h := range p.hosts {
		if h.honest() && h.listed() && !h.removed && (!h.up || h.store.Head().Height() < p.oracle.height()) {
			return false
		}
	}
	return len(p.unfinished()) == 0
}

// unfinished returns the client's requests that are not in a block and cannot expire.
func (p *play) unfinished() []*request {
	kept := p.open[:0]
	for _, r := range p.open {
		if r.height == 0 && !r.short {
			kept = append(kept, r)
		}
	}
	clear(p.open[len(kept):])
	p.open = kept
	return kept
}

func (p *play) stuck(before ledger.Height) {
	if p.broken != nil {
		return
	}
	var state strings.Builder
	for _, h := range p.hosts {
		if !h.up {
			fmt.Fprintf(&state, "; %s is down", h)
			continue
		}
		s := h.group.Status()
		count, _, _ := h.group.Pool().Size()
		fmt.Fprintf(&state, "; %s at height %d in view %d (changing: %t, syncing: %d), %d waiting", h, h.store.Head().Height(),
			s.Consensus.View, s.Consensus.Changing, s.Syncing, count)
	}
	p.fail("no recovery %d s after the last fault: height %d, was %d, %d transactions open%s", calm/second,
		p.oracle.height(), before, len(p.unfinished()), state.String())
}

// idle watches the group with nothing to do: it makes no block and few messages.
func (p *play) idle() {
	w := p.world
	w.tell("idle")
	// What clients could not get in any more may still be on its way, and short-lived requests in a pool.
	w.runUntil(w.now+second/2, nil)
	slowest := w.now / milli
	for _, h := range w.hosts {
		slowest = min(slowest, w.now/milli+h.skew)
	}
	for _, h := range w.hosts {
		if !h.up {
			continue
		}
		if count, _ := h.group.Pool().Waiting(&w.config.Params, epochStart+slowest, 1); count > 0 {
			return // a leader may still put it into a block
		}
	}
	w.report.Idles++
	calm := func() bool { // a member that left the view alone is still being let back
		for _, h := range w.hosts {
			if h.up && h.group.Status().Consensus.Changing {
				return false
			}
		}
		return true
	}
	wasCalm := calm()
	height, messages, views := w.oracle.height(), w.report.Messages, w.report.Views
	w.runUntil(w.now+idleTime, nil)
	if made := w.oracle.height() - height; made > 0 {
		w.fail("%d blocks in %d s of idling", made, idleTime/second)
	}
	// Who lost its journal may lead the first view of an epoch in which it does not vote yet.
	if wasCalm && w.report.Twins+w.report.Journals == 0 && w.report.Views != views {
		w.fail("%d views entered in %d s of idling", w.report.Views-views, idleTime/second)
	}
	// Each second a leader sends heartbeats to all, and each member a status to three and an answer to each.
	n := len(w.hosts)
	if most := int(idleTime/second) * (3*n*n + 8*n); w.report.Messages-messages > most && wasCalm && w.report.Views == views {
		w.fail("%d messages in %d s of idling, want at most %d", w.report.Messages-messages, idleTime/second, most)
	}
}

// client submits transactions at random nodes, until enough is done.
func (p *play) client() {
	if p.resting {
		return
	}
	open := maxOpen
	if p.whole != nil && p.whole.token.IsZero() {
		open = 1 // a deployment is enough
	}
	if len(p.unfinished()) < open {
		p.submit(p.rng.IntN(10) == 0)
	}
	p.after(1+p.upTo(2*p.gap), p.client)
}

// submit makes a transaction and gives it to one node, or to several at once.
func (p *play) submit(short bool) { p.request(short, nil) }

// request is submit of a transaction that edit, unless it is nil, changes, and whose signer it says. It returns nil when
// that broke a rule.
func (p *play) request(short bool, edit func(*ledger.Tx) keys.Signer) *request {
	w := p.world
	lifetime := int64(300_000)
	if short {
		lifetime = 5 + w.upTo(2_000)
	}
	tx := ledger.Tx{
		Version: ledger.Version, Chain: w.chain, Group: "main", Sender: ledger.Address{1}, Expiry: epochStart + w.now/milli + lifetime,
		GasLimit: 1, To: ledger.Target{Address: ledger.Address{2}}, Method: "m", Args: []byte{0x80},
	}
	binary.BigEndian.PutUint64(tx.Nonce[:], uint64(len(p.sent)))
	signer := w.suite.signer(1_000_000)
	var c call
	switch {
	case edit != nil:
		signer = edit(&tx)
	case w.whole != nil:
		signer, c = w.whole.next(&tx)
	}
	signed, err := tx.Sign(w.suite, signer)
	if err != nil {
		w.fail("sign transaction: %v", err)
		return nil
	}
	if w.whole != nil {
		w.whole.calls[signed.ID] = c
	}
	r := &request{id: signed.ID, raw: signed.Raw, short: short, ends: precompiles.Activates(&signed.Tx)}
	p.sent = append(p.sent, r)
	p.open = append(p.open, r)
	w.oracle.submitted[signed.ID] = r
	p.give(r)
	if w.chance(15) {
		for range w.rng.IntN(len(w.hosts)) {
			p.give(r)
		}
	}
	if w.chance(10) { // and an old one once more, which must not come again
		p.give(p.sent[w.rng.IntN(len(p.sent))])
	}
	return r
}

// change replaces a member by a spare node, a while after the change before has become final, as long as there are any.
func (p *play) change() {
	w := p.world
	began := len(w.oracle.members)
	spare := len(w.config.Members) + began - 1
	if spare >= len(w.hosts) || w.report.Twins > 0 {
		return
	}
	wait := 600 * milli
	if w.turned != nil {
		wait = 100 * milli // so that faults are not over when epochs end
	}
	p.after(w.upTo(int64(wait)), func() {
		next := slices.Clone(w.oracle.members[began-1])
		next[w.rng.IntN(len(next))] = uint32(spare)
		args, err := ledger.Marshal(next)
		if err != nil {
			w.fail("encode the members of an epoch: %v", err)
		}
		w.tell("the members of epoch %d are to be %v", began, next)
		p.request(false, func(tx *ledger.Tx) keys.Signer {
			tx.Method, tx.Args = methodEpoch, args
			return w.suite.signer(1_000_000)
		})
		p.awaitChange(began)
	})
}

func (p *play) awaitChange(began int) {
	if len(p.oracle.members) > began {
		p.change()
		return
	}
	if !p.resting {
		p.after(50*milli, func() { p.awaitChange(began) })
	}
}

// turn does something bad just as an epoch ends: when the first host has its last block, and the others are about to.
func (p *play) turn() {
	w := p.world
	if p.healed {
		return
	}
	w.report.Turns++
	joiner := w.hosts[min(len(w.config.Members)+len(w.oracle.members)-2, len(w.hosts)-1)]
	switch w.rng.IntN(4) {
	case 0:
		w.tell("hosts will lose power between two epochs")
		for _, h := range w.hosts {
			if h.up && w.chance(50) {
				h.powerFails = 1 + w.rng.IntN(6)
			}
		}
	case 1:
		for _, h := range w.hosts {
			if w.chance(50) {
				w.after(w.upTo(2*w.links.delay), func() {
					if !p.healed {
						h.crash("between two epochs")
					}
				})
			}
		}
	case 2:
		side := make([]int, len(w.hosts))
		for i := range side {
			side[i] = w.rng.IntN(2)
		}
		side[joiner.index] = 2
		w.report.Partitions++
		w.tell("partition between two epochs: sides %v", side)
		w.after(0, func() { p.split(side) }) // the node that told this is at work
		w.after(50*milli+w.upTo(500*milli), func() {
			if !p.healed {
				p.reconnect()
			}
		})
	case 3:
		w.tell("the disk of %s, who joins, becomes slow", joiner)
		joiner.slow = 150 * milli
		w.after(w.upTo(600*milli), func() { joiner.slow = 0 })
	}
}

// give sends a request to a random node.
func (p *play) give(r *request) {
	h := p.hosts[p.rng.IntN(len(p.hosts))]
	h.run(p.upTo(5*milli), func() {
		h.group.Offer(r.raw, func(_ ledger.TxID, err error) {
			switch {
			case err == nil, errors.Is(err, mempool.ErrKnown), errors.Is(err, mempool.ErrCommitted), r.short && errors.Is(err, mempool.ErrExpired):
			case r.ends && !errors.Is(err, group.ErrStopped):
			case p.whole != nil && (errors.Is(err, group.ErrBusy) || errors.Is(err, group.ErrUncertain)): // with deployments: resend gives it again, and it must get in before the end
			case (h.skew > maxSkew || h.skew < -maxSkew) && (errors.Is(err, mempool.ErrExpired) || errors.Is(err, mempool.ErrExpiry)): // it cannot know what time it is
			default:
				p.fail("%s refuses a transaction: %v", h, err)
			}
		})
	})
}

// resend gives requests that waited long to other nodes: those that had them may have crashed.
func (p *play) resend() {
	for i, r := range p.unfinished() {
		if i == 16 {
			break
		}
		p.give(r)
	}
	p.after(second, p.resend)
}

// harm does something bad, and plans the next.
func (p *play) harm() {
	w := p.world
	if p.healed {
		return
	}
	x := w.hosts[w.rng.IntN(len(w.hosts))]
	switch w.rng.IntN(18) {
	case 0, 1:
		x.crash("by force")
	case 2, 3:
		if x.up {
			n := 1 + w.rng.IntN(12)
			w.tell("%s will lose power at file operation %d", x, n)
			x.powerFails = n
		}
	case 4:
		if !x.up {
			x.powerFails = 1 + w.rng.IntN(8)
			x.start()
		}
	case 5:
		if w.chance(40) {
			p.blackout()
		}
	case 6, 7:
		p.partition()
	case 8:
		p.reconnect()
	case 9:
		for from := range w.links.worse {
			for to := range w.links.worse[from] {
				w.links.worse[from][to] = []int{0, 0, 0, 50, 95, 100}[w.rng.IntN(6)]
			}
		}
		w.report.Uneven++
		w.tell("links become uneven")
	case 10:
		if x.up && w.chance(50) {
			x.syncFails = true
		}
	case 11:
		if p.faulty > 0 && x.honest() && x.up && x.store.Head().Height() > 0 && w.chance(70) {
			p.faulty--
			x.crash("and its journal goes with it")
			x.loseJournal()
		}
	case 12:
		if x.up {
			n := 1 + w.rng.IntN(8)
			w.tell("%s will lose power before message %d leaves", x, n)
			x.sendFails = n
		}
	case 13:
		p.flap(2 + w.rng.IntN(6))
	case 14:
		x.slow = []int64{2 * milli, 20 * milli, 150 * milli}[w.rng.IntN(3)]
		w.tell("the disk of %s becomes slow: %d ms", x, x.slow/milli)
		w.after(w.upTo(400*milli), func() { x.slow = 0 })
	case 15:
		if w.chance(50) {
			x.full = true
			w.tell("the disk of %s is full", x)
			w.after(w.upTo(400*milli), func() { x.full = false })
		}
	case 16:
		w.report.ClockJumps++
		x.skew = w.upTo(2*maxSkew) - maxSkew
		w.tell("the clock of %s jumps to %d ms", x, x.skew)
	case 17:
		if p.faulty > 0 && x.honest() && w.chance(50) {
			p.faulty--
			p.wild(x)
		}
	}
	if w.chance(60) {
		x := w.hosts[w.rng.IntN(len(w.hosts))]
		w.after(w.upTo(300*milli), func() {
			if !p.healed {
				x.start()
			}
		})
	}
	w.after(w.upTo(250*milli), p.harm)
}

// wild lets a clock jump by an hour, and back.
func (p *play) wild(x *host) {
	was := x.skew
	p.report.ClockJumps += 2
	x.skew = wildSkew
	if p.chance(50) {
		x.skew = -wildSkew
	}
	p.tell("the clock of %s jumps by an hour: %d ms", x, x.skew)
	p.after(p.upTo(600*milli), func() { x.skew = was })
}

// flap splits the hosts and joins them again, a number of times in quick succession.
func (p *play) flap(times int) {
	if p.healed || times == 0 {
		return
	}
	p.report.Flaps++
	p.partition()
	p.after(10*milli+p.upTo(50*milli), func() {
		if !p.healed {
			p.reconnect()
			p.after(10*milli+p.upTo(50*milli), func() { p.flap(times - 1) })
		}
	})
}

// blackout takes the power from all hosts at once.
func (p *play) blackout() {
	p.tell("power fails everywhere")
	for _, h := range p.hosts {
		h.crash("with all others")
		p.after(p.upTo(500*milli), h.start)
	}
}

// partition splits the hosts into sides.
func (p *play) partition() {
	k := 2 + p.rng.IntN(max(len(p.hosts)-2, 1))
	side := make([]int, len(p.hosts))
	for i := range side {
		side[i] = p.rng.IntN(k)
	}
	p.report.Partitions++
	p.tell("partition: sides %v", side)
	p.split(side)
}

func (p *play) reconnect() { p.split(nil) }

// split sets the sides, and lets some of the nodes know whose connections change.
func (p *play) split(side []int) {
	l := &p.links
	old := *l
	l.side = side
	for _, a := range p.hosts {
		for _, b := range p.hosts {
			if was, is := old.connected(a.index, b.index), l.connected(a.index, b.index); was != is && a.member != b.member && p.chance(80) {
				a.hint(b, is)
			}
		}
	}
}

// heal ends all faults.
func (p *play) heal() {
	w := p.world
	w.tell("all faults end")
	p.healed = true
	p.reconnect()
	w.links.loss, w.links.duplicate, w.links.delay = 0, 0, min(w.links.delay, 3*milli)
	for from := range w.links.worse {
		clear(w.links.worse[from])
	}
	for _, h := range w.hosts {
		h.powerFails, h.sendFails, h.syncFails, h.full, h.slow = 0, 0, false, false, 0
		if h.ailing { // its loop has not learned of it yet, and nobody would start it again
			h.crash("because its disk failed")
		}
		h.start()
		for _, other := range w.hosts {
			if other.member != h.member {
				h.hint(other, true)
			}
		}
	}
}

// bounded checks that nobody honest sent much more than any schedule needs, and that the group settled without a storm
// of view changes, whatever liars did. In 600 schedules the largest were 13.1 and 2.5 of the units, liars and twins included.
func (p *play) bounded(views int) {
	w := p.world
	n := len(w.hosts)
	for _, h := range w.hosts {
		most := 40 * n * int(w.now/second+int64(w.oracle.height())/4+1)
		if sent := w.oracle.witness(h).sent; h.honest() && sent > most {
			w.fail("%s sent %d messages in %d s and %d blocks, want at most %d", h, sent, w.now/second, w.oracle.height(), most)
		}
	}
	if made := w.report.Views - views; made > 8*n {
		w.fail("hosts entered %d views to recover from the last fault, want at most %d", made, 8*n)
	}
}
