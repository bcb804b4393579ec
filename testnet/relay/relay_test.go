package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fondaco/fondaco/transport/simnet"
)

// bench is a relay between sockets of the test, one for each node.
type bench struct {
	*testing.T
	relay *Relay
	nodes []*net.UDPConn

	mu   sync.Mutex  // guards came
	came [][]arrival // by node
}

type arrival struct {
	from netip.AddrPort
	text string
}

func newBench(t *testing.T, nodes int, seed uint64) *bench {
	t.Helper()
	b := &bench{T: t, came: make([][]arrival, nodes)}
	config := Config{Seed: seed}
	var doors []*net.UDPConn
	for range nodes {
		n, door := listen(t), listen(t)
		b.nodes, doors = append(b.nodes, n), append(doors, door)
		config.Nodes = append(config.Nodes, Node{Listen: address(n), Door: address(door)})
	}
	for _, door := range doors { // the relay takes the free ports over
		door.Close() //nolint:errcheck // a test's
	}
	var err error
	if b.relay, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if err := b.relay.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for i, n := range b.nodes {
		tasks.Go(func() {
			buffer := make([]byte, maxPacket)
			for {
				size, from, err := n.ReadFromUDPAddrPort(buffer)
				if err != nil {
					return
				}
				b.mu.Lock()
				b.came[i] = append(b.came[i], arrival{from, string(buffer[:size])})
				b.mu.Unlock()
			}
		})
	}
	t.Cleanup(func() {
		stop()
		for _, n := range b.nodes {
			n.Close() //nolint:errcheck // a test's
		}
		tasks.Wait()
	})
	return b
}

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func address(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func (b *bench) arrived(node int) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	texts := make([]string, len(b.came[node]))
	for i, a := range b.came[node] {
		texts[i] = a.text
	}
	return texts
}

func (b *bench) send(from, to int, text string) {
	b.Helper()
	if _, err := b.nodes[from].WriteToUDPAddrPort([]byte(text), b.relay.nodes[to].Door); err != nil {
		b.Fatal(err)
	}
}

// burst sends numbered packets of a size and waits until the relay has taken them, and delivered what it will.
// It goes on only when what was delivered has been read, so no socket's buffer overflows.
func (b *bench) burst(from, to, count, size int) {
	b.Helper()
	const most = 100 // under way: a socket has room for some 250, and who reads from it may have to wait for a processor
	before := b.relay.Stats(from, to).Sent
	for i := range count {
		text := []byte(strings.Repeat(".", size))
		copy(text, []byte{byte('0' + i/1000), byte('0' + i/100%10), byte('0' + i/10%10), byte('0' + i%10)})
		b.send(from, to, string(text))
		if i%50 == 49 || i == count-1 {
			b.until("the relay has taken the packets", func() bool {
				return b.relay.Stats(from, to).Sent == before+uint64(i)+1 && b.underway(from, to) <= most
			})
		}
	}
	b.until("what waited has arrived", func() bool { return b.underway(from, to) == 0 })
}

// underway is how many packets are still to arrive.
func (b *bench) underway(from, to int) int {
	s := b.relay.Stats(from, to)
	return int(s.Sent-s.Lost-s.Cut-s.Overflowed+s.Duplicated) - len(b.arrived(to))
}

func (b *bench) until(what string, done func() bool) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("a minute passed, and still not: %s; %+v", what, b.relay.Stats(-1, -1))
		}
	}
}

func TestConditions(t *testing.T) {
	for _, test := range []struct {
		conditions  string
		count, size int
		ok          func(arrived []string, s simnet.Stats) bool
	}{
		{"clean", 500, 8, func(a []string, s simnet.Stats) bool {
			return len(a) == 500 && slices.IsSorted(a) && s.Lost+s.Duplicated+s.Reordered == 0
		}},
		{"loss=10%", 1000, 8, func(a []string, s simnet.Stats) bool {
			return s.Lost > 60 && s.Lost < 140 && uint64(len(a)) == 1000-s.Lost && slices.IsSorted(a)
		}},
		{"duplicate=10%,delay=1ms", 1000, 8, func(a []string, s simnet.Stats) bool {
			return s.Duplicated > 60 && s.Duplicated < 140 && uint64(len(a)) == 1000+s.Duplicated
		}},
		{"delay=5ms,jitter=5ms", 500, 8, func(a []string, s simnet.Stats) bool {
			return len(a) == 500 && slices.IsSorted(a)
		}},
		{"delay=5ms,jitter=5ms,reorder=20%", 500, 8, func(a []string, s simnet.Stats) bool {
			return len(a) == 500 && !slices.IsSorted(a) && s.Reordered > 60 && s.Reordered < 140
		}},
		// A tenth of a second for each packet, and at most a fifth of a second may wait.
		{"bandwidth=10000", 100, 1000, func(a []string, s simnet.Stats) bool {
			return len(a) >= 3 && len(a) < 50 && s.Overflowed > 50
		}},
	} {
		t.Run(test.conditions, func(t *testing.T) {
			t.Parallel()
			var twice [2][]string
			for i := range twice {
				b := newBench(t, 2, 7)
				c, err := ParseConditions(test.conditions)
				if err != nil {
					t.Fatal(err)
				}
				b.relay.SetConditions(0, 1, c)
				b.burst(0, 1, test.count, test.size)
				twice[i] = b.arrived(1)
				if !test.ok(twice[i], b.relay.Stats(0, 1)) {
					t.Errorf("%d packets arrived, sorted %t: %+v", len(twice[i]), slices.IsSorted(twice[i]), b.relay.Stats(0, 1))
				}
				b.burst(1, 0, 100, 8) // the other direction has none
				if back := b.arrived(0); len(back) != 100 || !slices.IsSorted(back) {
					t.Errorf("%d packets of 100 came back", len(back))
				}
			}
			slices.Sort(twice[0])
			slices.Sort(twice[1])
			if c, _ := ParseConditions(test.conditions); c.Bandwidth == 0 && !slices.Equal(twice[0], twice[1]) {
				t.Error("the same seed lost and doubled other packets")
			}
		})
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3, 1)
	b.relay.SetConditions(0, 1, simnet.Conditions{Latency: 700 * time.Millisecond})
	b.send(0, 1, "late")
	b.send(0, 2, "early")
	b.until("the packet of the other link arrives", func() bool { return len(b.arrived(2)) == 1 })
	if len(b.arrived(1)) != 0 {
		t.Error("the packet that was sent first, over the slow link, overtook the other")
	}
	b.until("the late packet arrives", func() bool { return len(b.arrived(1)) == 1 })
}

func TestDoors(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3, 1)
	b.send(0, 1, "question")
	b.until("it arrives", func() bool { return len(b.arrived(1)) == 1 })
	if from := b.came[1][0].from; from != b.relay.nodes[0].Door {
		t.Fatalf("node 1 sees node 0 at %s, and not at its door %s", from, b.relay.nodes[0].Door)
	}
	if _, err := b.nodes[1].WriteToUDPAddrPort([]byte("answer"), b.came[1][0].from); err != nil {
		t.Fatal(err)
	}
	b.until("the answer arrives", func() bool { return len(b.arrived(0)) == 1 })
	stranger := listen(t)
	defer stranger.Close() //nolint:errcheck // a test's
	if _, err := stranger.WriteToUDPAddrPort([]byte("hello"), b.relay.nodes[2].Door); err != nil {
		t.Fatal(err)
	}
	b.burst(0, 2, 10, 8)
	if slices.Contains(b.arrived(2), "hello") {
		t.Error("a stranger's packet was carried")
	}
	if _, err := New(Config{Nodes: []Node{{netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("127.0.0.1:0")}}}); err == nil {
		t.Error("an address that is not on loopback was taken")
	}
}

// TestScript cuts and heals as a script says, and counts what gets through.
func TestScript(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, 1)
	for _, step := range []struct {
		change string
		cut    [][2]int // pairs that hear nothing, of those below
	}{
		{"split 0,1|2,3", [][2]int{{0, 2}, {2, 0}, {1, 3}, {3, 0}, {2, 1}}},
		{"heal", nil},
		{"cut 2>*", [][2]int{{2, 0}, {2, 1}, {2, 3}}},
		{"cut *>0", [][2]int{{2, 0}, {2, 1}, {2, 3}, {1, 0}, {3, 0}}},
		{"heal", nil},
		{"0>2 loss=100%", [][2]int{{0, 2}}},
		{"all clean", nil},
		{"split 0", [][2]int{{0, 2}, {2, 0}, {3, 0}, {1, 0}}},
	} {
		script, err := ParseScript(strings.NewReader("\n# nothing\n0s "+step.change+" # now\n"), 4)
		if err != nil || len(script) != 1 {
			t.Fatalf("%q: %d changes, %v", step.change, len(script), err)
		}
		b.relay.Play(t.Context(), script, nil)
		for _, pair := range [][2]int{{0, 2}, {2, 0}, {1, 3}, {3, 0}, {2, 1}, {2, 3}, {1, 0}} {
			before := b.relay.Stats(pair[0], pair[1])
			b.send(pair[0], pair[1], "x")
			var after simnet.Stats
			b.until("the packet is dealt with", func() bool {
				after = b.relay.Stats(pair[0], pair[1])
				return after.Delivered+after.Cut+after.Lost > before.Delivered+before.Cut+before.Lost
			})
			if got, want := after.Delivered == before.Delivered, slices.Contains(step.cut, pair); got != want {
				t.Errorf("after %q, packets from %d to %d are cut: %t, want %t", step.change, pair[0], pair[1], got, want)
			}
		}
	}
	for _, bad := range []string{
		"soon heal", "1s", "1s mend", "1s cut 0", "1s cut 0>9", "1s split 0,x|1", "1s all loss=2", "1s all loss=101%", "1s all speed=3",
		"1s 0>1 delay=1ms,jitter=2ms", "1s all delay=2h", "2s heal\n1s heal", "1s all bandwidth=-1", "1s all loss=NaN",
	} {
		if _, err := ParseScript(strings.NewReader(bad), 4); !errors.Is(err, ErrScript) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestQueueBound: a link holds no more than it may.
func TestQueueBound(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, 1)
	b.relay.SetConditions(-1, -1, simnet.Conditions{Latency: time.Hour})
	data := make([]byte, 8)
	for range maxQueued + 100 {
		b.relay.take(0, 1, data)
	}
	if s := b.relay.Stats(0, 1); s.Overflowed != 100 || len(b.relay.queue.all) != maxQueued {
		t.Errorf("%d packets wait, %d overflowed, want %d and 100", len(b.relay.queue.all), s.Overflowed, maxQueued)
	}
}
