package login

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// from is an address that a connection comes from.
type from string

func (from) Network() string  { return "tcp" }
func (f from) String() string { return string(f) }

// line is one end of a connection in memory.
type line struct {
	net.Conn
	from from
}

func (l *line) RemoteAddr() net.Addr { return l.from }

// street is a listener in memory.
type street chan net.Conn

func (s street) Accept() (net.Conn, error) {
	if c, ok := <-s; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (s street) Close() error   { close(s); return nil }
func (s street) Addr() net.Addr { return from("203.0.113.1:443") }

// come makes a connection from an address.
func (s street) come(address string) net.Conn {
	theirs, ours := net.Pipe()
	s <- &line{ours, from(address)}
	return theirs
}

// ended reads until the other side ends the connection, and returns how long that took.
func ended(c net.Conn) time.Duration {
	began := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(began)
}

// TestConnections counts connections, of strangers and of others.
func TestConnections(t *testing.T) {
	var c connections
	enter := func(address string, stranger bool) (*conn, error) {
		_, ours := net.Pipe()
		return c.enter(&line{ours, from(address)}, stranger)
	}
	var one []*conn
	for range MaxStrangersOfOne {
		k, err := enter("203.0.113.7:1", true)
		if err != nil {
			t.Fatal(err)
		}
		one = append(one, k)
	}
	if _, err := enter("203.0.113.7:2", true); err == nil {
		t.Error("an address has more strangers than it may")
	}
	one[0].recognize()
	one[0].recognize() // changes nothing
	if _, err := enter("203.0.113.7:3", true); err != nil {
		t.Errorf("who has shown who he is takes the room of strangers: %v", err)
	}
	for i := range 1 << 16 { // a network of addresses counts as one
		if _, err := enter(fmt.Sprintf("[2001:db8::%x]:1", i), true); err != nil {
			if i != MaxStrangersOfOne {
				t.Errorf("%d strangers from one network, want %d", i, MaxStrangersOfOne)
			}
			break
		}
	}
	n := c.strangers
	for i := 0; c.strangers < MaxStrangers; i++ {
		if _, err := enter(fmt.Sprintf("198.51.%d.%d:1", i/250, i%250), true); err != nil {
			t.Fatalf("after %d: %v", n+i, err)
		}
	}
	if _, err := enter("192.0.2.1:1", true); err == nil {
		t.Error("there are more strangers than there may be")
	}
	for c.all < MaxConnections {
		if _, err := enter("127.0.0.1:1", false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := enter("127.0.0.1:1", false); err == nil {
		t.Error("there are more connections than there may be")
	}
	for _, k := range one {
		k.Close()
		k.Close() // changes nothing
	}
	if c.all != MaxConnections-MaxStrangersOfOne || c.from[one[0].from] != 1 || c.strangers != MaxStrangers-MaxStrangersOfOne+1 {
		t.Errorf("after closing: %d connections, %d strangers, %d from the address", c.all, c.strangers, c.from[one[0].from])
	}
}

// TestSlow has clients that say nothing, or say it slowly, in virtual time.
func TestSlow(t *testing.T) {
	pair := testPair(t)
	synctest.Test(t, func(t *testing.T) {
		road := make(street)
		counted := map[Reason]int{}
		g := &Gate{
			Listener: road, trouble: map[string]string{}, tls: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}},
			config: Config{Name: "api", Log: zerolog.Nop(), Now: time.Now, Refused: func(r Reason) { counted[r]++ }},
		}
		server := &http.Server{Handler: g.Require(Read, http.NotFoundHandler()), ReadTimeout: 30 * time.Second}
		g.Prepare(server)
		over := make(chan error, 1)
		go func() { over <- server.Serve(g) }()
		shake := func() *tls.Conn {
			c := tls.Client(road.come("203.0.113.9:1"), &tls.Config{InsecureSkipVerify: true})
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			return c
		}

		if took := ended(road.come("203.0.113.9:1")); took > headWithin {
			t.Errorf("a connection without a handshake lasts %s", took)
		}
		c := shake()
		if took := ended(c); took > headWithin {
			t.Errorf("a connection without a request lasts %s", took)
		}
		c = shake()
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n\r\n."); err != nil {
			t.Fatal(err)
		}
		if took := ended(c); took > headWithin {
			t.Errorf("a stranger who was refused goes on with his body for %s", took)
		}
		dribble := shake()
		go func() {
			for _, b := range []byte("GET / HTTP/1.1\r\nHost: node\r\nX-Slow: " + strings.Repeat("x", 1000)) {
				if _, err := dribble.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if took := ended(dribble); took > 2*headWithin {
			t.Errorf("a request that comes a byte a second lasts %s", took)
		}
		c = shake()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: node\r\nConnection: keep-alive\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if took := ended(c); took > headWithin {
			t.Errorf("a stranger who was refused keeps his connection for %s", took)
		}
		endless := shake()
		go io.WriteString(endless, "GET / HTTP/1.1\r\nHost: node\r\nX-Long: "+strings.Repeat("x", 40<<10)) //nolint:errcheck // it is cut off
		if took := ended(endless); took > 2*headWithin {
			t.Errorf("a head without end lasts %s", took)
		}
		if counted[Handshake] != 1 || counted[NoCredential] != 2 {
			t.Errorf("refused by reason: %v", counted)
		}
		time.Sleep(time.Minute) // the server closes some connections a little later
		synctest.Wait()
		g.count.mu.Lock()
		if g.count.all != 0 || g.count.strangers != 0 || len(g.count.from) != 0 {
			t.Errorf("%d connections are counted still", g.count.all)
		}
		g.count.mu.Unlock()
		server.Close()
		<-over
	})
}

// FuzzTokens reads files of tokens: what is taken, is written and read again as the same.
func FuzzTokens(f *testing.F) {
	hash := "sha256:" + strings.Repeat("0f", 32)
	f.Add([]byte(hash + " a reader,auditor 2027-01-31T12:00:00Z\n# b\n"))
	f.Add([]byte(hash + "\ta operator 0000-01-01T00:00:00+23:59"))
	f.Add([]byte("sha256: a reader 2027-01-31T12:00:00.5Z"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseTokens(data)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "tokens")
		if err := WriteTokens(path, all); err != nil {
			t.Fatalf("%v is taken, and not written: %v", all, err)
		}
		again, err := ReadTokens(path)
		if err != nil || len(again) != len(all) {
			t.Fatalf("%v is read as %v, %v", all, again, err)
		}
		for i := range all {
			a, b := &all[i], &again[i]
			if a.Hash != b.Hash || a.Name != b.Name || !slices.Equal(a.Roles, b.Roles) || !a.Expires.Truncate(time.Second).Equal(b.Expires) {
				t.Fatalf("%v is read as %v", a, b)
			}
		}
	})
}

// TestQuiet has a stranger who is refused ten thousand times in ten seconds.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counted, lines := 0, lineCount{}
		g := &Gate{config: Config{Name: "api", Log: zerolog.New(&lines), Now: time.Now, Refused: func(Reason) { counted++ }}}
		for range 10_000 {
			g.refuse(BadToken, "203.0.113.9:1", io.EOF)
			time.Sleep(time.Millisecond)
		}
		if counted != 10_000 || lines.n > 11 {
			t.Errorf("%d refusals are counted and %d logged, want all and one a second", counted, lines.n)
		}
	})
}

type lineCount struct{ n int }

func (l *lineCount) Write(p []byte) (int, error) {
	l.n++
	return len(p), nil
}
