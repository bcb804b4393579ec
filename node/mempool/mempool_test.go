package mempool

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	now      = 1_000_000
	lifetime = 60_000
)

var own = Arrival{Own: true}

// newTx returns a transaction that looks to the pool like a signed one.
func newTx(n uint64, sender byte, expiry int64, size int) *ledger.SignedTx {
	tx := &ledger.SignedTx{Tx: ledger.Tx{Sender: ledger.Address{sender}, Expiry: expiry, GasLimit: 10}, Raw: make([]byte, size)}
	binary.BigEndian.PutUint64(tx.ID[:], n)
	binary.BigEndian.PutUint64(tx.Leaf[1:], n)
	return tx
}

func mustAdd(t *testing.T, p *Pool, txs ...*ledger.SignedTx) {
	t.Helper()
	for _, tx := range txs {
		if err := p.Add(tx, now, lifetime, Arrival{}); err != nil {
			t.Fatalf("Add(%s) = %v", tx.ID, err)
		}
	}
}

func ids(txs []*ledger.SignedTx) (ns []uint64) {
	for _, tx := range txs {
		ns = append(ns, binary.BigEndian.Uint64(tx.ID[:]))
	}
	return ns
}

func params() *ledger.Params {
	return &ledger.Params{BlockTxs: 10, BlockBytes: 1_000, BlockGas: 1_000, MaxLifetime: lifetime}
}

func TestAdd(t *testing.T) {
	t.Run("expiry, both ends", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			expiry int64
			want   error
		}{
			{"now", now, nil},
			{"just past", now - 1, ErrExpired},
			{"a lifetime ahead", now + lifetime, nil},
			{"too far ahead", now + lifetime + 1, ErrExpiry},
		} {
			if err := New(Limits{}).Add(newTx(1, 1, c.expiry, 1), now, lifetime, own); !errors.Is(err, c.want) {
				t.Errorf("%s: Add = %v, want %v", c.name, err, c.want)
			}
		}
	})
	t.Run("block time ahead of the clock counts", func(t *testing.T) {
		p := New(Limits{})
		p.Committed(nil, now+100)
		if err := p.Add(newTx(1, 1, now+100, 1), now, lifetime, own); !errors.Is(err, ErrExpired) {
			t.Errorf("expiry at the last block's time: Add = %v, want ErrExpired", err)
		}
		if err := p.Add(newTx(2, 1, now+101, 1), now, lifetime, own); err != nil {
			t.Errorf("expiry after the last block's time: Add = %v", err)
		}
	})
	t.Run("limits", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			limits Limits
			third  *ledger.SignedTx
			want   error
		}{
			{"count", Limits{Count: 2, PerSender: 9}, newTx(3, 2, now, 1), ErrFull},
			{"bytes", Limits{Bytes: 25}, newTx(3, 2, now, 6), ErrFull},
			{"bytes, exactly", Limits{Bytes: 25}, newTx(3, 2, now, 5), nil},
			{"one sender", Limits{PerSender: 2}, newTx(3, 1, now, 1), ErrFull},
			{"one sender, another comes", Limits{PerSender: 2}, newTx(3, 2, now, 1), nil},
			{"one sender by default", Limits{Count: 4}, newTx(3, 1, now, 1), ErrFull},
		} {
			p := New(c.limits)
			mustAdd(t, p, newTx(1, 1, now, 10), newTx(2, 1, now, 10))
			if err := p.Add(c.third, now, lifetime, own); !errors.Is(err, c.want) {
				t.Errorf("%s: Add = %v, want %v", c.name, err, c.want)
			}
			p.Committed([]*ledger.SignedTx{newTx(1, 1, now, 10)}, now-1)
			if err := p.Add(newTx(4, 1, now, 1), now, lifetime, own); c.want != nil && err != nil {
				t.Errorf("%s, after one left: Add = %v", c.name, err)
			}
		}
	})
	t.Run("known and committed", func(t *testing.T) {
		p := New(Limits{})
		tx := newTx(1, 1, now+50, 1)
		mustAdd(t, p, tx)
		if err := p.Add(tx, now, lifetime, own); !errors.Is(err, ErrKnown) {
			t.Errorf("Add again = %v, want ErrKnown", err)
		}
		p.Committed([]*ledger.SignedTx{tx}, now+49)
		if err := p.Add(tx, now, lifetime, own); !errors.Is(err, ErrCommitted) {
			t.Errorf("Add after commit = %v, want ErrCommitted", err)
		}
		p.Committed(nil, now+50) // from here on the expiry refuses it
		if p.Seen(tx.ID) || len(p.seen) != 0 || len(p.aging) != 0 {
			t.Error("an id is remembered that can never come again")
		}
		if err := p.Add(tx, now, lifetime, own); !errors.Is(err, ErrExpired) {
			t.Errorf("Add after its expiry = %v, want ErrExpired", err)
		}
	})
}

func TestCommitted(t *testing.T) {
	p := New(Limits{})
	early, late, stays := newTx(1, 1, now+10, 1), newTx(2, 2, now+11, 1), newTx(3, 3, now+99, 1)
	foreign := newTx(4, 4, now+99, 1)
	mustAdd(t, p, early, late, stays)
	if expired := p.Committed([]*ledger.SignedTx{foreign}, now+10); !slices.Equal(expired, []ledger.TxID{early.ID}) {
		t.Errorf("a block at %d expires %v, want the first alone", now+10, expired)
	}
	if !p.Seen(foreign.ID) {
		t.Error("a committed transaction that was never in the pool is not remembered")
	}
	if expired := p.Committed([]*ledger.SignedTx{stays}, now+5); len(expired) != 0 {
		t.Errorf("block time went back and expired %v", expired)
	}
	if count, bytes, _ := p.Size(); count != 1 || bytes != 1 || len(p.byLeaf) != 1 || len(p.senders) != 1 {
		t.Errorf("pool holds %d transactions of %d bytes, %d leaves, %d senders; want 1 of each", count, bytes, len(p.byLeaf), len(p.senders))
	}
	if _, pending := p.Pending(late.ID); !pending {
		t.Error("the transaction that waits is not pending")
	}
	if found, missing := p.Find([]keys.Digest{early.Leaf, late.Leaf}); missing != 1 || found[0] != nil || found[1] != late {
		t.Errorf("Find = %v, %d missing", found, missing)
	}
}

func TestSelect(t *testing.T) {
	p := New(Limits{})
	mustAdd(t, p,
		newTx(1, 1, now+1, 300), newTx(2, 1, now+50, 300), newTx(3, 2, now+lifetime, 2_000), newTx(4, 1, now+50, 300),
		newTx(5, 2, now+50, 300), newTx(6, 3, now+50, 50))
	t.Run("oldest first, up to the first that does not fit", func(t *testing.T) {
		if got := ids(p.Select(params(), now, math.MaxUint64)); !slices.Equal(got, []uint64{1, 2, 4}) {
			t.Errorf("Select = %v, want [1 2 4]: 3 fits in no block, 5 waits for the next, 6 does not overtake it", got)
		}
	})
	t.Run("what a proposed block holds is left out", func(t *testing.T) {
		second := []*ledger.SignedTx{newTx(2, 1, now+50, 300)}
		p.Reserve(second)
		defer p.Release(second)
		got := ids(p.Select(params(), now, math.MaxUint64))
		if !slices.Equal(got, []uint64{1, 4, 5, 6}) {
			t.Errorf("Select = %v, want [1 4 5 6]", got)
		}
	})
	t.Run("expiry, both ends", func(t *testing.T) {
		if got := ids(p.Select(params(), now+2, math.MaxUint64)); !slices.Equal(got, []uint64{2, 4, 5, 6}) {
			t.Errorf("Select past an expiry = %v, want [2 4 5 6]", got)
		}
		short := params()
		short.MaxLifetime = 49
		if got := ids(p.Select(short, now, math.MaxUint64)); !slices.Equal(got, []uint64{1}) {
			t.Errorf("Select with a lifetime of 49 = %v, want [1]", got)
		}
		if got := ids(p.Select(short, now+1, math.MaxUint64)); !slices.Equal(got, []uint64{1, 2, 4}) {
			t.Errorf("Select with a lifetime of 49, 1 ms later = %v, want [1 2 4]", got)
		}
	})
	t.Run("count and gas", func(t *testing.T) {
		few := params()
		few.BlockTxs = 2
		if got := ids(p.Select(few, now, math.MaxUint64)); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("Select of two = %v, want [1 2]", got)
		}
		lean := params()
		lean.BlockGas = 20
		if got := ids(p.Select(lean, now, math.MaxUint64)); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("Select of 20 gas = %v, want [1 2]", got)
		}
		lean.BlockGas = 9
		if got := ids(p.Select(lean, now, math.MaxUint64)); len(got) != 0 {
			t.Errorf("Select of 9 gas = %v, want none", got)
		}
	})
}

// What a node knows of who overtook whom: a pool that was full knows little.
func TestOvertaken(t *testing.T) {
	p := New(Limits{Count: 3, PerSender: 9})
	for i, arrived := range []int64{now, now + 40, now + 90} {
		if err := p.Add(newTx(uint64(i+1), 1, now+101+int64(i), 1), arrived, lifetime, own); err != nil {
			t.Fatal(err)
		}
	}
	see := func(story string, block []uint64, at, late, latest, oldest int64) {
		t.Helper()
		var txs []*ledger.SignedTx
		for _, n := range block {
			txs = append(txs, newTx(n, 1, now+100+int64(n), 1))
		}
		if gotLatest, gotOldest := p.Latest(txs, params(), late), p.Oldest(params(), at); gotLatest != latest || gotOldest != oldest {
			t.Errorf("%s: Latest = +%d, Oldest = +%d, want +%d and +%d", story, gotLatest-now, gotOldest-now, latest-now, oldest-now)
		}
	}
	see("one that is known", []uint64{2}, now+99, now+99, now+40, now)
	see("several", []uint64{3, 1}, now+99, now+99, now+90, now)
	see("one that came with its block", []uint64{2, 7}, now+99, now+99, now+99, now)
	see("the oldest has expired", []uint64{3}, now+102, now+99, now+90, now+40)
	p.Reserve([]*ledger.SignedTx{newTx(1, 1, now+101, 1)})
	see("the oldest is in another block", []uint64{3}, now+99, now+99, now+90, now+40)
	if err := p.Add(newTx(8, 1, now+101, 1), now+60, lifetime, own); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	see("the pool was full since, and may have refused what it does not know", []uint64{7}, now+99, now+99, 0, 0)
	see("what came after that is judged", []uint64{7}, now+102, now+61+lifetime, now+61+lifetime, 0)
	p.Reserve([]*ledger.SignedTx{newTx(2, 1, now+102, 1)})
	see("so is what waits since", []uint64{7}, now+99, now+61+lifetime, now+61+lifetime, now+90)
	see("nothing waits", nil, now+200, now+99, 0, 0)
}

// TestOverrun fills one sender's share: what its transactions tell of the leader counts no more, what others' tell does.
func TestOverrun(t *testing.T) {
	p := New(Limits{PerSender: 1})
	see := func(story string, block *ledger.SignedTx, at, latest, oldest int64) {
		t.Helper()
		if gotLatest, gotOldest := p.Latest([]*ledger.SignedTx{block}, params(), at), p.Oldest(params(), at); gotLatest != latest || gotOldest != oldest {
			t.Errorf("%s: Latest = +%d, Oldest = +%d, want +%d and +%d", story, gotLatest-now, gotOldest-now, latest-now, oldest-now)
		}
	}
	add := func(tx *ledger.SignedTx, at int64, want error) {
		t.Helper()
		if err := p.Add(tx, at, lifetime, own); !errors.Is(err, want) {
			t.Fatalf("Add = %v, want %v", err, want)
		}
	}
	add(newTx(1, 1, now+lifetime, 1), now, nil)
	add(newTx(2, 2, now+lifetime, 1), now+5, nil)
	see("within the share", newTx(3, 1, now+lifetime, 1), now+10, now+10, now)
	add(newTx(3, 1, now+lifetime, 1), now+10, ErrFull)
	see("a block of what was refused", newTx(3, 1, now+lifetime, 1), now+20, 0, now+5)
	see("a block of another sender's", newTx(4, 3, now+lifetime, 1), now+20, now+20, now+5)
	see("as long as what was refused lives", newTx(3, 1, now+2*lifetime, 1), now+10+lifetime, 0, 0)
	see("and no longer", newTx(3, 1, now+2*lifetime, 1), now+11+lifetime, now+11+lifetime, 0)

	for i := range uint64(2 * maxOverran) {
		tx := newTx(10+2*i, 4, now+lifetime, 1)
		binary.BigEndian.PutUint64(tx.Sender[1:], i)
		add(tx, now, nil)
		next := newTx(11+2*i, 4, now+lifetime, 1)
		next.Sender = tx.Sender
		add(next, now, ErrFull)
	}
	if len(p.overran) != maxOverran || p.refused != now {
		t.Errorf("%d senders are kept, want %d, and a time for all others: %d", len(p.overran), maxOverran, p.refused)
	}
}

func TestWaiting(t *testing.T) {
	p := New(Limits{})
	if err := p.Add(newTx(1, 1, now+10, 1), now-7, lifetime, own); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, p, newTx(2, 1, now+50, 1), newTx(3, 1, now+50, 1))
	for _, c := range []struct {
		at           int64
		limit, count int
		oldest       []uint64
	}{
		{now, 9, 3, []uint64{1}}, {now, 2, 2, []uint64{1}}, {now + 10, 9, 3, []uint64{1}}, {now + 11, 9, 2, []uint64{2}}, {now + 51, 9, 0, nil},
	} {
		count, oldest := p.Waiting(params(), c.at, c.limit)
		if got := ids(slices.DeleteFunc([]*ledger.SignedTx{oldest}, func(tx *ledger.SignedTx) bool { return tx == nil })); count != c.count || !slices.Equal(got, c.oldest) {
			t.Errorf("Waiting at +%d = %d, the oldest %v, want %d and %v", c.at-now, count, got, c.count, c.oldest)
		}
	}
	if count, _, _ := p.Size(); count != 3 {
		t.Errorf("%d transactions are left: what expired by the clock must stay until a block says so", count)
	}
}

func TestForward(t *testing.T) {
	p := New(Limits{})
	mustAdd(t, p, newTx(1, 1, now, 1))
	if err := p.Add(newTx(2, 1, now, 1), now, lifetime, own); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		leader uint32
		at     int64
		idle   bool
		room   int
		want   []uint64
	}{
		{"too young", 0, now + 10, false, 9_999, nil},
		{"both, own first", 0, now + 11, false, 9_999, []uint64{2, 1}},
		{"both are on their way", 0, now + 20, true, 9_999, nil},
		{"own again", 0, now + 21, false, 9_999, []uint64{2}},
		{"own is on its way for longer", 0, now + 40, false, 9_999, nil},
		{"own a third time", 0, now + 41, false, 9_999, []uint64{2}},
		{"and for longer still", 0, now + 80, false, 9_999, nil},
		{"unless the leader has nothing under way", 0, now + 80, true, 9_999, []uint64{2}},
		{"which takes a while too", 0, now + 89, true, 9_999, nil},
		{"a new leader gets one at once, whatever its size", 1, now + 90, false, 1, []uint64{2}},
		{"and then the other", 1, now + 91, false, 1, []uint64{1}},
	} {
		if got := ids(p.Forward(c.leader, c.at, 10, c.idle, c.room)); !slices.Equal(got, c.want) {
			t.Errorf("%s: Forward = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestProposed(t *testing.T) {
	p := New(Limits{})
	a, b := newTx(1, 1, now+100, 1), newTx(2, 1, now+100, 1)
	both := []*ledger.SignedTx{a, b}
	mustAdd(t, p, a, b)
	proposed := func(why string, want bool) {
		t.Helper()
		if got := p.Proposed(both); got != want {
			t.Errorf("%s: Proposed = %t", why, got)
		}
	}
	proposed("both wait", false)
	p.Reserve(both[:1])
	proposed("one waits", false)
	p.Reserve(both[1:])
	proposed("two blocks hold them", true)
	p.Committed(both[:1], now+1)
	p.Release(both[:1])
	proposed("one is final", true)
	p.Release(both[1:])
	proposed("the other's block was given up", false)
}

// TestHistory does random things to a pool and to a plain model of it.
func TestHistory(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 2))
	p := New(Limits{Count: 40, Bytes: 3_000, PerSender: 20})
	var model []*ledger.SignedTx
	var proposed [][]*ledger.SignedTx
	waits := func(tx *ledger.SignedTx) bool {
		return !slices.ContainsFunc(proposed, func(block []*ledger.SignedTx) bool {
			return slices.ContainsFunc(block, func(b *ledger.SignedTx) bool { return b.ID == tx.ID })
		})
	}
	committed := map[ledger.TxID]int64{}
	at := int64(now)
	for step := range 20_000 {
		clock := at + rng.Int64N(20)
		if len(proposed) > 0 && rng.IntN(8) == 0 { // a proposed block is given up
			i := rng.IntN(len(proposed))
			p.Release(proposed[i])
			proposed = slices.Delete(proposed, i, i+1)
		}
		if len(proposed) < 4 && rng.IntN(8) == 0 { // one is proposed, of which the pool lacks some
			block := []*ledger.SignedTx{newTx(rng.Uint64N(400), 1, clock+250, 1)}
			for _, tx := range model {
				if rng.IntN(4) == 0 {
					block = append(block, tx)
				}
			}
			p.Reserve(block)
			proposed = append(proposed, block)
		}
		if rng.IntN(3) > 0 {
			tx := newTx(rng.Uint64N(400), byte(rng.IntN(3)), clock+rng.Int64N(300)-20, 1+rng.IntN(150))
			err := p.Add(tx, clock, 250, Arrival{})
			bytes, same := 0, 0
			for _, m := range model {
				bytes += len(m.Raw)
				if m.Sender == tx.Sender {
					same++
				}
			}
			var want error
			switch expiry, seen := committed[tx.ID]; {
			case seen && expiry > at:
				want = ErrCommitted
			case slices.ContainsFunc(model, func(m *ledger.SignedTx) bool { return m.ID == tx.ID }):
				want = ErrKnown
			case tx.Expiry < max(clock, at+1):
				want = ErrExpired
			case tx.Expiry > max(clock, at+1)+250:
				want = ErrExpiry
			case len(model) >= 40 || bytes+len(tx.Raw) > 3_000 || same >= 20:
				want = ErrFull
			default:
				model = append(model, tx)
			}
			if !errors.Is(err, want) {
				t.Fatalf("seed %d step %d: Add = %v, want %v", seed, step, err, want)
			}
			continue
		}
		limits := params()
		limits.MaxLifetime = 1_000
		at += 1 + rng.Int64N(30)
		block := p.Select(limits, at, math.MaxUint64)
		expired := p.Committed(block, at)
		var want []ledger.TxID
		for _, tx := range block {
			committed[tx.ID] = tx.Expiry
		}
		model = slices.DeleteFunc(model, func(m *ledger.SignedTx) bool {
			switch in := slices.Contains(block, m); {
			case in:
				return true
			case m.Expiry <= at && waits(m):
				want = append(want, m.ID)
				return true
			}
			return false
		})
		if !slices.Equal(expired, want) {
			t.Fatalf("seed %d step %d: expired %v, want %v", seed, step, expired, want)
		}
		wait := slices.DeleteFunc(slices.Clone(model), func(m *ledger.SignedTx) bool { return !waits(m) })
		if got := p.Select(&ledger.Params{BlockTxs: 1e6, BlockBytes: 1e6, BlockGas: 1e6, MaxLifetime: 1e6}, at+1, math.MaxUint64); !slices.Equal(got, wait) {
			t.Fatalf("seed %d step %d: in the pool wait %v, want %v", seed, step, ids(got), ids(wait))
		}
		remembered := 0
		for _, expiry := range committed {
			if expiry > at {
				remembered++
			}
		}
		if len(p.seen) != remembered || len(p.aging) != remembered {
			t.Fatalf("seed %d step %d: %d ids remembered in a heap of %d, want %d", seed, step, len(p.seen), len(p.aging), remembered)
		}
	}
}

func TestHeap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var h expiries
	var model []int64
	for step := range 5_000 {
		if len(model) == 0 || rng.IntN(5) > 1 {
			at := rng.Int64N(100)
			h.push(expiry{at: at})
			model = append(model, at)
			continue
		}
		slices.Sort(model)
		if got := h.pop().at; got != model[0] {
			t.Fatalf("step %d: pop = %d, want %d", step, got, model[0])
		}
		model = model[1:]
	}
}

func BenchmarkPool(b *testing.B) {
	txs := make([]*ledger.SignedTx, 2_000)
	for i := range txs {
		txs[i] = newTx(uint64(i), byte(i), now+lifetime, 250)
	}
	limits := &ledger.Params{BlockTxs: 2_000, BlockBytes: 8 << 20, BlockGas: 1 << 40, MaxLifetime: lifetime}
	b.Run("add, select and commit", func(b *testing.B) {
		for b.Loop() {
			p := New(Limits{PerSender: 50_000})
			for _, tx := range txs {
				if err := p.Add(tx, now, lifetime, own); err != nil {
					b.Fatal(err)
				}
			}
			p.Committed(p.Select(limits, now, math.MaxUint64), now)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(txs)), "ns/tx")
	})
}
