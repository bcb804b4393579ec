package monitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/wasmvm"
)

// metrics are all that Prometheus sees. No name or label is made of what a stranger sends.
type metrics struct {
	height, view, leader, changing, syncing    prometheus.Gauge
	fetchRate, fetchLeft                       prometheus.Gauge
	members, peers, engine, running            prometheus.Gauge
	pinned, release, unheeded                  prometheus.Gauge
	poolTxs, poolBytes, poolOldest             prometheus.Gauge
	poolRoom, poolWait                         prometheus.Gauge
	notAdmitted                                prometheus.Counter
	blocks, gas, viewChanges, evidence, alarms prometheus.Counter
	txs, admitted, dropped, denied             *prometheus.CounterVec
	refused, fetched                           *prometheus.CounterVec
	clients                                    *prometheus.CounterVec
	interval, latency, blockTxs                prometheus.Histogram
	phases                                     *prometheus.HistogramVec

	refusedBefore uint64 // what notAdmitted counts up to
}

// seconds are the bounds of histograms of time: from a step on one machine to a view change across the world.
var seconds = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}

func newMetrics(own prometheus.Registerer, process prometheus.Registerer, config *Config) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fondaco", Name: name, Help: help})
		own.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fondaco", Name: name, Help: help})
		own.MustRegister(c)
		return c
	}
	counters := func(name, help, label string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fondaco", Name: name, Help: help}, []string{label})
		own.MustRegister(c)
		for _, v := range values {
			c.WithLabelValues(v)
		}
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "fondaco", Name: name, Help: help, Buckets: buckets})
		own.MustRegister(h)
		return h
	}
	m := &metrics{
		height:      gauge("height", "Height of the last block stored here."),
		view:        gauge("view", "Number of the current leadership (view or term)."),
		leader:      gauge("leader", "Member number of the leader, -1 when there is none."),
		changing:    gauge("view_changing", "1 while a view change or an election is under way."),
		syncing:     gauge("syncing_to_height", "Height that is being fetched up to, 0 when nothing is fetched."),
		fetchRate:   gauge("fetched_blocks_per_second", "Blocks stored a second while blocks are fetched, else 0."),
		fetchLeft:   gauge("fetch_left_seconds", "Time until syncing_to_height is reached at this speed; 0 when nothing is fetched or nobody knows."),
		members:     gauge("members", "Members of the group's epoch."),
		peers:       gauge("peers_connected", "Other nodes that this node is connected to."),
		engine:      gauge("engine_up", "1 while the consensus engine runs."),
		running:     gauge("group_up", "0 when the group stopped because it cannot trust itself any more."),
		pinned:      gauge("state_pinned_seconds", "How long a reader, of a backup for example, has had the same world state pinned; 0 when none has."),
		unheeded:    gauge("authorities_unheeded", "1 while the group says which authorities may vouch for nodes, and this node has no CA provider to ask about certificates."),
		release:     gauge("release_blocks_left", "Blocks until one begins with a feature that this release does not have, before which the node stops; -1: none was decided on."),
		poolTxs:     gauge("pool_transactions", "Transactions that wait."),
		poolBytes:   gauge("pool_bytes", "Bytes of the transactions that wait."),
		poolOldest:  gauge("pool_oldest_seconds", "How long the oldest transaction has waited."),
		poolRoom:    gauge("pool_room", "Transactions that may wait for a proposal before clients are refused, as fast as that goes now; -1: no bound."),
		poolWait:    gauge("pool_wait_seconds", "How long a transaction that comes now has to wait for a proposal, about."),
		notAdmitted: counter("transactions_not_admitted_total", "Clients' transactions that were refused unseen, because those that waited took longer than pool.wait_ms."),
		blocks:      counter("blocks_total", "Blocks stored since the node started."),
		gas:         counter("gas_total", "Gas used by the transactions of these blocks."),
		viewChanges: counter("view_changes_total", "View changes that this node entered."),
		evidence:    counter("evidence_total", "Pieces of evidence that a member signed contradicting statements, found since the node started."),
		alarms:      counter("alarms_total", "Reasons for which the group stopped."),
		txs:         counters("transactions_total", "Transactions committed, by the status of their receipts.", "status"),
		admitted:    counters("transactions_admitted_total", "Transactions taken into the pool.", "from", "client", "peer"),
		dropped:     counters("transactions_dropped_total", "Transactions that left the pool without a block.", "why", "expired", "other"),
		denied:      counters("transactions_denied_total", "Clients' transactions that were not taken because of what their senders may do, by the name of the refusal.", "why"),
		refused:     counters("messages_refused_total", "Messages, requests and proposals of members that were refused, by the rule that they break.", "rule"),
		clients:     counters("clients_refused_total", "Requests and connections to the API and to this interface that were refused because of who sent them, by reason.", "reason", reasons()...),
		fetched:     counters("fetched_blocks_total", "Blocks with good certificates that other nodes sent when this one was behind, by node.", "from"),
		interval:    histogram("block_interval_seconds", "Time between two blocks.", seconds),
		latency:     histogram("commit_latency_seconds", "Time from a client's transaction entering the pool to its block being durable.", seconds),
		blockTxs:    histogram("block_transactions", "Transactions in a block.", []float64{1, 10, 50, 100, 250, 500, 1000, 2000, 5000}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "fondaco", Name: "block_step_seconds", Buckets: seconds,
			Help: "Time from a block's proposal to each step: checked, executed, prepared, committed, stored.",
		}, []string{"step"}),
	}
	own.MustRegister(m.phases)
	for _, step := range steps {
		m.phases.WithLabelValues(step)
	}
	m.leader.Set(-1)
	m.release.Set(-1)
	process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if config.Plugins != nil {
		process.MustRegister(&pluginCollector{
			status:   config.Plugins,
			up:       prometheus.NewDesc("fondaco_plugin_up", "1 while the plugin program runs and answers.", []string{"plugin"}, nil),
			restarts: prometheus.NewDesc("fondaco_plugin_restarts_total", "How often the plugin program was started again.", []string{"plugin"}, nil),
		})
	}
	if config.Certificate != nil {
		own.MustRegister(&certificateCollector{
			config:  config,
			left:    prometheus.NewDesc("fondaco_certificate_ends_seconds", "Seconds until the node's own certificate ends; below 0 it has.", nil, nil),
			list:    prometheus.NewDesc("fondaco_revocation_list_ends_seconds", "Seconds until the next revocation list of an authority is due, and the present one does not count any more; below 0 it does not.", []string{"issuer"}, nil),
			fault:   prometheus.NewDesc("fondaco_revocation_list_fault", "1 while something is wrong at a source of an authority's revocation lists: a file or URL cannot be read, or has one that does not count; the newest may come by another one. Else 0.", []string{"issuer"}, nil),
			vouched: prometheus.NewDesc("fondaco_vouched_nodes", "Chains of nodes that count, by what the CA provider said when it was last asked: confirmed, or doubted when it could not tell.", []string{"verdict"}, nil),
		})
	}
	if config.HTTPS != nil {
		own.MustRegister(&httpsCollector{
			config:    config,
			left:      prometheus.NewDesc("fondaco_https_certificate_ends_seconds", "Seconds until the certificate ends that a listener shows to clients; below 0 it has.", []string{"listener"}, nil),
			authority: prometheus.NewDesc("fondaco_client_authority_ends_seconds", "Seconds until an authority of client certificates counts no more at a listener; below 0 its clients are refused.", []string{"listener", "authority"}, nil),
			list:      prometheus.NewDesc("fondaco_client_revocation_list_ends_seconds", "Seconds until the next revocation list of an authority of client certificates is due at a listener; below 0 its clients are refused.", []string{"listener", "issuer"}, nil),
		})
	}
	if config.Wasm != nil {
		own.MustRegister(newWasmCollector(config.Wasm))
	}
	if config.Reads != nil {
		own.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "fondaco", Name: "reads_full", Help: "Share of the log of reads that is taken by reads which are not anchored on chain: at 1 regulators and auditors are answered nothing and no backup is given, until fondaco audit log anchor.",
		}, config.Reads))
	}
	if config.Damage != nil {
		own.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "fondaco", Name: "blocks_damaged", Help: "Stored blocks that the disk does not hold as they were written, as far as they were read."}, func() float64 {
				damaged, _ := config.Damage()
				return float64(damaged)
			}),
			prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "fondaco", Name: "blocks_healed_total", Help: "Damaged blocks that were fetched from other nodes and written again."}, func() float64 {
				_, healed := config.Damage()
				return float64(healed)
			}),
		)
	}
	if config.Aside != nil {
		own.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "fondaco", Name: "tables_aside", Help: "Files (state.db, index.db) that were found damaged and set aside, and are made again when the node opens its data."}, func() float64 {
			return float64(config.Aside())
		}))
	}
	if config.Roots != nil {
		own.MustRegister(&rootCollector{
			roots: config.Roots,
			left:  prometheus.NewDesc("fondaco_authority_ends_seconds", "Block time until a root counts no more that vouches for this node's institution; negative: it does not.", []string{"agency", "root"}, nil),
		})
	}
	if config.Executor != nil {
		asked := func(name, help string, value func(executor.Stats) uint64) {
			own.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "fondaco", Name: name, Help: help}, func() float64 {
				return float64(value(config.Executor()))
			}))
		}
		asked("executed_ahead_total", "Transactions that a worker executed ahead of their turn in the block.", func(s executor.Stats) uint64 { return s.Ahead })
		asked("executed_again_total", "Of those, executed once more in their turn: what they had read had changed, or the block was full of writes.", func(s executor.Stats) uint64 { return s.Again })
	}
	return m
}

func (m *metrics) observe(s group.Status, pool *mempool.Pool, connected int, now time.Time) {
	m.height.Set(float64(s.Head.Order.Height))
	m.view.Set(float64(s.Consensus.View))
	m.leader.Set(float64(s.Consensus.Leader))
	m.changing.Set(one(s.Consensus.Changing))
	m.syncing.Set(float64(s.Syncing))
	m.fetchRate.Set(s.Fetch.PerSecond)
	m.fetchLeft.Set(float64(s.Fetch.Left) / 1_000)
	m.members.Set(float64(len(s.Epoch.Members)))
	m.peers.Set(float64(connected))
	m.engine.Set(one(s.Engine))
	m.running.Set(one(s.Stopped == nil))
	if pool == nil {
		return
	}
	count, bytes, oldest := pool.Size()
	m.poolTxs.Set(float64(count))
	m.poolBytes.Set(float64(bytes))
	admission := pool.Admission()
	m.poolRoom.Set(float64(admission.Room))
	m.poolWait.Set(admission.Wait.Seconds())
	m.notAdmitted.Add(float64(admission.Refused - m.refusedBefore))
	m.refusedBefore = admission.Refused
	m.poolOldest.Set(0)
	if oldest > 0 { // else what the pool holds is in proposed blocks
		m.poolOldest.Set(max(0, float64(now.UnixMilli()-oldest)/1000))
	}
}

// reasons are those for which clients are refused.
func reasons() []string {
	var all []string
	for _, r := range login.Reasons() {
		all = append(all, string(r))
	}
	return all
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// pluginCollector asks the plugin host at each scrape.
type pluginCollector struct {
	status       func() []plugins.Status
	up, restarts *prometheus.Desc
}

func (c *pluginCollector) Describe(to chan<- *prometheus.Desc) { to <- c.up; to <- c.restarts }

func (c *pluginCollector) Collect(to chan<- prometheus.Metric) {
	for _, s := range c.status() {
		to <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, one(s.Healthy), s.Name)
		to <- prometheus.MustNewConstMetric(c.restarts, prometheus.CounterValue, float64(s.Restarts), s.Name)
	}
}

// rootCollector asks for the roots at each scrape. The group bounds their number.
type rootCollector struct {
	roots func() []Root
	left  *prometheus.Desc
}

func (c *rootCollector) Describe(to chan<- *prometheus.Desc) { to <- c.left }

func (c *rootCollector) Collect(to chan<- prometheus.Metric) {
	for _, r := range c.roots() {
		to <- prometheus.MustNewConstMetric(c.left, prometheus.GaugeValue, r.Left.Seconds(), r.Agency, r.Root.String())
	}
}

// certificateCollector tells of what a node with a CA provider knows of certificates.
type certificateCollector struct {
	config                     *Config
	left, list, fault, vouched *prometheus.Desc
}

func (c *certificateCollector) Describe(to chan<- *prometheus.Desc) {
	to <- c.left
	to <- c.list
	to <- c.fault
	to <- c.vouched
}

func (c *certificateCollector) Collect(to chan<- prometheus.Metric) {
	now := c.config.Now()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if end := c.config.Certificate(); !end.IsZero() {
		gauge(c.left, end.Sub(now).Seconds())
	}
	if c.config.Lists != nil {
		for _, l := range c.config.Lists() {
			gauge(c.list, l.Next.Sub(now).Seconds(), l.Issuer)
			fault := 0.
			if l.Fault != "" {
				fault = 1
			}
			gauge(c.fault, fault, l.Issuer)
		}
	}
	if c.config.Vouched != nil {
		confirmed, doubted := c.config.Vouched()
		gauge(c.vouched, float64(confirmed), "confirmed")
		gauge(c.vouched, float64(doubted), "doubted")
	}
}

// httpsCollector asks for the certificates of listeners at each scrape.
type httpsCollector struct {
	config                *Config
	left, authority, list *prometheus.Desc
}

func (c *httpsCollector) Describe(to chan<- *prometheus.Desc) {
	to <- c.left
	to <- c.authority
	to <- c.list
}

func (c *httpsCollector) Collect(to chan<- prometheus.Metric) {
	now := c.config.Now()
	for _, h := range c.config.HTTPS() {
		to <- prometheus.MustNewConstMetric(c.left, prometheus.GaugeValue, h.Ends.Sub(now).Seconds(), h.Listener)
		for _, a := range h.Clients.Authorities {
			to <- prometheus.MustNewConstMetric(c.authority, prometheus.GaugeValue, a.Ends.Sub(now).Seconds(), h.Listener, a.Subject)
		}
		for _, l := range h.Clients.Lists {
			to <- prometheus.MustNewConstMetric(c.list, prometheus.GaugeValue, l.Next.Sub(now).Seconds(), h.Listener, l.Issuer)
		}
	}
}

// wasmCollector asks the VM at each scrape.
type wasmCollector struct {
	stats    func() wasmvm.Stats
	families []wasmFamily
}

type wasmFamily struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*wasmvm.Stats) float64
}

func newWasmCollector(stats func() wasmvm.Stats) *wasmCollector {
	c := &wasmCollector{stats: stats}
	add := func(kind prometheus.ValueType, name, help string, value func(*wasmvm.Stats) float64) {
		c.families = append(c.families, wasmFamily{prometheus.NewDesc("fondaco_wasm_"+name, help, nil, nil), kind, value})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "modules", "Contracts' modules that are ready to be called.", func(s *wasmvm.Stats) float64 { return float64(s.Modules) })
	add(gauge, "bytes", "Memory that these modules and their instances take, about.", func(s *wasmvm.Stats) float64 { return float64(s.Bytes) })
	add(gauge, "compile_queue", "Modules that wait for the compiler, and run in the interpreter meanwhile.", func(s *wasmvm.Stats) float64 { return float64(s.Queued) })
	add(counter, "compiled_total", "Modules that the compiler took over.", func(s *wasmvm.Stats) float64 { return float64(s.Compiled) })
	add(counter, "compile_refused_total", "Modules that the compiler did not take: they stay with the interpreter.", func(s *wasmvm.Stats) float64 { return float64(s.Refused) })
	add(counter, "compared_total", "Calls that ran in both engines.", func(s *wasmvm.Stats) float64 { return float64(s.Compared) })
	add(counter, "uncompared_total", "Calls that were to run in both engines and ran in one: the compiler was not ready, or they asked too much of their host.", func(s *wasmvm.Stats) float64 { return float64(s.Uncompared) })
	add(counter, "divergences_total", "Comparisons in which the engines differed. Any stops the node's voting.", func(s *wasmvm.Stats) float64 { return float64(s.Divergences) })
	return c
}

// Describe implements prometheus.Collector.
func (c *wasmCollector) Describe(to chan<- *prometheus.Desc) {
	for i := range c.families {
		to <- c.families[i].desc
	}
}

// Collect implements prometheus.Collector.
func (c *wasmCollector) Collect(to chan<- prometheus.Metric) {
	s := c.stats()
	for i := range c.families {
		to <- prometheus.MustNewConstMetric(c.families[i].desc, c.families[i].kind, c.families[i].value(&s))
	}
}
