package consensustest

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

var rewrite = flag.Bool("rewrite", false, "write what the engines do into the scenario files")

// Words are an engine's own words for its numbers.
type Words struct {
	Kinds  map[uint8]string // kinds of messages
	Timers map[consensus.Timer]string
	Body   func(body []byte) string // what a message's Body says; nil: it is not shown
}

// Scenarios runs the files that match a pattern, one subtest each. A file is a list of commands, each followed by
// a line of four dashes, what the nodes do, and an empty line; lines that begin with # before a command tell the
// story. With -rewrite the files are written anew. The commands:
//
//	start n=4 [window=1] [observers=1]  start the nodes; hosts answer everything at once
//	pending NODE COUNT [barrier]        transactions wait in the node's pool; one of them ends the epoch
//	overtaken NODE MS                   the blocks that the node stores from now on overtook what waits there by so much
//	expire NODE TIMER [times=N]         a timer runs out, once or as often
//	peer NODE MEMBER up|down            a connection changes
//	deliver [from=] [to=] [kind=]       deliver the messages that match, and those that they cause
//	drop [from=] [to=] [kind=]          lose the messages that match
//	queue                               show the messages under way
//	fuse NODE                           power fails at the node right after its next Persist
//	crash NODE, restart NODE
//	withhold NODE, release NODE         the node's host lacks transactions, and gets them
//	sync NODE FROM                      the node's host fetches blocks
//	forge from=M to=NODE KIND [view=] [height=] [order=] [high=V/H] [block=]   a message of a member that lies
//	forge from=M to=NODE new-view view= signers=0,1,2 [claim=V/H order=] [high=V/H]   one whose votes claim what claim says
//	survey NODE                         ask what the node helped to agree on above its head
//	timers NODE                         show the timers that run
//	status                              show where everybody is
//
// Orders are named by height and a letter: 1a is the first order seen at height 1.
func Scenarios(t *testing.T, pattern string, factory consensus.Factory, words Words) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenario matches %s: %v", pattern, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(string(raw), factory, words)
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(raw) {
				t.Errorf("%s differs (run with -rewrite and read the difference):\n%s", path, firstDifference(string(raw), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			from := max(0, i-6)
			return fmt.Sprintf("line %d\nwant:\n  %s\ngot:\n  %s", i+1,
				strings.Join(w[min(from, len(w)):min(i+3, len(w))], "\n  "), strings.Join(g[min(from, len(g)):min(i+3, len(g))], "\n  "))
		}
	}
	return ""
}

// runScript returns the script with each command's output renewed.
func runScript(script string, factory consensus.Factory, words Words) string {
	s := &stage{factory: factory, words: words, names: map[keys.Digest]string{}, orders: map[string]ledger.Order{}, suite: keys.Std()}
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(script, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			fmt.Fprintln(&out, line)
			continue
		}
		fmt.Fprintln(&out, line)
		fmt.Fprintln(&out, "----")
		s.out.Reset()
		s.command(strings.Fields(line))
		if s.out.Len() == 0 {
			s.out.WriteString("nothing\n")
		}
		out.WriteString(s.out.String())
		if i+1 < len(lines) && lines[i+1] == "----" { // skip the old output
			i++
			for i+1 < len(lines) && lines[i+1] != "" {
				i++
			}
		}
	}
	return out.String()
}

// stage is where a script plays.
type stage struct {
	factory consensus.Factory
	words   Words
	suite   keys.Suite
	config  consensus.Config
	actors  []*actor
	queue   []envelope
	names   map[keys.Digest]string
	orders  map[string]ledger.Order
	txs     uint32
	timers  bool // show timers
	out     strings.Builder
}

type actor struct {
	id        int
	member    int
	engine    consensus.Engine
	journal   []consensus.Record
	chain     []consensus.Head
	pending   uint32
	overtaken int64 // by the blocks that it stores, ms
	withheld  []ledger.Order
	withhold  bool
	barrier   bool
	fuse      bool
	down      bool
	results   map[keys.Digest]keys.Digest
	orders    map[keys.Digest]ledger.Order
	events    []consensus.Event
	timers    map[consensus.Timer]int64 // those that run, ms
}

type envelope struct {
	from, to int
	message  consensus.Message
}

func (s *stage) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *stage) command(words []string) {
	var args []string
	options := map[string]string{}
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			options[k] = v
		} else {
			args = append(args, w)
		}
	}
	node := func(i int) *actor {
		if i < len(args) {
			if id, err := strconv.Atoi(args[i]); err == nil && id < len(s.actors) {
				return s.actors[id]
			}
		}
		s.printf("no such node")
		return nil
	}
	s.timers = words[0] == "expire" && options["times"] == "" || words[0] == "peer" || words[0] == "pending"
	switch words[0] {
	case "start":
		s.start(number(options["n"], 4), number(options["observers"], 0), uint32(number(options["window"], 1)))
	case "pending":
		if x := node(0); x != nil {
			x.pending = uint32(number(args[1], 0))
			x.barrier = slices.Contains(args, "barrier")
			s.step(x, consensus.Pending{Count: x.pending})
		}
	case "overtaken":
		if x := node(0); x != nil {
			x.overtaken = int64(number(args[1], 0))
			s.printf("ok")
		}
	case "expire":
		if x := node(0); x != nil {
			for t, name := range s.words.Timers {
				for range number(options["times"], 1) {
					if name == args[1] {
						s.step(x, consensus.Expired{Timer: t})
					}
				}
			}
		}
	case "peer":
		if x := node(0); x != nil {
			s.step(x, consensus.Peer{Member: uint32(number(args[1], 0)), Up: args[2] == "up"})
		}
	case "deliver":
		for range 10_000 {
			i := slices.IndexFunc(s.queue, func(e envelope) bool { return s.matches(e, options) })
			if i < 0 {
				return
			}
			e := s.queue[i]
			s.queue = slices.Delete(s.queue, i, i+1)
			s.step(s.actors[e.to], consensus.Received{From: uint32(e.from), Message: e.message})
		}
		s.printf("endless")
	case "drop":
		before := len(s.queue)
		s.queue = slices.DeleteFunc(s.queue, func(e envelope) bool { return s.matches(e, options) })
		s.printf("%d lost", before-len(s.queue))
	case "queue":
		for _, e := range s.queue {
			s.printf("%d>%d %s", e.from, e.to, s.message(e.message))
		}
	case "fuse":
		node(0).fuse = true
		s.printf("ok")
	case "crash":
		s.crash(node(0))
		s.printf("ok")
	case "restart":
		if x := node(0); x != nil {
			s.boot(x)
		}
	case "withhold":
		node(0).withhold = true
		s.printf("ok")
	case "release":
		if x := node(0); x != nil {
			x.withhold = false
			for _, o := range x.withheld {
				s.step(x, consensus.Checked{Order: o.Hash(s.suite), Valid: true})
			}
			x.withheld = nil
		}
	case "sync":
		x, from := node(0), node(1)
		was := s.epochAfter(x.chain[len(x.chain)-1])
		x.chain = slices.Clone(from.chain)
		synced := consensus.Synced{Head: x.chain[len(x.chain)-1]}
		if epoch := s.epochAfter(synced.Head); epoch.Number != was.Number {
			synced.Epoch = &epoch
		}
		s.step(x, synced)
	case "forge":
		s.forge(args, options)
	case "survey":
		if x := node(0); x != nil {
			s.step(x, consensus.Survey{})
		}
	case "timers":
		if x := node(0); x != nil {
			for _, t := range slices.Sorted(maps.Keys(x.timers)) {
				s.printf("%s %d ms", s.words.Timers[t], x.timers[t])
			}
		}
	case "status":
		for _, x := range s.actors {
			if x.down {
				s.printf("%d: down", x.id)
				continue
			}
			st := x.engine.Status()
			s.printf("%d: epoch=%d view=%d leader=%d changing=%t height=%d", x.id, st.Epoch, st.View, st.Leader, st.Changing, st.Height)
		}
	default:
		s.printf("unknown command %s", words[0])
	}
}

func number(s string, otherwise int) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return otherwise
}

func (s *stage) matches(e envelope, options map[string]string) bool {
	is := func(key string, value string) bool {
		want, ok := options[key]
		return !ok || slices.Contains(strings.Split(want, ","), value)
	}
	return is("from", strconv.Itoa(e.from)) && is("to", strconv.Itoa(e.to)) && is("kind", strings.ReplaceAll(s.words.Kinds[e.message.Kind], " ", "-"))
}

func (s *stage) start(n, observers int, window uint32) {
	*s = stage{factory: s.factory, words: s.words, suite: s.suite, names: map[keys.Digest]string{}, orders: map[string]ledger.Order{}}
	s.config = consensus.Config{Suite: s.suite.Name(), Chain: s.suite.Sum([]byte("scenario")), Group: "main"}
	for i := range n {
		s.config.Epoch.Members = append(s.config.Epoch.Members, ledger.Member{Node: [32]byte{byte(i + 1)}, Institution: fmt.Sprintf("bank-%d", i)})
	}
	s.config.Epoch.Params = ledger.DefaultParams()
	s.config.Epoch.Params.Window = window
	genesis := consensus.Head{Order: ledger.Order{Version: ledger.Version, Chain: s.config.Chain, Group: "main"}, Block: s.suite.Sum([]byte("genesis"))}
	s.names[genesis.Order.Hash(s.suite)] = "genesis"
	for i := range n + observers {
		x := &actor{id: i, member: i, chain: []consensus.Head{genesis}}
		if i >= n {
			x.member = -1
		}
		s.actors = append(s.actors, x)
	}
	for _, x := range s.actors {
		s.boot(x)
	}
}

func (s *stage) boot(x *actor) {
	x.down, x.timers = false, map[consensus.Timer]int64{}
	x.results, x.orders = map[keys.Digest]keys.Digest{}, map[keys.Digest]ledger.Order{}
	x.engine = s.factory()
	config := s.config
	config.Self, config.Head = int32(x.member), x.chain[len(x.chain)-1]
	config.Epoch = s.epochAfter(config.Head)
	effects, err := x.engine.Init(config, slices.Clone(x.journal))
	if err != nil {
		s.printf("%d: error: %v", x.id, err)
		return
	}
	s.carryOut(x, effects)
}

func (s *stage) crash(x *actor) {
	x.down, x.events, x.withheld = true, nil, nil
	s.queue = slices.DeleteFunc(s.queue, func(e envelope) bool { return e.to == x.id })
}

func (s *stage) step(x *actor, event consensus.Event) {
	x.events = append(x.events, event)
	for len(x.events) > 0 && !x.down {
		next := x.events[0]
		x.events = x.events[1:]
		if expired, ok := next.(consensus.Expired); ok {
			delete(x.timers, expired.Timer)
		}
		effects, err := x.engine.Step(next)
		if err != nil {
			s.printf("%d: error: %v", x.id, err)
			return
		}
		s.carryOut(x, effects)
	}
}

// later queues an answer of the host.
func (x *actor) later(event consensus.Event) { x.events = append(x.events, event) }

func (s *stage) carryOut(x *actor, effects []consensus.Effect) {
	for _, effect := range effects {
		if x.down {
			return
		}
		if line := s.effect(effect); line != "" {
			s.printf("%d: %s", x.id, line)
		}
		switch ef := effect.(type) {
		case consensus.Persist:
			if ef.Replace {
				x.journal = nil
			}
			x.journal = append(x.journal, ef.Records...)
			if x.fuse {
				x.fuse = false
				s.printf("%d: power fails", x.id)
				s.crash(x)
			}
		case consensus.Sign:
			vote := ledger.Vote{Signer: uint32(x.member), Statement: ef.Statement, Signature: []byte{1}}
			if ef.Broadcast != nil {
				m := *ef.Broadcast
				m.Votes = append([]ledger.Vote{vote}, m.Votes...)
				s.post(x, -1, m)
			}
			x.later(consensus.Signed{Vote: vote})
		case consensus.Send:
			s.post(x, int(ef.To), ef.Message)
		case consensus.SetTimer:
			x.timers[ef.Timer] = ef.Milli
		case consensus.ClearTimer:
			delete(x.timers, ef.Timer)
		case consensus.BuildPayload:
			p := consensus.Payload{}
			if x.pending > 0 {
				s.txs++
				p = consensus.Payload{TxRoot: s.suite.Sum([]byte(strconv.Itoa(int(s.txs)))), TxCount: x.pending, TxBytes: 1, GasLimit: 1, UnixMilli: int64(s.txs), Barrier: x.barrier}
				x.pending, x.barrier = 0, false
			}
			x.later(consensus.Built{Parent: ef.Parent, Payload: p})
			x.later(consensus.Pending{})
		case consensus.CheckPayload:
			x.orders[ef.Order.Hash(s.suite)] = ef.Order
			if x.withhold {
				x.withheld = append(x.withheld, ef.Order)
				continue
			}
			x.later(consensus.Checked{Order: ef.Order.Hash(s.suite), Valid: true})
		case consensus.Execute:
			hash := ef.Order.Hash(s.suite)
			parent, ok := x.results[ef.Order.Parent]
			if !ok {
				parent = x.chain[len(x.chain)-1].Block
			}
			x.results[hash] = s.suite.Sum(parent[:], hash[:])
			x.later(consensus.Executed{Order: hash, Block: x.results[hash]})
		case consensus.Finalize:
			hash := ef.Certificate.Statement.Order
			x.chain = append(x.chain, consensus.Head{Order: x.orders[hash], Block: x.results[hash], Certificate: ef.Certificate})
			stored := consensus.Stored{Head: x.chain[len(x.chain)-1], Overtaken: x.overtaken}
			if stored.Head.Order.Barrier {
				epoch := s.epochAfter(stored.Head)
				stored.Epoch = &epoch
			}
			x.later(stored)
		}
	}
}

// epochAfter returns the epoch of the block that follows a head. All have the same members.
func (s *stage) epochAfter(h consensus.Head) ledger.Epoch {
	epoch := s.config.Epoch
	epoch.Number = h.Order.Epoch
	if h.Order.Barrier {
		epoch.Number++
	}
	return epoch
}

func (s *stage) post(from *actor, to int, m consensus.Message) {
	for _, x := range s.actors {
		if x != from && !x.down && (to < 0 || x.member == to) {
			s.queue = append(s.queue, envelope{from.id, x.id, m})
		}
	}
}

// forge makes up a message. Signatures count for nothing here: hosts check them.
func (s *stage) forge(args []string, options map[string]string) {
	from, to := number(options["from"], 0), number(options["to"], 0)
	st := ledger.Statement{View: uint64(number(options["view"], 0)), Height: ledger.Height(number(options["height"], 0))}
	if v, h, ok := strings.Cut(options["high"], "/"); ok {
		st.High = ledger.Rank{View: uint64(number(v, 0)), Height: ledger.Height(number(h, 0))}
	}
	order, known := s.orders[options["order"]]
	if known {
		st.Order = order.Hash(s.suite)
	}
	m := consensus.Message{}
	switch args[0] {
	case "twin": // of a queued proposal: the same place, another order
		for _, e := range s.queue {
			if e.from == from && e.message.Order != nil {
				o := *e.message.Order
				o.TxRoot = s.suite.Sum([]byte("twin"))
				m = e.message
				m.Order, m.Votes = &o, slices.Clone(m.Votes)
				m.Votes[0].Statement.Order = o.Hash(s.suite)
			}
		}
	case "heartbeat":
		st.Kind, st.Seq = ledger.Heartbeat, 1
	case "view-change":
		st.Kind = ledger.ViewChange
	case "prepare":
		st.Kind = ledger.Prepare
	case "commit":
		st.Kind = ledger.Commit
		st.Block = s.suite.Sum([]byte("wrong"))
	case "attest":
		st.Kind, st.View = ledger.Attest, uint64(number(options["view"], 1))
		st.Block = s.suite.Sum([]byte(options["block"]))
	case "new-view":
		m.NewView = s.forgedNewView(st, options)
	default:
		s.printf("cannot forge %s", args[0])
		return
	}
	for kind, name := range s.words.Kinds {
		name = strings.ReplaceAll(name, " ", "-")
		if name == args[0] || name == "vote" && (args[0] == "prepare" || args[0] == "commit") || name == "proposal" && args[0] == "twin" {
			m.Kind = kind
		}
	}
	if len(m.Votes) == 0 && st.Kind != 0 {
		m.Votes = []ledger.Vote{{Signer: uint32(from), Statement: st, Signature: []byte{1}}}
	}
	s.step(s.actors[to], consensus.Received{From: uint32(from), Message: m})
}

// forgedNewView makes up a new-view: each signer's view change claims a certificate of the rank claim for the order,
// and the one that goes with them is of the rank high.
func (s *stage) forgedNewView(st ledger.Statement, options map[string]string) *ledger.NewView {
	n := &ledger.NewView{Epoch: st.Epoch, View: st.View}
	rank := func(text string) (r ledger.Rank) {
		if v, h, ok := strings.Cut(text, "/"); ok {
			r = ledger.Rank{View: uint64(number(v, 0)), Height: ledger.Height(number(h, 0))}
		}
		return r
	}
	claim := ledger.Statement{Kind: ledger.ViewChange, Epoch: st.Epoch, View: st.View, High: rank(options["claim"]), Order: st.Order}
	for signer := range strings.SplitSeq(options["signers"], ",") {
		if signer != "" {
			n.Votes = append(n.Votes, ledger.Vote{Signer: uint32(number(signer, 0)), Statement: claim, Signature: []byte{1}})
		}
	}
	if high := rank(options["high"]); high != (ledger.Rank{}) {
		prepare := ledger.Statement{Kind: ledger.Prepare, Epoch: st.Epoch, View: high.View, Height: high.Height, Order: st.Order}
		var votes []ledger.Vote
		for signer := range ledger.Quorum(len(s.config.Epoch.Members)) {
			votes = append(votes, ledger.Vote{Signer: uint32(signer), Statement: prepare, Signature: []byte{1}})
		}
		n.High = ledger.NewCertificate(votes)
	}
	return n
}

// name returns a short name for an order.
func (s *stage) name(hash keys.Digest) string {
	if hash.IsZero() {
		return "-"
	}
	if name, ok := s.names[hash]; ok {
		return name
	}
	return "?" + hash.Short()
}

func (s *stage) learn(o ledger.Order) {
	hash := o.Hash(s.suite)
	if _, known := s.names[hash]; known {
		return
	}
	for letter := byte('a'); ; letter++ {
		name := fmt.Sprintf("%d%c", o.Height, letter)
		if _, taken := s.orders[name]; !taken {
			s.names[hash], s.orders[name] = name, o
			return
		}
	}
}

func (s *stage) statement(st ledger.Statement) string {
	text := fmt.Sprintf("%s %d/%d %s", st.Kind, st.View, st.Height, s.name(st.Order))
	if st.Kind == ledger.ViewChange {
		text += fmt.Sprintf(" high=%d/%d", st.High.View, st.High.Height)
	}
	return text
}

func (s *stage) certificate(c ledger.Certificate) string {
	return fmt.Sprintf("{%s by %v}", s.statement(c.Statement), c.Members())
}

func (s *stage) message(m consensus.Message) string {
	if m.Order != nil {
		s.learn(*m.Order)
	}
	parts := []string{s.words.Kinds[m.Kind]}
	for _, v := range m.Votes {
		parts = append(parts, fmt.Sprintf("[%d: %s]", v.Signer, s.statement(v.Statement)))
	}
	if m.Order != nil {
		parts = append(parts, fmt.Sprintf("order %s on %s", s.name(m.Order.Hash(s.suite)), s.name(m.Order.Parent)))
	}
	for _, c := range m.Certificates {
		parts = append(parts, s.certificate(c))
	}
	if v := m.NewView; v != nil {
		parts = append(parts, fmt.Sprintf("new-view %d high=%d/%d of %d", v.View, v.High.Statement.View, v.High.Statement.Height, len(v.Votes)))
	}
	if s.words.Body != nil && len(m.Body) > 0 {
		parts = append(parts, s.words.Body(m.Body))
	}
	return strings.Join(parts, " ")
}

// effect returns an effect in a line, or nothing for those that tell nothing.
func (s *stage) effect(effect consensus.Effect) string {
	switch ef := effect.(type) {
	case consensus.Persist:
		return "persist"
	case consensus.Sign:
		if ef.Broadcast != nil && ef.Broadcast.Order != nil {
			s.learn(*ef.Broadcast.Order)
		}
		text := "sign " + s.statement(ef.Statement)
		if ef.Broadcast != nil && (ef.Broadcast.Order != nil || len(ef.Broadcast.Certificates) > 0 || ef.Broadcast.NewView != nil) {
			text += " with " + s.message(*ef.Broadcast)
		}
		return text
	case consensus.Send:
		if ef.To < 0 {
			return "send to all " + s.message(ef.Message)
		}
		return fmt.Sprintf("send to %d %s", ef.To, s.message(ef.Message))
	case consensus.SetTimer:
		if !s.timers {
			return ""
		}
		return fmt.Sprintf("set %s %d ms", s.words.Timers[ef.Timer], ef.Milli)
	case consensus.ClearTimer:
		return ""
	case consensus.BuildPayload:
		return fmt.Sprintf("build payload of height %d on %s", ef.Height, s.name(ef.Parent))
	case consensus.CheckPayload:
		s.learn(ef.Order)
		text := fmt.Sprintf("check payload of %s, from %d", s.name(ef.Order.Hash(s.suite)), ef.From)
		if ef.Seen {
			text += ", seen"
		}
		if ef.Widen > 0 {
			text += fmt.Sprintf(", widen %d", ef.Widen)
		}
		return text
	case consensus.Execute:
		return "execute " + s.name(ef.Order.Hash(s.suite))
	case consensus.Abandon:
		return "abandon " + s.name(ef.Order)
	case consensus.Finalize:
		return fmt.Sprintf("finalize %s by %s", s.name(ef.Certificate.Statement.Order), s.certificate(ef.Certificate))
	case consensus.NeedSync:
		return fmt.Sprintf("need sync to height %d from %d", ef.Height, ef.From)
	case consensus.Evidence:
		return fmt.Sprintf("evidence against %d: %s, %s", ef.A.Signer, s.statement(ef.A.Statement), s.statement(ef.B.Statement))
	case consensus.Refused:
		return fmt.Sprintf("refuse from %d: %s", ef.From, ef.Rule)
	case consensus.Flow:
		return ""
	case consensus.Holding:
		words := []string{fmt.Sprintf("hold rank %d/%d", ef.Rank.View, ef.Rank.Height)}
		if !ef.Certificate.IsZero() {
			words[0] += " by " + s.certificate(ef.Certificate)
		}
		for _, b := range ef.Blocks {
			s.learn(b.Order)
			words = append(words, s.name(b.Order.Hash(s.suite)))
		}
		return strings.Join(words, ", ")
	case consensus.Halt:
		return "halt: " + ef.Reason
	default:
		return fmt.Sprintf("%T", ef)
	}
}

// equal reports whether two lists of effects are the same, byte for byte.
func equal(a, b []consensus.Effect) bool {
	x, err1 := consensus.EncodeEffects(a)
	y, err2 := consensus.EncodeEffects(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
