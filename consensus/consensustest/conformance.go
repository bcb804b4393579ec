package consensustest

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// second is a second of virtual time.
const second = 1_000_000

// Subject is an engine under test, in this process or behind a plugin.
type Subject struct {
	Factory    consensus.Factory
	CrashOnly  bool // its fault model is CFT: members may stop, none lies; nothing is asked of it that liars could break
	MinMembers int  // smallest group that it runs with; zero means 1
	// Memory returns how many bytes the engines hold, after what is garbage was collected. Nil: this process's heap.
	Memory func() (uint64, error)
}

// Rule is one thing that a node relies on in every engine.
type Rule struct {
	Name  string // such as "determinism"
	Says  string // what an engine must do, in a sentence
	Check func(Subject) error
}

// Rules returns the rules of the conformance suite.
func Rules() []Rule {
	return []Rule{
		{"head", "a new engine stands at the head that it was given, and showing its status changes nothing", Subject.head},
		{"observer", "an engine that is no member signs nothing and sends nothing", Subject.observer},
		{"batches", "events that come together have the effects that they have one by one", Subject.batches},
		{"hostile input", "no message, however strange, makes an engine panic, return an error, or sign against what it signed before", Subject.hostile},
		{"bounded replies", "a stranger's messages make an engine send little more than it was sent", Subject.replies},
		{"bounded memory", "a stranger's messages fill no memory", Subject.memory},
		{"journal", "after a crash behind any effect an engine starts from its journal and signs nothing against what it signed before", Subject.journal},
		{"survey", "a stopped member that is asked tells of each block above its head that it voted to make final", Subject.survey},
		{"determinism", "the same events give the same effects, byte for byte", Subject.determinism},
		{"independence", "engines of several groups in one program do not touch one another", Subject.independence},
		{"agreement", "members and an observer agree on blocks that hold all transactions", Subject.agreement},
		{"group of one", "one member alone makes blocks", Subject.alone},
		{"epochs", "a group goes on beyond blocks that end their epoch, and takes in who missed that", Subject.epochs},
		{"membership", "a node votes in the epochs of which it is a member, and in no other", Subject.membership},
		{"idle", "an idle group makes no block, changes no view and sends little", Subject.idle},
		{"loss of a member", "a group of four goes on without any one of its members, and takes it in again", Subject.loss},
		{"catch-up", "a member that was away asks for the blocks that it missed", Subject.catchUp},
		{"power failure", "a group goes on after all members failed at once", Subject.power},
		{"bad network", "messages that are lost, doubled and late do no harm", Subject.network},
		{"liars", "a third of the members, less one, can lie without breaking agreement or stopping the group", Subject.liars},
	}
}

// Run is the conformance suite: one subtest for each of the Rules. It drives engines alone and in groups, with real
// keys, on a virtual clock. An engine that is an io.Closer is closed when its node stops. Rules that do not apply to
// the subject are skipped.
func Run(t *testing.T, s Subject) {
	t.Helper()
	for _, r := range Rules() {
		t.Run(r.Name, func(t *testing.T) {
			switch err := r.Check(s); {
			case errors.Is(err, errNotAsked):
				t.Skip(err)
			case err != nil:
				t.Errorf("rule %q, %s: %v", r.Name, r.Says, err)
			}
		})
	}
}

// errNotAsked says that a rule is not asked of an engine with this fault model or size.
var errNotAsked = errors.New("not asked of this engine")

// group returns a started network of n members and an observer, and what ends it.
func (s Subject) group(n int, change func(*Settings)) (*Network, func()) {
	settings := Settings{
		Members: n, Observers: 1, Seed: 1, Keys: true, Delay: 2_000, Sync: 500, CrashOnly: s.CrashOnly,
		Factory: func(int) consensus.Engine { return s.engine() },
	}
	if change != nil {
		change(&settings)
	}
	net := NewNetwork(settings)
	for _, x := range net.nodes {
		x.Start()
	}
	return net, func() {
		for _, x := range net.nodes {
			x.Crash()
		}
	}
}

// load submits a transaction every so often (µs) until a moment.
func (n *Network) load(every, until int64) {
	var submit func()
	submit = func() {
		if n.now < until {
			n.Submit()
			n.After(every, submit)
		}
	}
	n.After(0, submit)
}

// agreed checks that no rule was broken and that all honest nodes that are up have the same head, at least at height.
func (n *Network) agreed(height ledger.Height) error {
	if err := n.Err(); err != nil {
		return err
	}
	if n.Oracle.Height() < height {
		return fmt.Errorf("the group is at height %d, want at least %d", n.Oracle.Height(), height)
	}
	for _, x := range n.nodes {
		if x.up && !x.Liar && x.Head().Order.Height != n.Oracle.Height() {
			return fmt.Errorf("node %d is at height %d, want %d", x.ID, x.Head().Order.Height, n.Oracle.Height())
		}
	}
	return nil
}

func (s Subject) agreement() error {
	n, end := s.group(4, nil)
	defer end()
	n.load(second/5, 6*second)
	n.RunUntil(8 * second)
	if err := n.agreed(10); err != nil {
		return err
	}
	for _, x := range n.nodes {
		if len(x.pool) > 0 {
			return fmt.Errorf("node %d still has %d transactions", x.ID, len(x.pool))
		}
	}
	return nil
}

func (s Subject) alone() error {
	if s.MinMembers > 1 {
		return errNotAsked
	}
	n, end := s.group(1, nil)
	defer end()
	n.load(second/5, 3*second)
	n.RunUntil(5 * second)
	return n.agreed(5)
}

// idleMessages is how many messages a second an idle member may send each other member: heartbeats and questions.
const idleMessages = 20

func (s Subject) idle() error {
	n, end := s.group(4, nil)
	defer end()
	n.Submit()
	n.RunUntil(5 * second)
	if err := n.agreed(1); err != nil {
		return err
	}
	height, changes, messages := n.Oracle.Height(), n.ViewChanges, n.Messages
	n.RunUntil(25 * second)
	if err := n.agreed(height); err != nil {
		return err
	}
	if n.Oracle.Height() != height || n.ViewChanges != changes {
		return fmt.Errorf("after 20 idle seconds %d more blocks and %d more view changes, want none", n.Oracle.Height()-height, n.ViewChanges-changes)
	}
	if sent, limit := n.Messages-messages, idleMessages*20*4*4; sent > limit {
		return fmt.Errorf("%d messages in 20 idle seconds, want at most %d", sent, limit)
	}
	return nil
}

func (s Subject) loss() error {
	for lost := range 4 {
		n, end := s.group(4, nil)
		err := func() error {
			defer end()
			n.load(second/2, 9*second)
			n.RunUntil(second)
			n.nodes[lost].Crash()
			before := n.Oracle.Height()
			n.RunUntil(6 * second)
			if err := n.Err(); err != nil {
				return err
			}
			if n.Oracle.Height() < before+3 {
				return fmt.Errorf("at height %d five seconds after the loss of member %d at %d, want at least 3 more", n.Oracle.Height(), lost, before)
			}
			n.nodes[lost].Start()
			n.RunUntil(12 * second)
			return n.agreed(before + 6)
		}()
		if err != nil {
			return fmt.Errorf("member %d is lost: %w", lost, err)
		}
	}
	return nil
}

func (s Subject) epochs() error {
	n, end := s.group(4, func(c *Settings) { c.Barrier, c.Loss = 5, 0.02 })
	defer end()
	n.load(second/4, 10*second)
	n.RunUntil(2 * second)
	n.nodes[3].Crash()
	n.RunUntil(6 * second)
	n.nodes[3].Start()
	n.nodes[0].Crash()
	n.RunUntil(8 * second)
	n.nodes[0].Start()
	n.Loss = 0
	n.RunUntil(17 * second)
	if err := n.agreed(10); err != nil {
		return err
	}
	if epoch := n.nodes[0].epoch(); epoch < 5 {
		return fmt.Errorf("the group is in epoch %d, want at least 5", epoch)
	}
	return nil
}

func (s Subject) catchUp() error {
	n, end := s.group(4, nil)
	defer end()
	n.load(second/5, 8*second)
	n.RunUntil(second)
	n.nodes[3].Crash()
	n.RunUntil(5 * second)
	missed := n.Oracle.Height() - n.nodes[3].Head().Order.Height
	if err := n.Err(); err != nil {
		return err
	}
	if missed < 5 {
		return fmt.Errorf("three of four members made %d blocks in 4 s, want at least 5", missed)
	}
	before := n.Syncs
	n.nodes[3].Start()
	n.RunUntil(11 * second)
	if n.Syncs == before {
		return fmt.Errorf("a member that missed %d blocks never asked for them (NeedSync)", missed)
	}
	return n.agreed(n.Oracle.Height())
}

func (s Subject) power() error {
	n, end := s.group(4, nil)
	defer end()
	n.load(second/4, 20*second)
	for range 4 {
		n.RunUntil(n.now + second + n.upTo(second))
		for _, x := range n.nodes {
			x.Crash()
		}
		n.RunUntil(n.now + second/10)
		for _, x := range n.nodes {
			x.Start()
		}
	}
	n.RunUntil(28 * second)
	return n.agreed(20)
}

func (s Subject) network() error {
	n, end := s.group(4, nil)
	defer end()
	n.Delay, n.Loss, n.Duplicate = 20_000, 0.1, 0.1
	n.load(second/4, 10*second)
	n.RunUntil(10 * second)
	n.Loss = 0
	n.RunUntil(20 * second)
	return n.agreed(10)
}

// liars has one member of four lie in two ways: it runs twice, with separate journals, and it changes what it sends.
func (s Subject) liars() error {
	if s.CrashOnly {
		return errNotAsked
	}
	for _, way := range []string{"runs twice", "changes its messages"} {
		n, end := s.group(4, func(c *Settings) {
			if way == "runs twice" {
				c.Twins = 1
			}
		})
		if way != "runs twice" {
			n.nodes[0].Liar, n.tamper = true, newForger(n).messages
		}
		n.load(second/4, 10*second)
		n.RunUntil(15 * second)
		err := n.agreed(3)
		end()
		if err != nil {
			return fmt.Errorf("one of four members %s: %w", way, err)
		}
	}
	return nil
}

// determinism records members in a group with faults, and gives new engines the same events.
func (s Subject) determinism() error {
	n, end := s.group(4, func(c *Settings) { c.Record, c.Loss = true, 0.05 })
	defer end()
	n.load(second/4, 5*second)
	n.RunUntil(2 * second)
	n.nodes[0].Crash()
	n.RunUntil(4 * second)
	n.nodes[0].Start()
	n.RunUntil(7 * second)
	if err := n.Err(); err != nil {
		return err
	}
	for _, x := range n.nodes {
		for i, life := range x.Log {
			if err := life.replay(s.engine()); err != nil {
				return fmt.Errorf("node %d, start %d: %w", x.ID, i, err)
			}
		}
	}
	return nil
}

// independence replays two lives at once, event by event in turn.
func (s Subject) independence() error {
	n, end := s.group(4, func(c *Settings) { c.Record = true })
	defer end()
	n.load(second/4, 2*second)
	n.RunUntil(2 * second)
	if err := n.Err(); err != nil {
		return err
	}
	var engines []consensus.Engine
	lives := []Life{n.nodes[0].Log[0], n.nodes[1].Log[0]}
	for _, l := range lives {
		e := s.engine()
		defer shut(e)
		if err := l.begin(e); err != nil {
			return err
		}
		engines = append(engines, e)
	}
	for i := range min(len(lives[0].Events), len(lives[1].Events), 200) {
		for k, l := range lives {
			if err := l.step(engines[k], i); err != nil {
				return fmt.Errorf("with another engine at work in the same program: %w", err)
			}
		}
	}
	return nil
}

// replay gives a new engine what another was given and compares the effects byte for byte.
func (l *Life) replay(e consensus.Engine) error {
	defer shut(e)
	if err := l.begin(e); err != nil {
		return err
	}
	for i := range l.Events {
		if err := l.step(e, i); err != nil {
			return err
		}
	}
	return nil
}

func (l *Life) begin(e consensus.Engine) error {
	effects, err := e.Init(l.Config, slices.Clone(l.Journal))
	if err != nil {
		return err
	}
	if !equal(effects, l.Start) {
		return fmt.Errorf("effects of Init differ: %s, and before %s", describeAll(effects), describeAll(l.Start))
	}
	return nil
}

func (l *Life) step(e consensus.Engine, i int) error {
	effects, err := e.Step(l.Events[i])
	if err != nil {
		return err
	}
	if !equal(effects, l.Effects[i]) {
		return fmt.Errorf("effects of event %d, %s, differ: %s, and before %s", i, DescribeEvent(l.Events[i]), describeAll(effects), describeAll(l.Effects[i]))
	}
	return nil
}

// engine returns a new engine whose panics are errors, and whose effects are looked at one by one.
func (s Subject) engine() consensus.Engine { return &inspected{Engine: s.Factory()} }

// inspected is an engine of which no panic escapes and every effect has a form that a host takes.
type inspected struct {
	consensus.Engine
	members int
}

func (e *inspected) Init(c consensus.Config, journal []consensus.Record) (effects []consensus.Effect, err error) {
	defer recovered(&err)
	e.members = len(c.Epoch.Members)
	effects, err = e.Engine.Init(c, journal)
	return effects, errors.Join(err, e.inspect(effects))
}

func (e *inspected) Step(event consensus.Event) (effects []consensus.Effect, err error) {
	defer recovered(&err)
	e.follow(event)
	effects, err = e.Engine.Step(event)
	return effects, errors.Join(err, e.inspect(effects))
}

func (e *inspected) StepBatch(events []consensus.Event) (effects []consensus.Effect, err error) {
	defer recovered(&err)
	for _, event := range events {
		e.follow(event)
	}
	effects, err = consensus.StepBatch(e.Engine, events)
	return effects, errors.Join(err, e.inspect(effects))
}

func (e *inspected) Close() error {
	shut(e.Engine)
	return nil
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the engine panicked: %v\n%s", r, debug.Stack())
	}
}

// follow keeps the number of members.
func (e *inspected) follow(event consensus.Event) {
	switch ev := event.(type) {
	case consensus.Stored:
		if ev.Epoch != nil {
			e.members = len(ev.Epoch.Members)
		}
	case consensus.Synced:
		if ev.Epoch != nil {
			e.members = len(ev.Epoch.Members)
		}
	}
}

// inspect checks the form of effects: what a host could not carry out, or would not.
func (e *inspected) inspect(effects []consensus.Effect) error {
	if _, err := consensus.EncodeEffects(effects); err != nil {
		return fmt.Errorf("effects do not encode: %w", err)
	}
	for _, effect := range effects {
		var m *consensus.Message
		switch ef := effect.(type) {
		case consensus.Sign:
			m = ef.Broadcast
		case consensus.Send:
			if m = &ef.Message; int(ef.To) >= e.members {
				return fmt.Errorf("it sends to member %d of %d", ef.To, e.members)
			}
		case consensus.SetTimer:
			if ef.Milli <= 0 {
				return fmt.Errorf("it sets timer %d to %d ms, want at least 1", ef.Timer, ef.Milli)
			}
		case consensus.NeedSync:
			if int(ef.From) >= e.members {
				return fmt.Errorf("it asks member %d of %d for blocks", ef.From, e.members)
			}
		}
		if m == nil {
			continue
		}
		data, err := ledger.Marshal(m)
		if err != nil {
			return err
		}
		if len(data) > consensus.MaxMessageSize || len(m.Votes) >= consensus.MaxMessageVotes || len(m.Certificates) > consensus.MaxMessageCertificates {
			return fmt.Errorf("it sends a message of %d bytes, %d votes and %d certificates, more than a host takes", len(data), len(m.Votes), len(m.Certificates))
		}
	}
	return nil
}

// shut closes an engine that is a program of its own.
func shut(e consensus.Engine) {
	if c, ok := e.(io.Closer); ok {
		_ = c.Close() // it is dead either way
	}
}
