package mempool

import (
	"errors"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/ledger"
)

// rush is the pools of a group's members in virtual time, whose clients send offered transactions in a millisecond to all of them
// together. The first member proposes blocks of a quarter of a second 50 ms apart, four at most that are not final, of which rate
// transactions become that in a millisecond; what one member takes the others hear of 50 ms later.
type rush struct {
	pools    []*Pool
	checks   float64 // transactions that a member checks in a millisecond; 0: all at once
	latency  int64   // ms until a transaction is in a proposal for which there is room at once
	one      bool    // clients send to the last member only
	now      int64
	next     uint64
	owed     float64 // transactions that are due and were not sent
	done     float64 // that can have become final and have not
	inboxes  [][]checked
	checking []float64 // transactions that could have been checked
	gossip   []checked
	flying   [][]*ledger.SignedTx
	accepted int
	refused  int
	proposed int
	longest  int64 // from when a client sent a transaction until its proposal, ms
	sent     map[ledger.TxID]int64
}

// checked is a transaction that a member checks.
type checked struct {
	tx      *ledger.SignedTx
	from    int
	at      int64 // when it is heard of
	arrival Arrival
}

func newRush(members int, l Limits) *rush {
	r := &rush{now: now, sent: map[ledger.TxID]int64{}, inboxes: make([][]checked, members), checking: make([]float64, members)}
	for range members {
		r.pools = append(r.pools, New(l))
	}
	return r
}

// run lets ms pass and counts anew.
func (r *rush) run(t *testing.T, ms int, offered, rate float64) {
	t.Helper()
	params := &ledger.Params{BlockTxs: 1 << 30, BlockBytes: 1 << 40, BlockGas: 1 << 40, MaxLifetime: 1 << 30}
	r.accepted, r.refused, r.proposed, r.longest = 0, 0, 0, 0
	for range ms / 10 {
		r.now += 10
		for len(r.gossip) > 0 && r.gossip[0].at <= r.now {
			heard := r.gossip[0]
			r.gossip = r.gossip[1:]
			for i, p := range r.pools {
				if i != heard.from {
					heard.arrival = p.Enter(false, r.now)
					r.inboxes[i] = append(r.inboxes[i], heard)
				}
			}
		}
		r.owed += 10 * offered
		for i, p := range r.pools {
			n := int(r.owed) / (len(r.pools) - i)
			if r.one && i+1 < len(r.pools) {
				n = 0
			}
			r.owed -= float64(n)
			admitted, arrival, _ := p.Admit(n, len(r.pools), params, r.now)
			for range admitted {
				r.next++
				tx := newTx(r.next, byte(r.next), r.now+40_000, 1)
				r.sent[tx.ID] = r.now
				r.inboxes[i] = append(r.inboxes[i], checked{tx, i, 0, arrival})
			}
			r.accepted += admitted
			r.refused += n - admitted
			r.check(t, i)
		}
		if r.now%50 == 0 {
			r.propose(params, rate)
		}
	}
}

// check puts what a member has time to check into its pool.
func (r *rush) check(t *testing.T, member int) {
	t.Helper()
	p, inbox := r.pools[member], r.inboxes[member]
	n := len(inbox)
	if r.checks > 0 {
		r.checking[member] += 10 * r.checks
		n = min(n, int(r.checking[member]))
		r.checking[member] = min(r.checking[member]-float64(n), 10*r.checks)
	}
	for _, c := range inbox[:n] {
		if err := p.Add(c.tx, r.now, 1<<30, c.arrival); err != nil && !errors.Is(err, ErrCommitted) {
			t.Fatal(err)
		}
		p.Settle(c.arrival, 1, true)
		if c.arrival.Own && len(r.pools) > 1 {
			r.gossip = append(r.gossip, checked{tx: c.tx, from: member, at: r.now + 50})
		}
	}
	r.inboxes[member] = inbox[n:]
}

// propose has the first member propose a block, unless four are under way, and those become final for which there was time.
func (r *rush) propose(params *ledger.Params, rate float64) {
	r.done += 50 * rate
	for len(r.flying) > 0 && r.done >= float64(len(r.flying[0])) {
		for _, p := range r.pools {
			p.Committed(r.flying[0], r.now-100)
			p.Release(r.flying[0])
		}
		r.done -= float64(len(r.flying[0]))
		r.flying = r.flying[1:]
	}
	if len(r.flying) == 0 {
		r.done = 0
	}
	if len(r.flying) == 4 || r.now%max(r.latency, 50) != 0 {
		return
	}
	params.BlockTxs = uint32(float64(max(250, r.latency)) * max(rate, 0.01))
	txs := r.pools[0].Select(params, r.now, 1<<40)
	for _, tx := range txs {
		r.longest = max(r.longest, r.now-r.sent[tx.ID])
		delete(r.sent, tx.ID)
	}
	for _, p := range r.pools {
		p.Latest(nil, params, r.now)
		p.Reserve(txs)
	}
	if r.proposed += len(txs); len(txs) > 0 {
		r.flying = append(r.flying, txs)
	}
}

func TestOverload(t *testing.T) {
	for _, rate := range []float64{0.2, 1} {
		for _, times := range []float64{1.5, 10} {
			for _, members := range []int{1, 4} {
				// The first rush, until it has drained: what is assumed while nobody knows better, twice with members that do
				// not know of one another.
				rush := int64(2.2 * defaultMaxWait * max(assumedRate/rate, 1))
				r := newRush(members, Limits{})
				for _, longest := range []int64{rush, rush, 3_000} {
					r.run(t, 6_000, rate*times, rate)
					if got := float64(r.proposed) / 6_000; got < 0.97*rate {
						t.Errorf("%d members, %v a ms, %v times that offered: %.2f a ms are proposed, want all that can be", members, rate, times, got)
					}
					if r.longest > longest || r.longest < 1_000 {
						t.Errorf("%d members, %v a ms, %v times that offered: they wait up to %d ms, want 1,000 to %d", members, rate, times, r.longest, longest)
					}
				}
			}
		}
	}
	for _, rate := range []float64{0.2, 1} {
		t.Run("a rush after quiet waits no longer", func(t *testing.T) {
			for _, offered := range []float64{2 * rate, 100} {
				r := newRush(4, Limits{})
				r.run(t, 12_000, 3*rate, rate)
				for range 2 {
					r.run(t, 5_000, rate/20, rate)
					r.run(t, 100, offered, rate) // all four are rushed at once
					r.run(t, 6_000, rate/20, rate)
					if r.longest > 5_000 {
						t.Errorf("%v a ms, rushed with %v: they wait up to %d ms, want about 4,000 at most", rate, offered, r.longest)
					}
				}
			}
		})
	}
	t.Run("the time that checking takes counts", func(t *testing.T) {
		for members, longest := range map[int]int64{1: 3_000, 4: 5_000} { // four hear of what the others admitted when that is checked
			r := newRush(members, Limits{})
			r.checks = 0.5
			r.run(t, 10_000, 3, 2)
			r.run(t, 10_000, 3, 2)
			if r.longest > longest || r.longest < 1_000 || r.proposed < 4_800 {
				t.Errorf("%d members check 0.5 a ms: %d proposed after up to %d ms, want 5,000 after up to %d", members, r.proposed, r.longest, longest)
			}
		}
	})
	t.Run("nobody is refused who need not wait long", func(t *testing.T) {
		for _, one := range []bool{false, true} {
			r := newRush(4, Limits{})
			r.one = one
			r.run(t, 10_000, 0.05, 2)
			r.run(t, 1_000, 2.5, 2) // a short rush takes a quarter of a second more
			r.run(t, 4_000, 1.9, 2)
			if r.refused > 0 || r.longest > 700 {
				t.Errorf("%d refused, they wait up to %d ms, want none refused", r.refused, r.longest)
			}
		}
	})
	t.Run("a group of long links, where a block takes what waits, refuses nobody", func(t *testing.T) {
		r := newRush(4, Limits{MaxWait: 1_000})
		r.latency = 500
		for range 10 {
			r.run(t, 4_950, 0.1, 2)
			r.run(t, 100, 3, 2)
			if r.refused > 0 {
				t.Errorf("%d of 300 refused, room for %d", r.refused, r.pools[0].Admission().Room)
			}
		}
	})
	t.Run("a group that was slow gets its room back", func(t *testing.T) {
		r := newRush(4, Limits{})
		r.run(t, 12_000, 2, 0.2)
		if room := r.pools[3].Admission().Room; room > 600 {
			t.Errorf("room for %d where 0.2 leave in a ms, want about 400", room)
		}
		r.run(t, 2_000, 6, 2)
		r.run(t, 3_000, 6, 2)
		if r.proposed < 5_880 || r.longest > 3_000 || r.longest < 1_000 {
			t.Errorf("%d proposed in 3 s after a wait of up to %d ms, want 6,000 after about 2,000", r.proposed, r.longest)
		}
	})
	t.Run("a group that stood still goes on as before", func(t *testing.T) {
		r := newRush(1, Limits{})
		r.run(t, 5_000, 6, 2)
		r.run(t, 4_000, 6, 0)
		if waiting := r.pools[0].Admission().Waiting; waiting > 6_000 {
			t.Errorf("%d wait while nothing is proposed, want the room of 2 s at most", waiting)
		}
		r.run(t, 5_000, 6, 2)
		r.run(t, 5_000, 6, 2)
		if r.proposed < 9_800 || r.longest > 3_000 {
			t.Errorf("%d proposed in 5 s after a wait of up to %d ms, want 10,000 after about 2,000", r.proposed, r.longest)
		}
	})
	for _, latency := range []int64{1_200, 1_500, 1_800} {
		t.Run("blocks that are far apart do not take the room away", func(t *testing.T) {
			r := newRush(1, Limits{})
			r.latency = latency
			r.run(t, 30_000, 1.8, 0.6)
			r.run(t, 18_000, 1.8, 0.6)
			if r.proposed < 0.97*0.6*18_000 {
				t.Errorf("%d ms apart: %d proposed in 18 s with room for %d, want 10,800", latency, r.proposed, r.pools[0].Admission().Room)
			}
		})
	}
	t.Run("a group that was slow gets its room back on long links", func(t *testing.T) {
		r := newRush(1, Limits{})
		r.run(t, 20_000, 2, 0.2)
		r.latency = 1_000
		r.run(t, 12_000, 10, 2)
		r.run(t, 5_000, 10, 2)
		if r.proposed < 9_500 {
			t.Errorf("%d proposed in 5 s with room for %d, want 10,000", r.proposed, r.pools[0].Admission().Room)
		}
	})
	t.Run("batches on a quiet group do not say what it can do", func(t *testing.T) {
		for _, clients := range []int{1, 3} {
			r := newRush(1, Limits{})
			for range 5 {
				for range clients {
					r.run(t, 10, 5_000/10, 2)
				}
				r.run(t, 4_000, 0.01, 2)
			}
			r.run(t, 100, 200, 2)
			r.run(t, 8_000, 0, 2)
			if room := r.pools[0].Admission().Room; room > 5_000 || r.longest > 3_000 {
				t.Errorf("%d clients: room for %d, a rush waits up to %d ms, want 4,000 and 2,000 at most", clients, room, r.longest)
			}
		}
	})
	t.Run("an outage takes no room away", func(t *testing.T) {
		r := newRush(1, Limits{})
		r.run(t, 5_000, 6, 2)
		r.run(t, 30_000, 6, 0)
		for range 8 {
			r.run(t, 250, 6, 2)
			if room := r.pools[0].Admission().Room; room < 2_500 {
				t.Errorf("room for %d after an outage, want some 4,000", room)
			}
			if _, _, wait := r.pools[0].Admit(0, 1, params(), r.now); wait > 2*defaultMaxWait*time.Millisecond {
				t.Errorf("a client is told to come in %v", wait)
			}
		}
		r.run(t, 5_000, 6, 2)
		if r.proposed < 9_800 {
			t.Errorf("%d proposed in 5 s after an outage, want 10,000", r.proposed)
		}
	})
	t.Run("the time is the operator's", func(t *testing.T) {
		r := newRush(1, Limits{MaxWait: 500})
		r.run(t, 5_000, 3, 1)
		r.run(t, 5_000, 3, 1)
		if r.longest > 750 || r.proposed < 4_900 {
			t.Errorf("%d proposed after a wait of up to %d ms, want 5,000 after about 500", r.proposed, r.longest)
		}
		if a := r.pools[0].Admission(); a.Room < 375 || a.Room > 750 || a.Wait < 300*time.Millisecond || a.Refused == 0 {
			t.Errorf("Admission = %+v, want a room of about 500", a)
		}
	})
}

func TestAdmit(t *testing.T) {
	fill := func(t *testing.T, p *Pool, from, n uint64, lives int64, a Arrival) {
		t.Helper()
		for i := from; i < from+n; i++ {
			if err := p.Add(newTx(i, byte(i), now+lives, 1), now, lifetime, a); err != nil {
				t.Fatal(err)
			}
		}
	}
	admit := func(p *Pool, n, members int, at int64) int {
		admitted, _, _ := p.Admit(n, members, params(), at)
		return admitted
	}
	const later = 2 * defaultMaxWait / unheard // all that others admitted before is heard of
	t.Run("a node that sees no proposals learns from blocks", func(t *testing.T) {
		p := New(Limits{})
		fill(t, p, 0, 1_000, lifetime, own)
		for i := range uint64(10) { // a hundred every half second
			p.Waiting(params(), now+500*int64(i+1), 1)
			var block []*ledger.SignedTx
			for k := range uint64(100) {
				block = append(block, newTx(100*i+k, 0, now+lifetime, 1))
			}
			p.Committed(block, now+500*int64(i))
		}
		if room := p.Admission().Room; room < 300 || room > 450 {
			t.Errorf("room for %d where 200 leave in a second, want some 330 to 400", room)
		}
	})
	t.Run("without a bound all may come", func(t *testing.T) {
		p := New(Limits{MaxWait: -1})
		if n := admit(p, 1_000_000, 4, now); n != 1_000_000 {
			t.Errorf("Admit = %d of a million", n)
		}
		if room := p.Admission().Room; room != -1 {
			t.Errorf("room = %d, want -1", room)
		}
	})
	t.Run("what no block can take keeps nobody out", func(t *testing.T) {
		p := New(Limits{Count: 300})
		fill(t, p, 0, 300, 50, own)
		if n, _, wait := p.Admit(1, 1, params(), now); n != 0 || wait < time.Second {
			t.Errorf("Admit = %d, %v while all wait, want 0 and the wait", n, wait)
		}
		if n := admit(p, 1, 1, now+recountAfter); n != 1 {
			t.Errorf("Admit = %d when all have expired, want 1", n)
		}
	})
	t.Run("clients of other nodes leave a member its share", func(t *testing.T) {
		p := New(Limits{Count: 400})
		fill(t, p, 0, 350, lifetime, Arrival{})
		fill(t, p, 350, 50, lifetime, own)
		if n := admit(p, 300, 4, now); n != 50 {
			t.Errorf("Admit = %d, want 50: a quarter of 400, of which 50 wait", n)
		}
		if n := admit(p, 300, 4, now+later); n != 0 {
			t.Errorf("Admit = %d before those are settled, want 0", n)
		}
		p.Settle(own, 50, false)
		if n := admit(p, 300, 4, now+later); n != 50 {
			t.Errorf("Admit = %d after they were refused, want 50", n)
		}
	})
	t.Run("one request takes half of the room", func(t *testing.T) {
		p := New(Limits{Count: 400})
		if a, b := admit(p, 5_000, 1, now), admit(p, 5_000, 1, now); a != 200 || b != 200 {
			t.Errorf("Admit = %d, then %d, want 200 each", a, b)
		}
	})
	t.Run("others are taken to admit as many until they are heard of", func(t *testing.T) {
		for members, want := range map[int]int{1: 1_000, 2: 1_000, 4: 1_000, 8: 500, 20: 200} {
			p := New(Limits{})
			if n := admit(p, 5_000, members, now); n != want {
				t.Errorf("%d members: Admit = %d, want %d of 2,000", members, n, want)
			}
			if n := admit(p, 5_000, members, now); members > 2 && n != 0 {
				t.Errorf("%d members: Admit = %d at once again, want 0", members, n)
			}
			if n := admit(p, 1, members, now+later); members > 2 && n != 1 {
				t.Errorf("%d members: Admit = %d of one when they are heard of, want 1", members, n)
			}
		}
	})
	t.Run("others are not taken to admit what is refused", func(t *testing.T) {
		p := New(Limits{})
		n, junk, _ := p.Admit(5_000, 20, params(), now)
		p.Settle(junk, n, false)
		if again := admit(p, 5_000, 20, now); again != n || n != 200 {
			t.Errorf("Admit = %d, and %d when those were refused, want 200", n, again)
		}
	})
	t.Run("what others sent and is being checked is in the line", func(t *testing.T) {
		p := New(Limits{Count: 400})
		var a Arrival
		for range 390 {
			a = p.Enter(false, now)
		}
		if n := admit(p, 50, 1, now); n != 50 { // its share, which is all, as it is one alone
			t.Errorf("Admit = %d, want 50", n)
		}
		p.Settle(own, 50, false)
		if n := admit(p, 200, 4, now+later); n != 100 {
			t.Errorf("Admit = %d, want 100, its share", n)
		}
		p.Settle(own, 100, false)
		p.Settle(a, 390, false)
		if w := p.Admission().Waiting; w != 0 {
			t.Errorf("%d wait when all are settled", w)
		}
	})
	t.Run("an account leaves half to the others at its node", func(t *testing.T) {
		p := New(Limits{Count: 400, PerSender: 400})
		admit(p, 1, 4, now)
		taken := uint64(0)
		for i := range uint64(400) {
			err := p.Add(newTx(i, 7, now+lifetime, 1), now, lifetime, own)
			if err == nil {
				taken++
			} else if !errors.Is(err, ErrCrowded) {
				t.Fatal(err)
			}
		}
		if taken != 200 || !p.Crowds(ledger.Address{7}) || p.Crowds(ledger.Address{8}) {
			t.Errorf("%d taken of one account, want 200 of 400", taken)
		}
		fill(t, p, 1_000, 100, lifetime, Arrival{}) // others come from elsewhere
		if err := p.Add(newTx(900, 7, now+lifetime, 1), now, lifetime, Arrival{}); err != nil {
			t.Errorf("one that another member took: %v", err)
		}
		if n := admit(p, 20, 4, now+later); n == 0 || p.Crowds(ledger.Address{8}) {
			t.Errorf("Admit = %d with half of the room taken by one account, want some", n)
		}
		p.Reserve([]*ledger.SignedTx{newTx(0, 7, now+lifetime, 1)}) // what is proposed does not count
		p.Committed([]*ledger.SignedTx{newTx(1, 7, now+lifetime, 1)}, now)
		if held := p.line.senders[ledger.Address{7}]; held != 198 {
			t.Errorf("%d of the account wait, want 198", held)
		}
	})
}
