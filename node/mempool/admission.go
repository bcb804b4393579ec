package mempool

import (
	"fmt"
	"time"

	"github.com/fondaco/fondaco/state/ledger"
)

// Transactions of clients are admitted for as long as those before them take no more than Limits.MaxWait until a block
// is proposed with them. Beyond that the pool would only make all of them wait longer: a full one holds tens of seconds of
// work, and who waits that long sends again, which is more work. Those of other members come in whatever the line is: they
// were admitted there, and leaders take them.
//
// What is bounded is the time from the request until the proposal, so a transaction is in the line from then on, also while
// its signatures are checked. The room is how many leave the line in MaxWait. It becomes what left in the last MaxWait if that is
// more, and those did not wait for longer than MaxWait: they were not too many. A line that is short, or that comes and goes, is as fast as
// transactions come, so less than the room says nothing by itself. The room becomes smaller only after a span in which the line was never
// empty and much of the room was taken for long; and not below the fastest of the last spans, since in one alone the group may have stood still.
//
// What left is counted, and not a rate taken from how long some of it waited: a batch that blocks take at once on a quiet group does not say
// that the next thousand go as fast, nor a line that a block takes whole once in a while that it is slow. MaxWait has to be more than
// an empty line takes: a line that is always slower looks like one that is too long.
const (
	// defaultMaxWait is about twice what the death of a leader takes.
	defaultMaxWait = 2_000
	// assumedRate is how many transactions leave the line in a millisecond while nobody knows better. Where it is
	// less, the first rush waits for longer, once.
	assumedRate = 1
	// minRoom is how many may wait whatever the line takes, so that a group that stood still is found to go on.
	minRoom = 256
	// requestShare is the part of the room that one request may take.
	requestShare = 2
	// unheard is the part of MaxWait that may pass, twice at most, until a node hears of what others admitted.
	unheard = 40
	// spans is how many MaxWait has, over each of which the line is measured.
	spans = 4
	// mostCounted is how many times MaxWait one transaction counts as waiting at most: the clock may be set meanwhile.
	mostCounted = 100
	// recountAfter is how often, in ms, those that no block can take are counted.
	recountAfter = 100
)

// OverloadError says that a client's transaction was not admitted, before anything was spent on it. Try again later.
type OverloadError struct {
	Wait time.Duration // that those before it take, about
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("the transactions that wait already take about %v: send again later, or fewer at a time", e.Wait.Round(100*time.Millisecond))
}

// Arrival is how a transaction came to the node. The zero value is one that another member sent, just when it is added.
type Arrival struct {
	Own bool  // a client sent it to this node, which must see that the leader gets it
	at  int64 // Unix ms; 0: when it is added

	period int64 // of those that count as admitted lately; 0: it does not
}

// line is the transactions that wait for a proposal, with what is known of how fast that goes.
type line struct {
	room     int    // transactions that take MaxWait to leave it
	waiting  int    // in the pool's list
	own      int    // of those, the ones that clients sent to this node
	entering int    // of clients, that are not settled: they are being checked
	heard    int    // of other members, likewise
	refused  uint64 // transactions of clients

	began   int64       // of the span under way, Unix ms
	left    int64       // for blocks since then, each the first time that it was proposed
	waited  int64       // ms that these did, in sum
	emptied bool        // nobody waited, at some time since then
	spans   [spans]span // the last ones, oldest first

	senders map[ledger.Address]int // of own
	members int                    // that share the room

	// Those that were admitted lately: since the time that began with period, and in the one before it.
	recent, before int
	period         int64

	unfit     int   // of those waiting, the ones that no block could take when they were counted
	recounted int64 // when that was, Unix ms
}

// span is how many left the line in so many ms.
type span struct{ left, passed int64 }

// count notes that an entry came to wait, or left.
func (l *line) count(e *entry, by int) {
	l.waiting += by
	if e.own {
		l.own += by
		if l.senders[e.tx.Sender] += by; l.senders[e.tx.Sender] == 0 {
			delete(l.senders, e.tx.Sender)
		}
	}
}

// lately returns how many were admitted in the last time or two of so many ms.
func (l *line) lately(now, milli int64) int {
	switch period := now / max(milli, 1); period - l.period {
	case 0:
	case 1:
		l.period, l.before, l.recent = period, l.recent, 0
	default:
		l.period, l.before, l.recent = period, 0, 0
	}
	return l.before + l.recent
}

// Admission is how a pool takes transactions of clients.
type Admission struct {
	Room    int           // transactions that may wait for a proposal; negative: no bound but the pool's
	Waiting int           // that do, or are being checked
	Wait    time.Duration // that one that comes now has to wait, about
	Refused uint64        // transactions that were not admitted since the pool was made
}

// Admission returns how the pool takes transactions of clients.
func (p *Pool) Admission() Admission {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := Admission{Room: p.line.room, Waiting: p.backlog(), Refused: p.line.refused}
	if p.limits.MaxWait < 0 {
		a.Room = -1
	} else {
		a.Wait = p.wait()
	}
	return a
}

// Admit asks for room for n transactions that a client sends to this node at once, before anything is spent on them: it returns
// how many may come, the first ones of them, and about how long the next one had to wait for a proposal, twice MaxWait at most. Each that is admitted needs
// a Settle. now is the node's clock in Unix milliseconds and members how many nodes take transactions of clients.
//
// Each member has its share of the room, so that clients of one do not keep those of another out. Of the rest it may
// take what nobody has, as far as it knows. What the others admit just now it has not heard of: it leaves as much room as if half of
// them did as it does. If all are rushed at once, or if one has all of the room and the others take their shares, the
// line is twice as long at most.
func (p *Pool) Admit(n, members int, params *ledger.Params, now int64) (admitted int, a Arrival, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &p.line
	if p.limits.MaxWait < 0 {
		l.entering += n
		return n, Arrival{Own: true}, 0
	}
	if l.room-p.backlog() < n {
		p.recount(params, now)
	}
	l.members = max(members, 1)
	alike := max(members-2, 0) // twice the number of those that are taken to do as this one does
	free := l.room - p.backlog() - l.lately(now, p.limits.MaxWait/unheard)*alike/2
	admitted = min(n, max(2*free/(2+alike), l.share()-l.own-l.entering, 0), l.room/requestShare)
	l.entering += admitted
	l.recent += admitted
	l.refused += uint64(n - admitted)
	return admitted, Arrival{Own: true, at: now, period: l.period}, min(p.wait(), 2*time.Duration(p.limits.MaxWait)*time.Millisecond)
}

// Enter says that a transaction is to be checked which is not asked whether there is room. It needs a Settle. now is the
// node's clock in Unix milliseconds.
func (p *Pool) Enter(own bool, now int64) Arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own {
		p.line.entering++
	} else {
		p.line.heard++
	}
	return Arrival{Own: own, at: now}
}

// Settle says that n transactions that came so are in the pool, or that it did not take them.
func (p *Pool) Settle(a Arrival, n int, taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &p.line
	if !a.Own {
		l.heard -= n
		return
	}
	l.entering -= n
	if taken || a.period == 0 {
		return
	}
	switch a.period { // others are not taken to admit what is refused
	case l.period:
		l.recent -= n
	case l.period - 1:
		l.before -= n
	}
}

// share is the part of the room that a node's own clients have whatever the others do.
func (l *line) share() int { return l.room / max(l.members, 1) }

// Crowds reports whether a sender's transactions are half of all that this node's clients may have in the line: Add takes no
// more of them here, so that others find room too.
func (p *Pool) Crowds(sender ledger.Address) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.crowds(sender)
}

func (p *Pool) crowds(sender ledger.Address) bool {
	l := &p.line
	if p.limits.MaxWait < 0 {
		return false
	}
	most := max(l.own+l.entering+max(l.room-p.backlog(), 0), l.share())
	return l.senders[sender] >= max(most/2, 1)
}

// backlog counts the transactions that the next one has to wait for.
func (p *Pool) backlog() int {
	return max(p.line.waiting-p.line.unfit, 0) + p.line.entering + p.line.heard
}

// wait returns how long the backlog takes.
func (p *Pool) wait() time.Duration {
	return time.Duration(int64(p.backlog())*p.limits.MaxWait/int64(max(p.line.room, 1))) * time.Millisecond
}

// recount counts those that no block can take now: they keep nobody waiting. When a group could make no block for long,
// they may be all that the pool holds, and leave it with the next block only.
func (p *Pool) recount(params *ledger.Params, now int64) {
	if p.line.recounted != 0 && now-p.line.recounted < recountAfter && now >= p.line.recounted {
		return
	}
	p.line.recounted, p.line.unfit = now, 0
	for e := p.first; e != nil; e = e.next {
		if !fits(e.tx, params, max(now, p.now+1)) {
			p.line.unfit++
		}
	}
}

// leave notes that an entry leaves the line for a block.
func (p *Pool) leave(e *entry) {
	if e.left { // it was proposed before, and what it waited since is not for those before it
		return
	}
	e.left = true
	p.line.left++
	p.line.waited += min(max(p.clock-e.came, 0), mostCounted*max(p.limits.MaxWait, 0))
}

// measure learns how fast the line is, when some left it just now and the span is over.
func (p *Pool) measure() {
	l, most := &p.line, p.limits.MaxWait
	passed := p.clock - l.began
	if l.left == 0 || most < 0 {
		return
	}
	empty := p.backlog() == 0
	l.emptied = l.emptied || empty
	if passed >= 0 && passed < max(most/spans, 1) {
		return
	}
	if l.began != 0 && passed > 0 { // else it is the first, or the clock was set back
		copy(l.spans[:], l.spans[1:])
		l.spans[spans-1] = span{l.left, passed}
		var sum span
		fastest := int64(0)
		for _, d := range l.spans {
			sum.left, sum.passed = sum.left+d.left, sum.passed+d.passed
			fastest = max(fastest, d.left*most/max(d.passed, 1))
		}
		mean := l.waited / l.left
		held := max(l.waited/passed, int64(p.backlog())) // in the line: by Little's law on average, and now
		left, fewest := p.limits.room(sum.left*most/max(sum.passed, most)), p.limits.room(fastest)
		switch {
		case left > l.room && mean < most:
			l.room = left
		case fewest < l.room && !l.emptied && 4*held*mean >= int64(l.room)*most: // half of both, or much of one
			l.room = max(fewest, l.room/2)
		}
	}
	l.began, l.left, l.waited, l.emptied = p.clock, 0, 0, empty
}

// room returns the size of a room between its bounds.
func (l Limits) room(n int64) int { return int(min(max(n, minRoom), max(int64(l.Count), minRoom))) }
