package consensustest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// puppet is a host with one engine that is told what happens: it answers every effect at once, lets nothing out, and
// checks what the engine signs against all that it signed before.
type puppet struct {
	engine  consensus.Engine
	net     *Network // for keys and the configuration; its nodes are not used
	member  int32
	members int
	history *History
	journal []consensus.Record
	head    consensus.Head
	orders  map[keys.Digest]ledger.Order
	results map[keys.Digest]keys.Digest
	events  []consensus.Event
	waiting uint32 // transactions in the pool, of which each payload takes one
	payload uint64 // rises, so that no two are alike
	sent    int    // messages
	halted  bool
}

// newPuppet starts an engine of n's group.
func newPuppet(n *Network, e consensus.Engine, c consensus.Config, journal []consensus.Record, history *History) (*puppet, error) {
	p := &puppet{
		engine: e, net: n, member: c.Self, members: len(n.epoch.Members), history: history, journal: journal, head: c.Head, payload: 1 << 40,
		orders: map[keys.Digest]ledger.Order{}, results: map[keys.Digest]keys.Digest{},
	}
	effects, err := e.Init(c, slices.Clone(journal))
	if err != nil {
		return p, fmt.Errorf("start: %w", err)
	}
	return p, p.carryOut(effects)
}

func (n *Network) config(self int32, head consensus.Head) consensus.Config {
	c := consensus.Config{Suite: n.suite.Name(), Chain: n.chain, Group: n.group, Epoch: n.epochAfter(head), Self: self, Head: head}
	if self >= 0 {
		c.Node = n.epoch.Members[self].Node
	}
	return c
}

// maxAnswers bounds what one event may lead to, so that an engine that asks for ever ends the test.
const maxAnswers = 2_000

// step gives the engine an event, and all that follows from it.
func (p *puppet) step(event consensus.Event) error {
	if pending, ok := event.(consensus.Pending); ok {
		p.waiting = pending.Count
	}
	p.events = append(p.events, event)
	for i := 0; len(p.events) > 0; i++ {
		if i > maxAnswers {
			return fmt.Errorf("the event %s leads to more than %d others", DescribeEvent(event), maxAnswers)
		}
		next := p.events[0]
		p.events = p.events[1:]
		effects, err := p.engine.Step(next)
		if err != nil {
			return fmt.Errorf("Step(%s): %w", DescribeEvent(next), err)
		}
		if err := p.carryOut(effects); err != nil {
			return err
		}
	}
	return nil
}

func (p *puppet) carryOut(effects []consensus.Effect) error {
	suite := p.net.suite
	for _, effect := range effects {
		switch ef := effect.(type) {
		case consensus.Persist:
			if ef.Replace {
				p.journal = nil
			}
			p.journal = append(p.journal, ef.Records...)
		case consensus.Sign:
			if p.member < 0 {
				return fmt.Errorf("an observer signs %s", Describe(ef.Statement))
			}
			if err := p.history.Check(ef.Statement); err != nil {
				return fmt.Errorf("it signs %s: %w", Describe(ef.Statement), err)
			}
			p.history.Note(ef.Statement)
			if ef.Broadcast != nil {
				p.sent += p.members - 1
			}
			p.events = append(p.events, consensus.Signed{Vote: p.net.sign(int(p.member), ef.Statement)})
		case consensus.Send:
			if p.member < 0 {
				return fmt.Errorf("an observer sends %s", describeMessage(ef.Message))
			}
			if p.sent++; ef.To < 0 {
				p.sent += p.members - 2
			}
		case consensus.BuildPayload:
			if p.waiting == 0 {
				p.events = append(p.events, consensus.Built{Parent: ef.Parent})
				continue
			}
			p.waiting--
			p.payload++
			root := suite.Sum([]byte("payload"), []byte{byte(p.payload), byte(p.payload >> 8)})
			p.events = append(p.events, consensus.Built{Parent: ef.Parent, Payload: consensus.Payload{
				TxRoot: root, TxCount: 1, TxBytes: 1, GasLimit: 1, UnixMilli: p.head.Order.UnixMilli + 1,
			}})
		case consensus.CheckPayload:
			hash := ef.Order.Hash(suite)
			p.orders[hash] = ef.Order
			p.events = append(p.events, consensus.Checked{Order: hash, Valid: true})
		case consensus.Execute:
			hash := ef.Order.Hash(suite)
			parent, ok := p.results[ef.Order.Parent]
			if !ok {
				parent = p.head.Block
			}
			p.results[hash] = suite.Sum(parent[:], hash[:])
			p.events = append(p.events, consensus.Executed{Order: hash, Block: p.results[hash]})
		case consensus.Finalize:
			hash := ef.Certificate.Statement.Order
			order, result := p.orders[hash], p.results[hash]
			if order.Height != p.head.Order.Height+1 || result.IsZero() {
				continue
			}
			p.head = consensus.Head{Order: order, Block: result, Certificate: ef.Certificate}
			p.events = append(p.events, p.stored())
		case consensus.Halt:
			p.halted = true
		}
	}
	return nil
}

// stored tells of the head, and after a barrier block of the next epoch, which has the same members.
func (p *puppet) stored() consensus.Stored {
	stored := consensus.Stored{Head: p.head}
	if p.head.Order.Barrier {
		next := p.net.epochAfter(p.head)
		stored.Epoch = &next
	}
	return stored
}

// lone returns a puppet of a group of n members, with a new engine of the subject.
func (s Subject) lone(n int, self int32) (*puppet, error) {
	net := NewNetwork(Settings{Members: n, Seed: 1})
	return newPuppet(net, s.engine(), net.config(self, net.genesis.Head), nil, NewHistory())
}

// sizes are those of the groups in which engines are tested alone.
func (s Subject) sizes() []int {
	return slices.DeleteFunc([]int{1, 4}, func(n int) bool { return n < s.MinMembers })
}

func (s Subject) head() error {
	for _, n := range s.sizes() {
		p, err := s.lone(n, 0)
		defer shut(p.engine)
		if err != nil {
			return err
		}
		a, b := p.engine.Status(), p.engine.Status()
		if a.Height != p.head.Order.Height || a.Epoch != 0 || a.Leader >= int32(n) {
			return fmt.Errorf("at the genesis of %d members its status is %+v", n, a)
		}
		if a != b {
			return fmt.Errorf("its status changed from %+v to %+v without an event", a, b)
		}
	}
	return nil
}

func (s Subject) observer() error {
	for _, n := range s.sizes() {
		p, err := s.lone(n, -1)
		defer shut(p.engine)
		if err != nil {
			return err
		}
		for _, event := range p.net.strangeEvents(200) {
			if err := p.step(event); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s Subject) batches() error {
	for _, n := range s.sizes() {
		one, err := s.lone(n, 0)
		defer shut(one.engine)
		if err != nil {
			return err
		}
		many, err := s.lone(n, 0)
		defer shut(many.engine)
		if err != nil {
			return err
		}
		all := one.net.strangeEvents(300)
		var want []consensus.Effect
		for _, event := range all {
			effects, err := one.engine.Step(event)
			if err != nil {
				return fmt.Errorf("Step(%s): %w", DescribeEvent(event), err)
			}
			want = append(want, effects...)
		}
		got, err := consensus.StepBatch(many.engine, all)
		if err != nil {
			return fmt.Errorf("StepBatch: %w", err)
		}
		if len(got) != len(want) || !equal(got, want) {
			return fmt.Errorf("%d effects of %d events at once, and %d one by one", len(got), len(all), len(want))
		}
		if a, b := one.engine.Status(), many.engine.Status(); a != b {
			return fmt.Errorf("status %+v after a batch, %+v after its events", b, a)
		}
	}
	return nil
}

// hostile gives engines well-formed parts in senseless combinations, and messages of a real group that were changed.
func (s Subject) hostile() error {
	for _, n := range s.sizes() {
		p, err := s.lone(n, 0)
		defer shut(p.engine)
		if err != nil {
			return err
		}
		for i, event := range p.net.strangeEvents(1_500) {
			if err := p.step(event); err != nil {
				return fmt.Errorf("strange event %d of a group of %d: %w", i, n, err)
			}
		}
	}
	lives, err := s.lives(1, 0)
	if err != nil {
		return err
	}
	for member, life := range lives {
		p, err := s.lone(4, int32(member))
		defer shut(p.engine)
		if err != nil {
			return err
		}
		f := newForger(p.net)
		for i, event := range life {
			for range 2 {
				forged := event
				if r, ok := event.(consensus.Received); ok {
					r.Message = f.change(r.Message)
					forged = r
				}
				if err := p.step(forged); err != nil {
					return fmt.Errorf("changed message %d of member %d: %w", i, member, err)
				}
				if p.halted && !s.CrashOnly {
					return fmt.Errorf("changed message %d of member %d: it halts", i, member)
				}
			}
			if err := p.step(event); err != nil {
				return fmt.Errorf("message %d of member %d among changed ones: %w", i, member, err)
			}
		}
	}
	return nil
}

// replies counts what an engine sends while one member sends it strange messages, no timer running out.
func (s Subject) replies() error {
	p, err := s.lone(max(4, s.MinMembers), 0)
	defer shut(p.engine)
	if err != nil {
		return err
	}
	count := 0
	for _, event := range p.net.strangeEvents(1_500) {
		if r, ok := event.(consensus.Received); ok {
			r.From = 1
			count++
			if err := p.step(r); err != nil {
				return err
			}
		}
	}
	if limit := 4*count + 100; p.sent > limit {
		return fmt.Errorf("%d messages of one member made it send %d, want at most %d", count, p.sent, limit)
	}
	return nil
}

// The bulk of the memory rule: what is sent, and what may stay.
const (
	bulkMessages = 2_000
	bulkSize     = 16 << 10
	bulkKept     = 12 << 20 // of 32 MB
)

func (s Subject) memory() error {
	p, err := s.lone(max(4, s.MinMembers), 0)
	defer shut(p.engine)
	if err != nil {
		return err
	}
	measure := s.Memory
	if measure == nil {
		measure = func() (uint64, error) {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc, nil
		}
	}
	strange := p.net.strangeEvents(500)
	feed := func(count int) error {
		for i := range count {
			r, ok := strange[i%len(strange)].(consensus.Received)
			if !ok {
				continue
			}
			r.From = 1
			r.Message.Body = make([]byte, bulkSize)
			r.Message.Body[0], r.Message.Body[1] = byte(i), byte(i>>8)
			if r.Message.Order != nil {
				order := *r.Message.Order
				order.Extra = r.Message.Body[:ledger.MaxOrderExtra]
				r.Message.Order = &order
			}
			if err := p.step(r); err != nil {
				return err
			}
		}
		return nil
	}
	if err := feed(len(strange)); err != nil {
		return err
	}
	before, err := measure()
	if err != nil {
		return err
	}
	if err := feed(bulkMessages); err != nil {
		return err
	}
	after, err := measure()
	if err != nil {
		return err
	}
	runtime.KeepAlive(p)
	if after > before+bulkKept {
		return fmt.Errorf("%d messages of %d bytes made it hold %d MB more, want at most %d", bulkMessages, bulkSize, (after-before)>>20, bulkKept>>20)
	}
	return nil
}

// journal lets members crash behind effects of theirs, and come back into another history of the same group: one in
// which the others say other things about the same places. A member that forgot what it signed signs that as well.
func (s Subject) journal() error {
	for seed := range uint64(2) {
		net, end := s.shortRun(seed, 0)
		err := net.Err()
		end()
		if err != nil {
			return err
		}
		other, err := s.lives(seed+100, 1_000_000)
		if err != nil {
			return err
		}
		for _, x := range net.nodes[:4] {
			if err := cuts(x, func(c cut) error { return s.comeBack(net, x, c, other[x.ID]) }); err != nil {
				return fmt.Errorf("member %d: %w", x.ID, err)
			}
		}
	}
	return nil
}

// membership takes one node through epochs of which it is a member, and of which it is none.
func (s Subject) membership() error {
	if s.MinMembers > 1 {
		return errNotAsked
	}
	for _, c := range []struct {
		name   string
		member []bool // in each epoch
	}{
		{"a member that is removed, and is one again", []bool{true, true, false, true, false, false, true}},
		{"an observer that becomes a member", []bool{false, false, true, true}},
	} {
		if err := s.throughEpochs(c.member); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

func (s Subject) throughEpochs(member []bool) error {
	net := NewNetwork(Settings{Members: 1, Seed: 1})
	epochs := map[bool]ledger.Epoch{true: net.epoch, false: net.epoch}
	other := net.epoch
	other.Members = slices.Clone(other.Members)
	other.Members[0].Node[0]++
	epochs[false] = other
	config := net.config(0, net.genesis.Head)
	if config.Epoch = epochs[member[0]]; !member[0] {
		config.Self = -1
	}
	p, err := newPuppet(net, s.engine(), config, nil, NewHistory())
	defer shut(p.engine)
	if err != nil {
		return err
	}
	for i, is := range member {
		if i > 0 { // a barrier block that others made ends the epoch before
			order := p.head.Order
			order.Height++
			order.UnixMilli++
			order.Epoch, order.Barrier, order.Parent = uint64(i-1), true, p.head.Order.Hash(net.suite)
			block := net.suite.Sum(p.head.Block[:])
			p.head = consensus.Head{Order: order, Block: block, Certificate: ledger.NewCertificate([]ledger.Vote{net.sign(0, ledger.Statement{
				Kind: ledger.Commit, Epoch: order.Epoch, Height: order.Height, Order: order.Hash(net.suite), Block: block,
			})})}
			epoch := epochs[is]
			epoch.Number = uint64(i)
			if p.member = 0; !is {
				p.member = -1 // its host signs nothing for it
			}
			if err := p.step(consensus.Synced{Head: p.head, Epoch: &epoch}); err != nil {
				return err
			}
		}
		before := p.head.Order.Height
		for k := range 100 { // time passes
			event := consensus.Event(consensus.Expired{Timer: consensus.Timer(k % 6)})
			if k%20 == 0 {
				event = consensus.Pending{Count: 1}
			}
			if err := p.step(event); err != nil {
				return fmt.Errorf("epoch %d, in which it is a member: %t: %w", i, is, err)
			}
		}
		if made := p.head.Order.Height > before; made != is {
			return fmt.Errorf("epoch %d: it is a member: %t, and makes blocks: %t", i, is, made)
		}
	}
	return nil
}

// maxCuts is how many crashes of one member are tried, spread over what it did.
const maxCuts = 12

// cut is what a member had when its power failed.
type cut struct {
	head    consensus.Head
	journal []consensus.Record
	history *History
	signed  ledger.Statement // behind which that was; zero: behind something else
}

// cuts replays what a member did up to some effect, and does something with what was on disk then.
func cuts(x *Node, back func(cut) error) error {
	total := 0
	for _, life := range x.Log {
		for _, effects := range append([][]consensus.Effect{life.Start}, life.Effects...) {
			total += len(effects)
		}
	}
	stride := max(total/maxCuts, 1)
	done := 0
	history := NewHistory()
	for _, life := range x.Log {
		journal, head := slices.Clone(life.Journal), life.Config.Head
		for i, effects := range append([][]consensus.Effect{life.Start}, life.Effects...) {
			if i > 0 {
				switch ev := life.Events[i-1].(type) {
				case consensus.Stored:
					head = ev.Head
				case consensus.Synced:
					head = ev.Head
				}
			}
			for _, effect := range effects {
				var signed ledger.Statement
				switch ef := effect.(type) {
				case consensus.Persist:
					if ef.Replace {
						journal = nil
					}
					journal = append(slices.Clone(journal), ef.Records...)
				case consensus.Sign:
					history.Note(ef.Statement)
					if ef.Statement.Kind != ledger.Heartbeat {
						signed = ef.Statement
					}
				}
				if done++; signed.Kind == 0 && done%stride != 0 {
					continue
				}
				if err := back(cut{head, journal, history.clone(), signed}); err != nil {
					if signed.Kind != 0 {
						return fmt.Errorf("the power fails behind its signature of %s, and when it is back: %w", Describe(signed), err)
					}
					return fmt.Errorf("the power fails behind %s, and when it is back: %w", DescribeEffect(effect), err)
				}
			}
		}
	}
	return nil
}

// comeBack starts an engine on a journal and lets it live through what another of its kind lived through.
func (s Subject) comeBack(net *Network, x *Node, c cut, other []consensus.Event) error {
	p, err := newPuppet(net, s.engine(), net.config(int32(x.Member), c.head), c.journal, c.history)
	defer shut(p.engine)
	if err != nil {
		return err
	}
	for _, event := range other[:min(len(other), 60)] {
		if err := p.step(event); err != nil {
			if s.CrashOnly && !strings.Contains(err.Error(), "it signs") {
				return nil // two histories are a lie, of which only the signatures matter
			}
			return err
		}
	}
	return nil
}

// survey asks members that stopped behind effects of theirs what they hold, as a recovery after a disaster does.
func (s Subject) survey() error {
	net, end := s.group(4, func(c *Settings) { c.Record, c.Keys, c.Observers = true, false, 0 })
	net.load(second/4, 3*second)
	net.After(second, net.nodes[0].Crash) // so that views differ
	net.After(3*second, net.nodes[0].Start)
	net.RunUntil(4 * second)
	err := net.Err()
	end()
	if err != nil {
		return err
	}
	above := 0 // answers in which there was something to tell
	for _, x := range net.nodes {
		var voted ledger.Statement // to make a block final, last
		err := cuts(x, func(c cut) error {
			if k := c.signed.Kind; k == ledger.Commit || k == ledger.Attest {
				voted = c.signed
			}
			if voted.Kind != 0 && voted.Height > c.head.Order.Height {
				above++
			}
			return s.asked(net, x, c, voted)
		})
		if err != nil {
			return fmt.Errorf("member %d: %w", x.ID, err)
		}
	}
	if above == 0 {
		return errors.New("no member voted to make a block final")
	}
	return nil
}

// asked has a stopped member tell what it holds, and checks that it is of use, and that its last vote is in it.
func (s Subject) asked(net *Network, x *Node, c cut, voted ledger.Statement) error {
	engine := s.engine()
	defer shut(engine)
	if _, err := engine.Init(net.config(int32(x.Member), c.head), slices.Clone(c.journal)); err != nil {
		return err
	}
	effects, err := engine.Step(consensus.Survey{})
	if err != nil {
		return err
	}
	at := slices.IndexFunc(effects, func(e consensus.Effect) bool { _, is := e.(consensus.Holding); return is })
	if at < 0 {
		return errors.New("it does not answer what it holds (Survey): no recovery could keep what is final")
	}
	h := effects[at].(consensus.Holding)
	tip, kept := c.head.Order.Hash(net.suite), false
	for i, b := range h.Blocks {
		if want := c.head.Order.Height + 1 + ledger.Height(i); b.Order.Parent != tip || b.Order.Height != want {
			return fmt.Errorf("it holds block %d, which is not block %d on top of the one before", b.Order.Height, want)
		}
		tip = b.Order.Hash(net.suite)
		kept = kept || tip == voted.Order
	}
	if shown := h.Certificate.Statement; !s.CrashOnly && len(h.Blocks) > 0 && (shown.Order != tip || shown.Rank() != h.Rank) {
		return fmt.Errorf("it holds block %d at rank %v, which its certificate does not show", c.head.Order.Height+ledger.Height(len(h.Blocks)), h.Rank)
	}
	above := voted.Kind != 0 && voted.Height > c.head.Order.Height
	leads := len(h.Blocks) > 0 || h.Rank.Height <= c.head.Order.Height
	if higher := leads && voted.Kind == ledger.Commit && h.Rank.Compare(voted.Rank()) > 0; above && !kept && !higher {
		return fmt.Errorf("it voted with %s, and what it holds leaves that out", Describe(voted))
	}
	return nil
}

// shortRun records a group of four that has trouble to make its first blocks: the leader fails, messages are lost.
func (s Subject) shortRun(seed, first uint64) (*Network, func()) {
	net, end := s.group(4, func(c *Settings) { c.Record, c.Keys, c.Seed, c.Observers, c.Loss = true, false, seed, 0, 0.3 })
	net.txs = first
	net.Submit()
	net.After(second, net.nodes[0].Crash)
	net.After(2*second, net.nodes[0].Start)
	net.RunUntil(2 * second)
	net.Submit()
	net.RunUntil(3 * second)
	return net, end
}

// lives returns what the members of such a group were told from outside: messages, timers, and what waits.
func (s Subject) lives(seed, first uint64) ([][]consensus.Event, error) {
	net, end := s.shortRun(seed, first)
	defer end()
	if err := net.Err(); err != nil {
		return nil, err
	}
	lives := make([][]consensus.Event, 4)
	for i := range lives {
		for _, life := range net.nodes[i].Log {
			for _, event := range life.Events {
				switch event.(type) {
				case consensus.Received, consensus.Expired, consensus.Pending, consensus.Peer:
					lives[i] = append(lives[i], event)
				}
			}
		}
	}
	return lives, nil
}

// forger makes changed messages out of real ones, as a member can: it signs with its own key, and holds the votes,
// certificates and orders that it has seen.
type forger struct {
	net          *Network
	rand         *rand.Rand
	votes        []ledger.Vote
	certificates []ledger.Certificate
	orders       []ledger.Order
	newViews     []ledger.NewView
	seen         []consensus.Message
}

func newForger(n *Network) *forger { return &forger{net: n, rand: rand.New(rand.NewPCG(n.Seed, 7))} }

// maxSeen bounds what a forger remembers of each kind.
const maxSeen = 200

// messages is what a liar sends instead of a message: the message itself half of the time, and otherwise something
// that it made of it, of an old one, or nothing.
func (f *forger) messages(from *Node, m consensus.Message) []consensus.Message {
	switch f.rand.IntN(8) {
	case 0, 1, 2, 3:
		f.note(m)
		return []consensus.Message{m}
	case 4:
		return nil
	case 5:
		if len(f.seen) > 0 {
			return []consensus.Message{m, f.seen[f.rand.IntN(len(f.seen))]}
		}
		return []consensus.Message{m, m}
	default:
		forged := f.change(m)
		for i, v := range forged.Votes {
			if int(v.Signer) == from.Member {
				forged.Votes[i] = f.net.sign(from.Member, v.Statement)
				f.net.Oracle.voted(forged.Votes[i])
			}
		}
		return []consensus.Message{forged}
	}
}

func (f *forger) note(m consensus.Message) {
	keep := func(old, more int) bool { return old+more <= maxSeen }
	if keep(len(f.votes), len(m.Votes)) {
		f.votes = append(f.votes, m.Votes...)
	}
	if keep(len(f.certificates), len(m.Certificates)) {
		f.certificates = append(f.certificates, m.Certificates...)
	}
	if m.Order != nil && keep(len(f.orders), 1) {
		f.orders = append(f.orders, *m.Order)
	}
	if m.NewView != nil && keep(len(f.newViews), 1) {
		f.newViews = append(f.newViews, *m.NewView)
	}
	if keep(len(f.seen), 1) {
		f.seen = append(f.seen, m)
	}
}

// change returns a message with one to three of its parts changed. What others signed stays as they signed it.
func (f *forger) change(m consensus.Message) consensus.Message {
	f.note(m)
	r := f.rand
	m.Votes, m.Certificates, m.Body = slices.Clone(m.Votes), slices.Clone(m.Certificates), slices.Clone(m.Body)
	for range 1 + r.IntN(3) {
		switch r.IntN(9) {
		case 0:
			m.Kind = uint8(r.IntN(16))
		case 1:
			if len(m.Votes) > 0 {
				st := &m.Votes[r.IntN(len(m.Votes))].Statement
				switch r.IntN(6) {
				case 0:
					st.View += uint64(r.IntN(3))
				case 1:
					st.Height += ledger.Height(r.IntN(3))
				case 2:
					st.Order[0]++
				case 3:
					st.Block[0]++
				case 4:
					st.High = ledger.Rank{View: st.High.View + uint64(r.IntN(2)), Height: st.High.Height + ledger.Height(r.IntN(2))}
				case 5:
					st.View = ^uint64(0) - uint64(r.IntN(2))
				}
			}
		case 2:
			if len(f.votes) > 0 {
				m.Votes = append(m.Votes, f.votes[r.IntN(len(f.votes))])
			}
		case 3:
			if len(m.Votes) > 0 {
				m.Votes = m.Votes[:len(m.Votes)-1]
			}
		case 4:
			m.Certificates = nil
			if len(f.certificates) > 0 && r.IntN(2) == 0 {
				m.Certificates = []ledger.Certificate{f.certificates[r.IntN(len(f.certificates))]}
			}
		case 5:
			m.Order = nil
			if len(f.orders) > 0 && r.IntN(2) == 0 {
				m.Order = &f.orders[r.IntN(len(f.orders))]
			}
		case 6:
			if m.Order != nil {
				o := *m.Order
				switch r.IntN(5) {
				case 0:
					o.TxRoot[0]++
				case 1:
					o.Height += ledger.Height(r.IntN(3))
				case 2:
					o.UnixMilli = -o.UnixMilli
				case 3:
					o.Barrier = !o.Barrier
				case 4:
					o.Parent[0]++
				}
				m.Order = &o
			}
		case 7:
			m.NewView = nil
			if len(f.newViews) > 0 && r.IntN(2) == 0 {
				n := f.newViews[r.IntN(len(f.newViews))]
				if n.Votes = slices.Clone(n.Votes); r.IntN(2) == 0 && len(n.Votes) > 0 {
					n.Votes = n.Votes[1:]
				}
				m.NewView = &n
			}
		case 8:
			if len(m.Body) > 0 && r.IntN(4) > 0 {
				m.Body[r.IntN(len(m.Body))] ^= 1 << r.IntN(8)
			} else {
				m.Body = append(m.Body, byte(r.Uint32()))
			}
		}
	}
	return m
}

// strangeEvents returns events such as strangers and clocks cause: timers, connections, and messages with well-formed
// parts in senseless combinations. Their signatures count as checked.
func (n *Network) strangeEvents(count int) []consensus.Event {
	r := rand.New(rand.NewPCG(1, uint64(count)))
	members, quorum := len(n.epoch.Members), ledger.Quorum(len(n.epoch.Members))
	genesis := n.genesis.Head.Order.Hash(n.suite)
	digests := []keys.Digest{{}, n.chain, genesis, n.genesis.Head.Block, {1}, {2}}
	digest := func() keys.Digest { return digests[r.IntN(len(digests))] }
	number := func() uint64 { return []uint64{0, 0, 1, 1, 2, 3, 100, 1 << 40, 1<<64 - 1}[r.IntN(9)] }
	member := func() uint32 { return uint32(r.IntN(members)) }
	statement := func() ledger.Statement {
		return ledger.Statement{
			Kind: ledger.StatementKind(1 + r.IntN(6)), Epoch: number() % 2, View: number(), Height: ledger.Height(number()),
			Order: digest(), Block: digest(), High: ledger.Rank{View: number(), Height: ledger.Height(number())}, Seq: number(),
		}
	}
	vote := func() ledger.Vote {
		return ledger.Vote{Signer: member(), Statement: statement(), Signature: make([]byte, keys.SignatureSize)}
	}
	certificate := func() ledger.Certificate {
		s := statement()
		var votes []ledger.Vote
		for i := range quorum {
			votes = append(votes, ledger.Vote{Signer: uint32(i), Statement: s, Signature: make([]byte, keys.SignatureSize)})
		}
		return ledger.NewCertificate(votes)
	}
	message := func() consensus.Message {
		m := consensus.Message{Kind: uint8(r.IntN(12))}
		for range r.IntN(4) {
			m.Votes = append(m.Votes, vote())
		}
		for range r.IntN(3) {
			m.Certificates = append(m.Certificates, certificate())
		}
		if r.IntN(2) == 0 {
			m.Order = &ledger.Order{
				Version: ledger.Version, Chain: n.chain, Group: n.group, Height: ledger.Height(number()), Parent: digest(), UnixMilli: int64(number() >> 1),
				Proposer: member(), TxRoot: digest(), TxCount: uint32(number()), Barrier: r.IntN(8) == 0, NewView: digest(),
			}
		}
		if r.IntN(4) == 0 {
			m.NewView = &ledger.NewView{View: number(), High: certificate()}
			for i := range quorum {
				v := vote()
				v.Signer = uint32(i)
				v.Statement.Kind = ledger.ViewChange
				m.NewView.Votes = append(m.NewView.Votes, v)
			}
		}
		if r.IntN(4) == 0 {
			m.Body = make([]byte, r.IntN(64))
			for i := range m.Body {
				m.Body[i] = byte(r.Uint32())
			}
		}
		return m
	}
	all := make([]consensus.Event, count)
	for i := range all {
		switch r.IntN(8) {
		case 0:
			all[i] = consensus.Expired{Timer: consensus.Timer(r.IntN(12))}
		case 1:
			all[i] = consensus.Peer{Member: member(), Up: r.IntN(2) == 0}
		case 2:
			all[i] = consensus.Pending{Count: uint32(r.IntN(3))}
		default:
			all[i] = consensus.Received{From: member(), Message: message()}
		}
	}
	return all
}

// Fuzz gives a member of a group of four arbitrary events: Step must neither panic nor return an error, and what it
// signs must never contradict what it signed before. The seeds are what a member of a working group gets.
func Fuzz(f *testing.F, factory consensus.Factory) {
	n := NewNetwork(Settings{
		Members: 4, Seed: 1, Delay: 2_000, Sync: 500, Record: true, Loss: 0.02, Factory: func(int) consensus.Engine { return factory() },
	})
	for _, x := range n.nodes {
		x.Start()
	}
	for range 10 {
		n.After(n.upTo(4*second), n.Submit)
	}
	n.RunUntil(2 * second)
	n.nodes[0].Crash()
	n.RunUntil(5 * second)
	var config consensus.Config
	for _, x := range n.nodes {
		for _, life := range x.Log {
			config = life.Config
			for chunk := range slices.Chunk(life.Events, 8) {
				data, err := consensus.EncodeEvents(chunk)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := consensus.DecodeEvents(data)
		if err != nil {
			return
		}
		engine := factory()
		defer shut(engine)
		effects, err := engine.Init(config, nil)
		if err != nil {
			t.Fatal(err)
		}
		history := NewHistory()
		for i := 0; ; i++ {
			for _, effect := range effects {
				if sign, ok := effect.(consensus.Sign); ok {
					if err := history.Check(sign.Statement); err != nil {
						t.Fatalf("it signs %s: %v", Describe(sign.Statement), err)
					}
					history.Note(sign.Statement)
				}
			}
			if i == len(events) {
				return
			}
			if effects, err = engine.Step(events[i]); err != nil {
				t.Fatalf("Step(%T): %v", events[i], err)
			}
			if _, err := consensus.EncodeEffects(effects); err != nil {
				t.Fatalf("effects of %T do not encode: %v", events[i], err)
			}
			engine.Status()
		}
	})
}

// FuzzHost gives a member of a group of four, whose host answers all that it asks, what members of two histories of the
// group were told, in any order, as it was or changed. The rules are those of Fuzz; they reach deeper here, because
// the engine votes, stores and goes on. Each byte of picks is an event: of which member and what becomes of it.
func FuzzHost(f *testing.F, factory consensus.Factory) {
	s := Subject{Factory: factory}
	var lives [][]consensus.Event
	for _, from := range [][2]uint64{{1, 0}, {101, 1_000_000}} {
		more, err := s.lives(from[0], from[1])
		if err != nil {
			f.Fatal(err)
		}
		lives = append(lives, more...)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	f.Add(uint64(1), all)
	f.Add(uint64(2), make([]byte, 200))
	for i := range byte(8) {
		f.Add(uint64(i), bytes.Repeat([]byte{i, i + 8, i + 16, 0}, 50))
	}
	f.Fuzz(func(t *testing.T, seed uint64, picks []byte) {
		p, err := s.lone(4, int32(seed%4))
		defer shut(p.engine)
		if err != nil {
			t.Fatal(err)
		}
		forger := newForger(p.net)
		forger.rand = rand.New(rand.NewPCG(seed, 0))
		strange := p.net.strangeEvents(64)
		next := make([]int, len(lives))
		for i, pick := range picks[:min(len(picks), 512)] {
			from := int(pick) % len(lives)
			event := lives[from][next[from]%len(lives[from])]
			switch r, received := event.(consensus.Received); pick / 8 % 8 {
			case 5:
				next[from] = forger.rand.IntN(len(lives[from]))
			case 6:
				event = strange[forger.rand.IntN(len(strange))]
			case 7:
				if received {
					r.Message = forger.change(r.Message)
					event = r
				}
			default:
				next[from]++
			}
			if err := p.step(event); err != nil {
				t.Fatalf("event %d: %v", i, err)
			}
		}
	})
}

// Alone returns the configuration of member 0 of a group of n members at its genesis, which is the same in each run.
func Alone(n int) consensus.Config {
	net := NewNetwork(Settings{Members: n, Seed: 1, Keys: true})
	return net.config(0, net.genesis.Head)
}
