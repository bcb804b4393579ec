package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fondaco/fondaco/testnet/network"
)

// TestUnread has clients of nodes under load ask for a backup, for a package of statements and for all events, and read nothing of what they
// get. Blocks go on, no state stays pinned for it, the tables do not grow with what nobody reads, and when the clients are gone others are served.
func TestUnread(t *testing.T) {
	if !*long {
		t.Skip("holds answers of nodes under load for half a minute: run with -long")
	}
	const (
		warmup = 8 * time.Second
		hold   = 30 * time.Second
	)
	n := startNodes(t, 4, "pbft")
	loaded := make(chan error, 1)
	go func() {
		out, diagnostics, code := testnet(t, "bench", "-d", n.Dir, "--accounts", "500", "--rate", "500",
			"--warmup", warmup.String(), "--duration", (hold + 2*time.Second).String(), "-o", "json")
		var b Bench
		err := json.Unmarshal([]byte(out), &b)
		if code != 0 {
			err = errors.Join(fmt.Errorf("bench: exit %d\n%s%s", code, out, diagnostics), err)
		}
		t.Logf("%d transfers in %d blocks, %d view changes, p50 %.0f ms, p95 %.0f ms", b.Committed, b.Blocks, b.Views, b.P50, b.P95)
		loaded <- err
	}()
	api := apiOf(t, &n.Nodes[3])
	begun := statusOf(t, api).Height
	eventually(t, "there is something to read", func() bool { return statusOf(t, api).Height >= begun+100 })
	held := []struct {
		node *network.Node
		path string
		conn net.Conn
	}{{node: &n.Nodes[0], path: "/v1/backup"}, {node: &n.Nodes[0], path: "/v1/events?from=0"}, {node: &n.Nodes[1], path: "/v1/consensus"}, {node: &n.Nodes[2], path: "/v1/events/blocks?from=0"}}
	for i := range held {
		held[i].conn = unread(t, held[i].node, held[i].path)
		defer held[i].conn.Close() //nolint:errcheck // a test's
	}
	tables := func() (size int64) {
		for i := range n.Nodes {
			info, err := os.Stat(filepath.Join(n.Nodes[i].Dir, "data", "main", "state.db"))
			if err != nil {
				t.Fatal(err)
			}
			size = max(size, info.Size())
		}
		return size
	}
	before, height := tables(), statusOf(t, api).Height
	for range 3 { // parts of it
		time.Sleep(hold / 3)
		now := statusOf(t, api).Height
		if now == height {
			t.Errorf("no block in %v", hold/3)
		}
		height = now
		for _, h := range [2]int{0, 2} { // else nothing is held
			if status := statusFor(t, held[h].node, held[h].path); status != http.StatusServiceUnavailable {
				t.Errorf("%s while one is being written that nobody reads: status %d", held[h].path, status)
			}
		}
	}
	after := tables()
	t.Logf("the largest state table had %d bytes before, and %d after", before, after)
	if after > 2*before+8<<20 {
		t.Errorf("the state table grew from %d to %d bytes", before, after)
	}
	for i := range n.Nodes {
		if seconds := gauge(t, &n.Nodes[i], "fondaco_state_pinned_seconds"); seconds != 0 {
			t.Errorf("%s has a state pinned for %v s", n.Nodes[i].Name, seconds)
		}
	}
	for _, h := range held {
		if err := h.conn.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "others are served", func() bool {
		return statusFor(t, held[0].node, held[0].path) == http.StatusOK && statusFor(t, held[2].node, held[2].path) == http.StatusOK
	})
	if err := <-loaded; err != nil {
		t.Error(err)
	}
}

// unread asks a node for something and takes what comes first of the answer, and no more.
func unread(t *testing.T, node *network.Node, path string) net.Conn {
	t.Helper()
	host := strings.TrimPrefix(node.API, "http://")
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { // so that the node's system takes little that is not read
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536), syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10))
		}), err)
	}}
	conn, err := small.DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	if err != nil || !strings.Contains(line, " 200 ") {
		t.Fatalf("%s: %q, %v", path, line, err)
	}
	return conn
}

// statusFor asks a node for something, and reads nothing of it.
func statusFor(t *testing.T, node *network.Node, path string) int {
	t.Helper()
	response, err := http.Get(node.API + path)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}

// gauge returns the value of a metric of one series.
func gauge(t *testing.T, node *network.Node, name string) float64 {
	t.Helper()
	response, err := http.Get(node.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // a test's
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		series, text, _ := strings.Cut(lines.Text(), " ")
		if series, _, _ = strings.Cut(series, "{"); series == name {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("%s has no metric %s", node.Name, name)
	return 0
}
