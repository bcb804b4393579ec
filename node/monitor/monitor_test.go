package monitor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func newClock() *clock { return &clock{time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)} }

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// wantMetrics looks for whole lines of the metrics page.
func wantMetrics(t *testing.T, m *Monitor, lines ...string) {
	t.Helper()
	code, text := get(t, m.Handler(nil), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("/metrics answers %d: %s", code, text)
	}
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("/metrics has no line %q", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "fondaco_") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

func finalBlock(height ledger.Height, order keys.Digest, txs int) *ledger.Block {
	b := &ledger.Block{Version: ledger.Version}
	b.Header.Order = ledger.Order{Version: ledger.Version, Height: height, Proposer: 2, TxCount: uint32(txs), TxBytes: 250 * uint64(txs)}
	b.Header.GasUsed = 1000
	b.Certificate.Statement = ledger.Statement{Kind: ledger.Commit, View: 3, Height: height, Order: order}
	return b
}

func TestBlockFlow(t *testing.T) {
	var log bytes.Buffer
	c := newClock()
	m := New(Config{Log: zerolog.New(&log), Group: "main", Now: c.Now})
	trace := m.Trace()
	life := func(height ledger.Height, order keys.Digest) {
		for _, s := range []struct {
			step string
			took time.Duration
		}{{"proposal", 0}, {"checked", 2}, {"executed", 5}, {"executed", 1}, {"prepared", 1}, {"committed", 4}, {"stored", 3}} {
			c.pass(s.took * time.Millisecond)
			trace.Phase(s.step, height, 3, order)
		}
		trace.Finalized(finalBlock(height, order, 40), nil, nil)
		trace.Phase("stored", height, 3, order) // the engine hears of it later
	}
	life(7, keys.Digest{7})
	c.pass(84 * time.Millisecond)
	life(8, keys.Digest{8})

	t.Run("one event tells the life of a block", func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 {
			t.Fatalf("%d events, want 2:\n%s", len(lines), log.String())
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
			t.Fatal(err)
		}
		for field, want := range map[string]any{
			"flow": "block", "group": "main", "height": 7.0, "view": 3.0, "proposer": 2.0, "txs": 40.0, "bytes": 10000.0,
			"checked_ms": 2.0, "executed_ms": 7.0, "prepared_ms": 9.0, "committed_ms": 13.0, "stored_ms": 16.0, "message": "block stored",
		} {
			if got[field] != want {
				t.Errorf("%s = %v, want %v", field, got[field], want)
			}
		}
	})
	t.Run("metrics", func(t *testing.T) {
		wantMetrics(t, m,
			`fondaco_height{group="main"} 8`,
			`fondaco_blocks_total{group="main"} 2`,
			`fondaco_gas_total{group="main"} 2000`,
			`fondaco_block_transactions_sum{group="main"} 80`,
			`fondaco_block_interval_seconds_sum{group="main"} 0.1`,
			`fondaco_block_step_seconds_count{group="main",step="stored"} 2`,
			`fondaco_block_step_seconds_bucket{group="main",step="prepared",le="0.01"} 2`,
			`fondaco_block_step_seconds_bucket{group="main",step="prepared",le="0.005"} 0`,
		)
		if _, text := get(t, m.Handler(nil), "/metrics"); !strings.Contains(text, "\ngo_goroutines ") || !strings.Contains(text, "\nprocess_") {
			t.Error("/metrics tells nothing of the process")
		}
	})
	t.Run("a block that others sent has no steps", func(t *testing.T) {
		log.Reset()
		trace.Finalized(finalBlock(9, keys.Digest{9}, 1), nil, nil)
		if s := log.String(); !strings.Contains(s, `"height":9`) || strings.Contains(s, "_ms") {
			t.Errorf("event %s", s)
		}
	})
	t.Run("orders that come to nothing are forgotten", func(t *testing.T) {
		for i := range 10 * maxBlocks {
			trace.Phase("proposal", ledger.Height(10+i), 0, keys.Digest{1, byte(i), byte(i >> 8)})
		}
		if n := len(m.blocks); n != maxBlocks {
			t.Errorf("%d blocks are remembered, want %d", n, maxBlocks)
		}
		trace.Finalized(finalBlock(1e6, keys.Digest{2}, 1), nil, nil)
		if n := len(m.blocks); n != 0 {
			t.Errorf("%d blocks are remembered after a higher one was stored", n)
		}
	})
	t.Run("view changes", func(t *testing.T) {
		log.Reset()
		trace.Phase("view-change: no progress", 10, 4, keys.Digest{})
		trace.Phase("new-view", 10, 4, keys.Digest{})
		wantMetrics(t, m, `fondaco_view_changes_total{group="main"} 1`)
		if s := log.String(); !strings.Contains(s, `"flow":"view"`) || !strings.Contains(s, `"step":"view-change: no progress"`) {
			t.Errorf("events %s", s)
		}
	})
}

func TestRefused(t *testing.T) {
	m := New(Config{})
	refused := m.Trace().Refused
	refused(2, "stale vote")
	refused(3, "stale vote")
	wantMetrics(t, m, `fondaco_messages_refused_total{rule="stale vote"} 2`)
	for i := range maxRules + 50 { // an engine that makes up rules
		refused(1, fmt.Sprint("rule ", i))
	}
	wantMetrics(t, m, `fondaco_messages_refused_total{rule="other"} 51`)
}

// The log tells of a root's end once for each of 30, 7 and 1 days before it, and when it has ended.
func TestRoots(t *testing.T) {
	const day = 24 * time.Hour
	var log bytes.Buffer
	left := 31 * day
	root := keys.Digest{7}
	m := New(Config{Log: zerolog.New(&log), Roots: func() []Root {
		return []Root{{Agency: "bank-ca", Root: root, Left: left}, {Agency: "bank-ca", Root: keys.Digest{8}, Left: left + 1_000*day}}
	}})
	wantMetrics(t, m, `fondaco_authority_ends_seconds{agency="bank-ca",root="`+root.String()+`"} 2.6784e+06`)
	for _, step := range []struct {
		left time.Duration
		says string // empty: nothing
	}{
		{31 * day, ""},
		{30 * day, `"days":30`},
		{29 * day, ""},
		{7*day + 1, ""},
		{6 * day, `"days":6`},
		{day, `"days":1`},
		{day / 2, ""},
		{-1, "root of an authority ended"},
		{-5 * day, ""},
	} {
		log.Reset()
		left = step.left
		m.Observe(group.Status{}, nil, 0)
		if got := log.String(); !strings.Contains(got, step.says) || (step.says == "") != (got == "") {
			t.Errorf("with %s left the log says %q, want %q in it", step.left, got, step.says)
		}
	}
}

// The log and the metrics tell of the end of the node's own certificate, as of a root's.
func TestCertificate(t *testing.T) {
	const day = 24 * time.Hour
	var log bytes.Buffer
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	end := time.Time{}
	m := New(Config{
		Log: zerolog.New(&log), Now: func() time.Time { return now }, Certificate: func() time.Time { return end },
		Vouched: func() (int, int) { return 3, 2 },
	})
	m.Observe(group.Status{}, nil, 0)
	if log.Len() > 0 {
		t.Errorf("of a certificate whose end nobody knows the log says %s", &log)
	}
	wantMetrics(t, m, `fondaco_vouched_nodes{verdict="confirmed"} 3`, `fondaco_vouched_nodes{verdict="doubted"} 2`)
	for _, step := range []struct {
		left time.Duration
		says string // empty: nothing
	}{
		{31 * day, ""},
		{30 * day, `"days":30`},
		{29 * day, ""},
		{7 * day, `"days":7`},
		{2 * day, ""},
		{day, `"days":1`},
		{time.Minute, ""},
		{-time.Second, "this node's certificate ended: other nodes refuse it"},
		{-day, ""},
		{400 * day, ""}, // it was replaced
		{20 * day, `"days":20`},
	} {
		log.Reset()
		end = now.Add(step.left)
		m.Observe(group.Status{}, nil, 0)
		if got := log.String(); !strings.Contains(got, step.says) || (step.says == "") != (got == "") {
			t.Errorf("with %s left the log says %q, want %q in it", step.left, got, step.says)
		}
		wantMetrics(t, m, fmt.Sprintf("fondaco_certificate_ends_seconds %v", step.left.Seconds()))
	}
}

// The log and the metrics tell of the end of each listener's certificate.
func TestHTTPS(t *testing.T) {
	const day = 24 * time.Hour
	var log bytes.Buffer
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	api, admin := now, now.Add(400*day)
	m := New(Config{
		Log: zerolog.New(&log), Now: func() time.Time { return now },
		HTTPS: func() []HTTPS { return []HTTPS{{Listener: "api", Ends: api}, {Listener: "admin", Ends: admin}} },
	})
	for _, step := range []struct {
		left time.Duration
		says string // empty: nothing
	}{
		{31 * day, ""},
		{30 * day, `"listener":"api"`},
		{29 * day, ""},
		{7 * day, `"days":7`},
		{day, `"days":1`},
		{-time.Second, "the certificate of a listener ended: clients refuse it"},
		{-day, ""},
		{90 * day, ""}, // it was replaced
	} {
		log.Reset()
		api = now.Add(step.left)
		m.Observe(group.Status{}, nil, 0)
		if got := log.String(); !strings.Contains(got, step.says) || (step.says == "") != (got == "") || strings.Contains(got, "admin") {
			t.Errorf("with %s left the log says %q, want %q in it", step.left, got, step.says)
		}
		wantMetrics(t, m, fmt.Sprintf(`fondaco_https_certificate_ends_seconds{listener="api"} %v`, step.left.Seconds()), `fondaco_https_certificate_ends_seconds{listener="admin"} 3.456e+07`)
	}
}

// The log and the metrics tell of the end of authorities of clients, and of their revocation lists.
func TestClients(t *testing.T) {
	const day = 24 * time.Hour
	var log bytes.Buffer
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clients := login.Clients{
		Authorities: []login.Authority{{Subject: "Bank A CA", Ends: now.Add(31 * day)}},
		Lists:       []login.List{{Issuer: "Bank B CA", Issued: now, Next: now.Add(30 * day)}},
	}
	m := New(Config{
		Log: zerolog.New(&log), Now: func() time.Time { return now },
		HTTPS: func() []HTTPS { return []HTTPS{{Listener: "api", Ends: now.Add(400 * day), Clients: clients}} },
	})
	for _, step := range []struct {
		after time.Duration
		says  []string // a line each
	}{
		{0, nil},
		{2 * day, []string{`"authority":"Bank A CA"`}},
		{day, nil},
		{18 * day, []string{"a revocation list of client certificates is about to be too old"}},
		{5 * day, []string{"an authority of client certificates ends"}},
		{day, []string{"a revocation list of client certificates is about to be too old"}},
		{3*day + time.Hour, []string{"an authority of client certificates ends", "a revocation list of client certificates is too old: all clients of its authority are refused"}},
		{day, []string{"an authority of client certificates ended: its clients are refused"}},
		{day, nil},
	} {
		log.Reset()
		now = now.Add(step.after)
		m.Observe(group.Status{}, nil, 0)
		got := slices.Collect(strings.Lines(log.String()))
		if !slices.EqualFunc(got, step.says, func(line, says string) bool {
			return strings.Contains(line, says) && strings.Contains(line, `"listener":"api"`)
		}) {
			t.Errorf("at %s the log says %q, want %q in its lines", now, got, step.says)
		}
		wantMetrics(t, m, fmt.Sprintf(`fondaco_client_authority_ends_seconds{authority="Bank A CA",listener="api"} %v`, clients.Authorities[0].Ends.Sub(now).Seconds()),
			fmt.Sprintf(`fondaco_client_revocation_list_ends_seconds{issuer="Bank B CA",listener="api"} %v`, clients.Lists[0].Next.Sub(now).Seconds()))
	}
}

// The log tells of a revocation list before its end, in the last tenth of its time, when it is too old, and again when the same happens to the next one.
func TestLists(t *testing.T) {
	var log bytes.Buffer
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	const day, week = 24 * time.Hour, 7 * 24 * time.Hour
	weekly := List{Issuer: "Bank A CA", Issued: now, Next: now.Add(week)}
	yearly := List{Issuer: "Root", Issued: now, Next: now.Add(365 * day)}
	m := New(Config{
		Log: zerolog.New(&log), Now: func() time.Time { return now },
		Certificate: func() time.Time { return time.Time{} }, Lists: func() []List { return []List{weekly, yearly} },
	})
	for _, step := range []struct {
		after time.Duration
		fault string
		says  string // empty: nothing
		left  string
	}{
		{time.Hour, "", "", "601200"},
		{4 * day, "", "", "255600"},
		{day, "since noon: it answered 404 Not Found", `"fault":"since noon: it answered 404 Not Found"`, "169200"},
		{day, "", "", "82800"},
		{12 * time.Hour, "", "about to be too old", "39600"},
		{time.Hour, "", "", "36000"},
		{12 * time.Hour, "", "too old to count", "-7200"},
		{time.Hour, "", "", "-10800"},
		{0, "", "", "604800"},
		{5 * day, "", "about to be too old", "172800"},
	} {
		log.Reset()
		if now = now.Add(step.after); step.after == 0 {
			weekly.Issued, weekly.Next = now, now.Add(week)
		}
		weekly.Fault = step.fault
		m.Observe(group.Status{}, nil, 0)
		got := log.String()
		if !strings.Contains(got, step.says) || (step.says == "") != (got == "") || got != "" && !strings.Contains(got, "Bank A CA") {
			t.Errorf("at %s the log says %q, want %q in it", now, got, step.says)
		}
		fault := "0"
		if step.fault != "" {
			fault = "1"
		}
		wantMetrics(t, m, `fondaco_revocation_list_ends_seconds{issuer="Bank A CA"} `+step.left, `fondaco_revocation_list_fault{issuer="Bank A CA"} `+fault)
	}
}

// TestLead tells how early a list is late.
func TestLead(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for life, want := range map[time.Duration]time.Duration{
		time.Hour: 30 * time.Minute, 24 * time.Hour: 12 * time.Hour, 60 * time.Hour: 24 * time.Hour, 168 * time.Hour: 56 * time.Hour, 0: 0,
	} {
		if got := (List{Issued: now, Next: now.Add(life)}).Lead(); got != want {
			t.Errorf("a list of %s is late %s before its end, want %s", life, got, want)
		}
	}
}

func TestTransactionFlow(t *testing.T) {
	var log bytes.Buffer
	c := newClock()
	m := New(Config{Log: zerolog.New(&log), Now: c.Now})
	trace := m.Trace()
	tx := func(n byte) *ledger.SignedTx { return &ledger.SignedTx{ID: ledger.TxID{n}, Raw: make([]byte, 200)} }
	trace.Admitted(tx(1), true)
	trace.Admitted(tx(2), false)
	trace.Admitted(tx(3), true)
	c.pass(60 * time.Millisecond)
	trace.Finalized(finalBlock(1, keys.Digest{1}, 2), []ledger.Receipt{{Tx: ledger.TxID{1}}, {Tx: ledger.TxID{2}, Index: 1, Status: ledger.OutOfGas}}, nil)
	trace.Dropped(ledger.TxID{3}, mempool.ErrExpired)

	wantMetrics(t, m,
		`fondaco_transactions_admitted_total{from="client"} 2`,
		`fondaco_transactions_admitted_total{from="peer"} 1`,
		`fondaco_transactions_total{status="ok"} 1`,
		`fondaco_transactions_total{status="out_of_gas"} 1`,
		`fondaco_transactions_dropped_total{why="expired"} 1`,
		`fondaco_commit_latency_seconds_count 1`,
		`fondaco_commit_latency_seconds_sum 0.06`,
	)
	for _, want := range []string{
		`"message":"transaction admitted"`, `"after":60,"message":"transaction committed"`, `"status":"out_of_gas"`, `"why":"the transaction has expired"`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log.String())
		}
	}
	t.Run("memory is bounded", func(t *testing.T) {
		for i := range 3 * maxTxs {
			m.txs.put(ledger.TxID{1, byte(i), byte(i >> 8), byte(i >> 16)}, admission{})
		}
		if n := len(m.txs.young) + len(m.txs.old); n > maxTxs {
			t.Errorf("%d transactions are remembered, at most %d", n, maxTxs)
		}
	})
}

func TestHealth(t *testing.T) {
	c := newClock()
	programs := []plugins.Status{{Name: "engine", Healthy: true, Reason: "running"}}
	var pinned uint64
	var log bytes.Buffer
	var unheeded string
	m := New(Config{
		Log: zerolog.New(&log), Unheeded: func() string { return unheeded },
		Now: c.Now, Plugins: func() []plugins.Status { return programs }, Executor: func() executor.Stats { return executor.Stats{Ahead: 7, Again: 2} },
		Checks: []Check{{Name: "disk", Run: func() error { return nil }}}, Pinned: func() uint64 { return pinned },
		Damage: func() (uint64, uint64) { return 3, 5 }, Aside: func() int { return 1 },
	})
	h := m.Handler(nil)
	healthy := group.Status{Engine: true, Number: 0, Epoch: ledger.Epoch{Members: make([]ledger.Member, 4)}}

	want := func(path string, code int, says string) {
		t.Helper()
		if got, text := get(t, h, path); got != code || !strings.Contains(text, says) {
			t.Errorf("%s answers %d, want %d with %q:\n%s", path, got, code, says, text)
		}
	}
	want("/readyz", 503, "not ok  loop: the node is starting\n")
	want("/livez", 503, "the node is starting")
	m.Observe(healthy, nil, 2)
	want("/readyz", 200, "ok      disk\n")
	want("/livez", 200, "ok      loop\n")
	m.Observe(healthy, nil, 1)
	want("/readyz", 503, "not ok  peers: connected to 1 other nodes, but 2 are needed for a quorum of 4 members\n")
	want("/livez", 200, "ok")

	observer := healthy
	observer.Number = -1
	m.Observe(observer, nil, 1)
	want("/readyz", 200, "ok")
	m.Observe(observer, nil, 0)
	want("/readyz", 503, "peers")

	syncing := healthy
	syncing.Syncing, syncing.Head.Order.Height = 90, 40
	m.Observe(syncing, nil, 3)
	want("/readyz", 503, "not ok  sync: fetching blocks: at height 40 of 90, 0 a second\n")

	lacking := healthy
	lacking.Lacking = errors.New("nobody has block 41")
	m.Observe(lacking, nil, 3)
	want("/readyz", 503, "not ok  sync: nobody has block 41\n")

	for _, tt := range []struct {
		pin     uint64
		seconds int
	}{{1, 0}, {1, 5}, {2, 0}, {2, 5}, {0, 0}} {
		pinned = tt.pin
		m.Observe(healthy, nil, 3)
		wantMetrics(t, m, fmt.Sprintf("fondaco_state_pinned_seconds %d", tt.seconds))
		c.pass(5 * time.Second)
	}

	down := healthy
	down.Engine = false
	programs[0] = plugins.Status{Name: "engine", Reason: "it did not answer frame 9 within 2s; starting again within 50ms", Restarts: 3}
	m.Observe(down, nil, 3)
	want("/readyz", 503, "not ok  engine: the consensus engine is down")
	want("/readyz", 503, "not ok  plugin engine: it did not answer frame 9 within 2s")
	wantMetrics(t, m, `fondaco_engine_up 0`, `fondaco_plugin_up{plugin="engine"} 0`, `fondaco_plugin_restarts_total{plugin="engine"} 3`, `fondaco_peers_connected 3`)

	programs[0] = plugins.Status{Name: "ca-x509", Kind: plugins.KindCA, Reason: "it exited"}
	m.Observe(healthy, nil, 3)
	want("/readyz", 200, "spared  plugin ca-x509: it exited\n") // nodes that are known go on, and clients are served

	// The group says which authorities may vouch for nodes, and this node asks nobody: clients are served, and the log tells once.
	said := "the group says which authorities may vouch for nodes, of corfu for one"
	unheeded = "corfu"
	m.Observe(healthy, nil, 3)
	m.Observe(healthy, nil, 3)
	want("/readyz", 200, "spared  authorities: "+said)
	wantMetrics(t, m, `fondaco_authorities_unheeded 1`)
	if n := strings.Count(log.String(), said); n != 1 {
		t.Errorf("the log tells %d times that %s", n, said)
	}
	unheeded = ""
	m.Observe(healthy, nil, 3)
	want("/readyz", 200, "ok      authorities\n")
	wantMetrics(t, m, `fondaco_authorities_unheeded 0`)
	programs[0].Kind = plugins.KindEngine

	stopped := healthy
	stopped.Stopped = errors.New("own block hash differs")
	m.Observe(stopped, nil, 3)
	want("/readyz", 503, "not ok  group: stopped: own block hash differs\n")

	pool := mempool.New(mempool.Limits{MaxWait: 500})
	pool.Admit(350, 1, &ledger.Params{}, 1)
	proposed := &ledger.SignedTx{Tx: ledger.Tx{Expiry: 10}}
	if err := pool.Add(proposed, 1, 100, mempool.Arrival{}); err != nil {
		t.Fatal(err)
	}
	pool.Reserve([]*ledger.SignedTx{proposed})
	m.Observe(healthy, pool, 3)
	m.Observe(healthy, pool, 3) // counters count once
	wantMetrics(t, m, `fondaco_pool_transactions 1`, `fondaco_pool_oldest_seconds 0`, `fondaco_pool_room 500`, `fondaco_pool_wait_seconds 0.25`, `fondaco_transactions_not_admitted_total 100`)
	c.pass(time.Minute)
	want("/livez", 503, "the node has not looked after itself for 1m0s")
	wantMetrics(t, m, `fondaco_members 4`, `fondaco_executed_ahead_total 7`, `fondaco_executed_again_total 2`, `fondaco_blocks_damaged 3`, `fondaco_blocks_healed_total 5`, `fondaco_tables_aside 1`)
	want("/debug/pprof/", 404, "")
}

func TestServe(t *testing.T) {
	m := New(Config{Profile: true})
	l, err := login.Open(login.Config{Name: "admin", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Serve(ctx, l) }()
	response, err := http.Get("http://" + l.Addr().String() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "starting") {
		t.Errorf("/livez answers %d: %s", response.StatusCode, body)
	}
	for _, path := range []string{"/metrics", "/livez", "/readyz", "/debug/pprof/profile?seconds=1", "/nothing"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "evil.example" // as a browser sends it for a page whose name leads here
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s under another host answers %d, want 421", path, response.StatusCode)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A transaction that its sender may not send is counted, and told with who signed it, as fast as a log can bear.
func TestDenied(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1_000, 0)
	suite := keystest.Suite()
	m := New(Config{Log: zerolog.New(&out), Suite: suite, Now: func() time.Time { return now }})
	signer, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tx := ledger.Tx{Version: ledger.Version, Group: "main", Sender: ledger.Address{7}, Expiry: 1, GasLimit: 1, To: ledger.Target{Address: precompiles.AccessAddress}, Method: "grant", Args: []byte{0x80}}
	signed, err := tx.Sign(suite, signer)
	if err != nil {
		t.Fatal(err)
	}
	forged := *signed
	forged.Signatures = slices.Clone(signed.Signatures)
	forged.Signatures[0].Signature = bytes.Repeat([]byte{1}, len(signed.Signatures[0].Signature))
	denied := m.Trace().Denied
	frozen := &precompiles.Error{Status: ledger.Denied, Code: precompiles.DeniedFrozen, Reason: "the account is frozen"}
	lines := func() []string {
		defer out.Reset()
		return strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\n' })
	}

	denied(signed, frozen)
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], tx.Sender.String()) || !strings.Contains(got[0], `"method":"grant"`) || !strings.Contains(got[0], `"why":"Frozen"`) {
		t.Errorf("the log says %q", got)
	}
	denied(&forged, frozen)
	if got := lines(); len(got) != 0 {
		t.Errorf("the log blames an account that signed nothing: %q", got)
	}
	for range 100 {
		denied(signed, frozen)
	}
	if got := lines(); len(got) != maxDenied-2 {
		t.Errorf("%d lines within a second, want %d", len(got), maxDenied-2)
	}
	now = now.Add(time.Second)
	denied(signed, &precompiles.Error{Status: ledger.Aborted, Code: precompiles.AbortSupport, Reason: "not carried"})
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], `"untold":92`) {
		t.Errorf("a second later the log says %q, want how many it has not told", got)
	}
	wantMetrics(t, m, `fondaco_transactions_denied_total{why="Frozen"} 102`, `fondaco_transactions_denied_total{why="other"} 1`)
}
