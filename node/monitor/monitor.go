// Package monitor shows operators what a node does: metrics for Prometheus, health checks that say why not, and
// two flow logs, of blocks and of transactions, with the time of each step.
//
// A Monitor learns from the functions of a group.Trace, which run on the group's loop, and from Observe, which
// the node calls every second. It decides nothing and nothing waits for it.
//
// # Flow logs
//
// They are structured events of the node's log, told apart by the field flow. One event of level info tells the
// life of each block (flow=block), with the milliseconds from the first sign of it to each step:
//
//	{"level":"info","flow":"block","height":7,"view":0,"order":"0x…","proposer":1,"txs":120,"bytes":31200,
//	 "checked_ms":2.1,"executed_ms":9.8,"prepared_ms":10.4,"committed_ms":14.9,"stored_ms":15.6,"message":"block stored"}
//
// Proposed is the time zero; checked means that all transactions are here and durable (payload ready). A block
// that was fetched from others has only txs and bytes. Changes of view are events with flow=view. Each
// transaction has an event of level debug when it is admitted, and one when it is committed or dropped (flow=tx).
package monitor

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Bounds on what is remembered for the flow logs.
const (
	maxBlocks = 64      // orders that are not stored yet; the lowest is forgotten first
	maxRules  = 100     // rules that members break, told apart in the metrics
	maxDenied = 10      // denied transactions that the log tells in a second
	maxTxs    = 200_000 // transactions that are not committed yet; at least half of them are kept
)

// Config is what a Monitor is made of. All fields may be left out.
type Config struct {
	Log         zerolog.Logger
	Suite       keys.Suite                      // by which signatures of denied transactions are checked; nil: they are not, and the log has none
	Group       ledger.GroupID                  // label of all metrics; empty: no label
	Finality    ledger.StatementKind            // see ledger.Genesis.Finality; zero stands for Commit
	Certificate func() time.Time                // when the node's own ends; zero time: not known; asked by Observe and at each scrape
	Lists       func() []List                   // of revoked certificates, one of an issuer; asked likewise
	Vouched     func() (confirmed, doubted int) // chains of nodes for which a verdict of the CA provider counts; asked at each scrape
	Plugins     func() []plugins.Status         // asked at each scrape and health check
	Wasm        func() wasmvm.Stats             // asked at each scrape
	Executor    func() executor.Stats           // asked at each scrape
	Pinned      func() uint64                   // see state.Store.Pinned; asked by Observe
	Reads       func() float64                  // share of the log of reads that is taken by what is not anchored, 0 to 1; nil: not known
	Damage      func() (damaged, healed uint64) // stored blocks that do not read back, and how many did not and do again; nil: not known
	Aside       func() int                      // files of tables that were found damaged and are made again at the next start; nil: not known
	Roots       func() []Root                   // asked by Observe and at each scrape
	Unheeded    func() string                   // an institution for whose nodes the group trusts certain roots, while this node asks no CA provider; empty: none; asked by Observe and health checks
	Release     func() (left int64)             // blocks until one begins with a feature that this release does not have, below 0: none is known; asked by Observe; nil: none
	HTTPS       func() []HTTPS                  // the certificates of listeners; asked likewise
	Checks      []Check                         // further conditions of being ready
	Profile     bool                            // serve /debug/pprof too
	Now         func() time.Time                // time.Now; tests set it
}

// Monitor gathers and shows. Its methods are safe for concurrent use, but all functions of one Trace must be
// called from one goroutine, as group.Group does.
type Monitor struct {
	config   Config
	log      zerolog.Logger
	registry *prometheus.Registry
	metrics  *metrics

	// The group's goroutine alone touches these.
	blocks  map[keys.Digest]*block
	txs     times
	stored  ledger.Height
	last    time.Time // when the last block was stored
	rules   map[string]bool
	denials struct {
		since  time.Time // begin of the second of
		told   int       // lines
		untold int       // denied transactions without a line since the last one with
	}

	mu       sync.Mutex // guards what follows
	status   group.Status
	peers    int
	observed time.Time                // zero: never
	pin      uint64                   // that is held, see Config.Pinned, and
	pinned   time.Time                // when it was first seen
	alarm    string                   // the last one
	unheeded bool                     // Config.Unheeded named an institution when it was asked last
	warned   map[string]time.Duration // by what ends: the last of the warnings before its end that was logged
}

// Root is a root of the node's own institution that may vouch for it.
type Root struct {
	Agency string
	Root   keys.Digest   // fingerprint of its certificate
	Left   time.Duration // until it counts no more, by block time or the node's clock, whichever is later; negative: it does not
}

// List is a revocation list of an authority.
type List struct {
	Issuer string    // UTF-8
	Issued time.Time // by the authority
	Next   time.Time // when the authority will have issued the next; the list does not count then any more
	Fault  string    // what is wrong at a source of it, as the provider has it; empty: nothing that it knows of
}

// Lead is how long before its end a list is told to be late: a third of its time or a day, whichever is longer, but never in the first half.
func (l List) Lead() time.Duration {
	life := l.Next.Sub(l.Issued)
	return min(max(life/3, 24*time.Hour), life/2)
}

// steps are how long before its end the log tells of it.
func (l List) steps() []time.Duration { return []time.Duration{0, l.Next.Sub(l.Issued) / 10, l.Lead()} }

// HTTPS is the certificate that one of the node's listeners shows to clients, and whose certificates of clients it takes.
type HTTPS struct {
	Listener string // its section in the configuration file
	Ends     time.Time
	Clients  login.Clients
}

// endWarnings are how long before the end of a certificate the log tells of it.
func endWarnings() []time.Duration {
	return []time.Duration{0, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour}
}

// block is the life of a block until it is stored.
type block struct {
	height ledger.Height
	began  time.Time
	steps  map[string]time.Duration // since began
}

// steps are the steps of a block's life after its proposal, in their usual order.
var steps = [...]string{"checked", "executed", "prepared", "committed", "stored"}

// New returns a Monitor that has seen nothing.
func New(c Config) *Monitor {
	if c.Now == nil {
		c.Now = time.Now
	}
	m := &Monitor{config: c, log: c.Log, registry: prometheus.NewRegistry(), blocks: make(map[keys.Digest]*block), rules: map[string]bool{}}
	labels := prometheus.Labels{}
	if c.Group != "" {
		labels["group"] = string(c.Group)
		m.log = c.Log.With().Str("group", string(c.Group)).Logger()
	}
	m.metrics = newMetrics(prometheus.WrapRegistererWith(labels, m.registry), m.registry, &c)
	return m
}

// Trace returns the functions by which a group tells the Monitor what it does.
func (m *Monitor) Trace() group.Trace {
	return group.Trace{
		Phase:     m.phase,
		Finalized: m.finalized,
		Admitted:  m.admitted,
		Dropped:   m.dropped,
		Denied:    m.denied,
		Evidence:  m.evidence,
		Alarm:     m.alarmed,
		Refused:   m.refused,
		Fetched:   m.fetched,
	}
}

// phase notes a step of a block or of a view. Engine and group both tell some steps; the first counts.
func (m *Monitor) phase(phase string, height ledger.Height, view uint64, order keys.Digest) {
	now := m.config.Now()
	switch phase {
	case "proposed", "proposal", "checked", "executed", "prepared", "committed", "stored":
	default:
		if strings.HasPrefix(phase, "view-change") {
			m.metrics.viewChanges.Inc()
		}
		m.log.Info().Str("flow", "view").Uint64("height", uint64(height)).Uint64("view", view).Str("step", phase).Msg("view changes")
		return
	}
	if height <= m.stored {
		return // an echo of what is over
	}
	b := m.blocks[order]
	if b == nil {
		m.forget()
		b = &block{height: height, began: now, steps: make(map[string]time.Duration, len(steps))}
		m.blocks[order] = b
	}
	if _, known := b.steps[phase]; known || phase == "proposed" || phase == "proposal" {
		return
	}
	took := now.Sub(b.began)
	b.steps[phase] = took
	m.metrics.phases.WithLabelValues(phase).Observe(took.Seconds())
}

// forget makes room for one more block.
func (m *Monitor) forget() {
	for len(m.blocks) >= maxBlocks {
		var lowest keys.Digest
		first := true
		for order, b := range m.blocks {
			if first || b.height < m.blocks[lowest].height {
				lowest, first = order, false
			}
		}
		delete(m.blocks, lowest)
	}
}

func (m *Monitor) finalized(b *ledger.Block, receipts []ledger.Receipt, _ []*ledger.SignedTx) {
	now := m.config.Now()
	order := &b.Header.Order
	hash := b.Certificate.Statement.Order
	event := m.log.Info().Str("flow", "block").Uint64("height", uint64(order.Height)).Uint64("view", b.Certificate.Statement.View).
		Str("order", hash.String()).Uint32("proposer", order.Proposer).Uint32("txs", order.TxCount).Uint64("bytes", order.TxBytes)
	if known := m.blocks[hash]; known != nil {
		if _, told := known.steps["stored"]; !told {
			m.phase("stored", order.Height, 0, hash)
		}
		for _, step := range steps {
			if took, ok := known.steps[step]; ok {
				event = event.Float64(step+"_ms", float64(took.Microseconds())/1000)
			}
		}
	}
	event.Msg("block stored")

	m.stored = order.Height
	for hash, known := range m.blocks {
		if known.height <= m.stored {
			delete(m.blocks, hash)
		}
	}
	m.metrics.height.Set(float64(order.Height))
	m.metrics.blocks.Inc()
	m.metrics.gas.Add(float64(b.Header.GasUsed))
	m.metrics.blockTxs.Observe(float64(order.TxCount))
	if !m.last.IsZero() {
		m.metrics.interval.Observe(now.Sub(m.last).Seconds())
	}
	m.last = now
	for i := range receipts {
		r := &receipts[i]
		m.metrics.txs.WithLabelValues(r.Status.String()).Inc()
		began, known := m.txs.take(r.Tx)
		if known && began.own {
			m.metrics.latency.Observe(now.Sub(began.at).Seconds())
		}
		if event := m.log.Debug(); event.Enabled() {
			event = event.Str("flow", "tx").Str("tx", r.Tx.String()).Uint64("height", uint64(order.Height)).
				Uint32("index", r.Index).Str("status", r.Status.String()).Uint64("gas", uint64(r.Gas))
			if known {
				event = event.Dur("after", now.Sub(began.at))
			}
			event.Msg("transaction committed")
		}
	}
}

func (m *Monitor) admitted(tx *ledger.SignedTx, own bool) {
	source := "peer"
	if own {
		source = "client"
	}
	m.metrics.admitted.WithLabelValues(source).Inc()
	m.txs.put(tx.ID, admission{m.config.Now(), own})
	m.log.Debug().Str("flow", "tx").Str("tx", tx.ID.String()).Str("from", source).Int("bytes", len(tx.Raw)).Msg("transaction admitted")
}

// denied counts a client's transaction that its sender may not send, and logs it: the chain has no record of what came into no block. Who is said to have sent it is
// logged only if he signed it. A stranger can send many, so there are at most maxDenied lines in a second, each after a check of signatures.
func (m *Monitor) denied(tx *ledger.SignedTx, why *precompiles.Error) {
	name := "other"
	if why.Status == ledger.Denied {
		name = executor.DenialName(why.Code)
	}
	m.metrics.denied.WithLabelValues(name).Inc()
	d, now := &m.denials, m.config.Now()
	if age := now.Sub(d.since); age < 0 || age >= time.Second {
		d.since, d.told = now, 0
	}
	if d.told++; d.told > maxDenied || m.config.Suite == nil || tx.CheckSignatures(m.config.Suite) != nil {
		d.untold++
		return
	}
	m.log.Warn().Str("tx", tx.ID.String()).Str("account", tx.Sender.String()).Str("to", tx.To.String()).Str("method", tx.Method).Str("why", name).Uint32("code", why.Code).
		Int("untold", d.untold).Msg("transaction denied: " + why.Reason)
	d.untold = 0
}

func (m *Monitor) dropped(id ledger.TxID, why error) {
	reason := "other"
	if errors.Is(why, mempool.ErrExpired) {
		reason = "expired"
	}
	m.metrics.dropped.WithLabelValues(reason).Inc()
	m.txs.take(id)
	m.log.Debug().Str("flow", "tx").Str("tx", id.String()).AnErr("why", why).Msg("transaction dropped")
}

// evidence does not log: the group does.
func (m *Monitor) evidence(_, _ ledger.Vote) { m.metrics.evidence.Inc() }

// refused counts what members sent and should not have, by rule. Engines name rules of their own, so their number is bounded.
func (m *Monitor) refused(_ uint32, rule string) {
	if !m.rules[rule] {
		if len(m.rules) >= maxRules {
			rule = "other"
		} else {
			m.rules[rule] = true
		}
	}
	m.metrics.refused.WithLabelValues(rule).Inc()
}

// Refused counts a client that a gate did not let in. It does not log: the gate does.
func (m *Monitor) Refused(r login.Reason) { m.metrics.clients.WithLabelValues(string(r)).Inc() }

// fetched counts blocks by the node that sent them, which is one that the chain or the operator lists.
func (m *Monitor) fetched(from identity.NodeID, blocks int) {
	m.metrics.fetched.WithLabelValues(from.Short()).Add(float64(blocks))
}

// alarmed does not log: the group does.
func (m *Monitor) alarmed(reason string) {
	m.metrics.alarms.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alarm = reason
}

// Observe tells the Monitor what nobody reports by itself: the group's status, its pool, and how many other
// nodes are connected. Health checks fail when it has not been called for a while.
func (m *Monitor) Observe(s group.Status, pool *mempool.Pool, connected int) {
	now := m.config.Now()
	m.metrics.observe(s, pool, connected, now)
	if m.config.Release != nil {
		m.metrics.release.Set(float64(m.config.Release()))
	}
	unheeded := ""
	if m.config.Unheeded != nil {
		unheeded = m.config.Unheeded()
		m.metrics.unheeded.Set(one(unheeded != ""))
	}
	var roots []Root
	if m.config.Roots != nil {
		roots = m.config.Roots()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.warn(roots, now)
	if unheeded != "" && !m.unheeded {
		m.log.Warn().Err(unheededError(unheeded)).Msg("this node does not heed which authorities the group trusts")
	}
	m.unheeded = unheeded != ""
	m.status, m.peers, m.observed = s, connected, now
	if m.config.Pinned == nil {
		return
	}
	if pin := m.config.Pinned(); pin != m.pin {
		m.pin, m.pinned = pin, now
	}
	m.metrics.pinned.Set(0)
	if m.pin != 0 {
		m.metrics.pinned.Set(now.Sub(m.pinned).Seconds())
	}
}

// unheededError tells what it means that Config.Unheeded names an institution, and what to do.
func unheededError(institution string) error {
	return fmt.Errorf("the group says which authorities may vouch for nodes, of %s for one, and this node lets in nodes whatever certificates they have: configure [ca], with program, settings and chain, and start it again", institution)
}

// warn logs once for each step towards the end of a root, of the node's own certificate, of what its listeners show and trust, and of a revocation list that it has come to.
func (m *Monitor) warn(roots []Root, now time.Time) {
	warned := map[string]time.Duration{}
	reached := func(what string, left time.Duration, steps []time.Duration) bool {
		for _, before := range steps {
			if left <= before {
				last, known := m.warned[what]
				warned[what] = before
				return !known || last != before
			}
		}
		return false
	}
	for _, r := range roots {
		if !reached("root "+r.Root.String(), r.Left, endWarnings()) {
			continue
		}
		event := m.log.Warn().Str("agency", r.Agency).Stringer("root", r.Root)
		if r.Left < 0 {
			event.Msg("root of an authority ended: what it vouches for counts no more; propose its successor with `fondaco authority propose`")
		} else {
			event.Float64("days", r.Left.Hours()/24).Msg("root of an authority ends: propose its successor with `fondaco authority propose`")
		}
	}
	if m.config.Certificate != nil {
		if end := m.config.Certificate(); !end.IsZero() && reached("certificate", end.Sub(now), endWarnings()) {
			event := m.log.Warn().Time("not_after", end)
			if end.Before(now) {
				event.Msg("this node's certificate ended: other nodes refuse it; put a new one in the place of ca.chain")
			} else {
				event.Float64("days", end.Sub(now).Hours()/24).Msg("this node's certificate ends: renew it, and put the new one in the place of ca.chain")
			}
		}
	}
	if m.config.HTTPS != nil {
		https := m.config.HTTPS()
		for _, h := range https {
			if !reached("listener "+h.Listener, h.Ends.Sub(now), endWarnings()) {
				continue
			}
			event := m.log.Warn().Str("listener", h.Listener).Time("not_after", h.Ends)
			if h.Ends.Before(now) {
				event.Msg("the certificate of a listener ended: clients refuse it; put a new one in its place")
			} else {
				event.Float64("days", h.Ends.Sub(now).Hours()/24).Msg("the certificate of a listener ends: renew it, and put the new one in its place")
			}
		}
		for _, h := range https {
			for _, a := range h.Clients.Authorities {
				if !reached("listener "+h.Listener+" authority "+a.Subject, a.Ends.Sub(now), endWarnings()) {
					continue
				}
				event := m.log.Warn().Str("listener", h.Listener).Str("authority", a.Subject).Time("not_after", a.Ends)
				if a.Ends.Before(now) {
					event.Msg("an authority of client certificates ended: its clients are refused; put its next certificate into the file of clients")
				} else {
					event.Float64("days", a.Ends.Sub(now).Hours()/24).Msg("an authority of client certificates ends: put its next certificate into the file of clients")
				}
			}
			for _, l := range h.Clients.Lists {
				if !reached("listener "+h.Listener+" list of "+l.Issuer, l.Next.Sub(now), List{Issued: l.Issued, Next: l.Next}.steps()) {
					continue
				}
				event := m.log.Warn().Str("listener", h.Listener).Str("issuer", l.Issuer).Time("next_update", l.Next)
				if l.Next.Before(now) {
					event.Msg("a revocation list of client certificates is too old: all clients of its authority are refused; put a newer one in its place in the file of clients")
				} else {
					event.Float64("hours", l.Next.Sub(now).Hours()).Msg("a revocation list of client certificates is about to be too old: put a newer one in its place in the file of clients")
				}
			}
		}
	}
	if m.config.Lists != nil {
		for _, l := range m.config.Lists() {
			if !reached("list of "+l.Issuer, l.Next.Sub(now), l.steps()) {
				continue
			}
			event := m.log.Warn().Str("issuer", l.Issuer).Time("next_update", l.Next)
			if l.Fault != "" {
				event = event.Str("fault", l.Fault)
			}
			if l.Next.Before(now) {
				event.Msg("a revocation list is too old to count: nodes of its authority count only while ca.grace lasts; fetch a newer one, or look why the authority issues none")
			} else {
				event.Float64("hours", l.Next.Sub(now).Hours()).Msg("a revocation list is about to be too old, and no newer one has come: fetch one, or look why its authority issues none")
			}
		}
	}
	m.warned = warned
}

// admission is when a transaction came.
type admission struct {
	at  time.Time
	own bool // from a client of this node
}

// times remembers the last maxTxs/2 to maxTxs transactions.
type times struct {
	young, old map[ledger.TxID]admission
}

func (t *times) put(id ledger.TxID, a admission) {
	if t.young == nil || len(t.young) >= maxTxs/2 {
		t.old, t.young = t.young, make(map[ledger.TxID]admission)
	}
	t.young[id] = a
}

func (t *times) take(id ledger.TxID) (admission, bool) {
	for _, generation := range []map[ledger.TxID]admission{t.young, t.old} {
		if a, ok := generation[id]; ok {
			delete(generation, id)
			return a, true
		}
	}
	return admission{}, false
}
