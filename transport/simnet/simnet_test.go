package simnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func listen(t *testing.T, n *Network, addr string) *Conn {
	t.Helper()
	c, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run sends count packets, one each millisecond, and returns what arrived and when.
func run(t *testing.T, seed uint64, c Conditions, count int) (arrived []string, stats Stats) {
	t.Helper()
	n := New(seed)
	n.SetConditions(c)
	a, b := listen(t, n, "10.0.0.1:1"), listen(t, n, "10.0.0.2:1")
	start := time.Now()
	for i := range count {
		if _, err := a.WriteTo(fmt.Append(nil, i), b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	b.SetReadDeadline(time.Now().Add(time.Second))
	buffer := make([]byte, 100)
	for {
		size, from, err := b.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil || from.String() != "10.0.0.1:1" {
			t.Fatalf("ReadFrom = %v, %v", from, err)
		}
		arrived = append(arrived, string(buffer[:size]))
	}
	if took := time.Since(start); took < time.Duration(count)*time.Millisecond+time.Second {
		t.Errorf("the deadline came after %v", took)
	}
	return arrived, n.Stats()
}

func TestConditions(t *testing.T) {
	for _, test := range []struct {
		name string
		c    Conditions
		ok   func(arrived []string, s Stats) bool
	}{
		{"a perfect network", Conditions{}, func(a []string, s Stats) bool { return len(a) == 1000 && s.Delivered == 1000 }},
		{"jitter alone keeps the order", Conditions{Latency: 10 * time.Millisecond, Jitter: 30 * time.Millisecond}, func(a []string, s Stats) bool {
			for i, m := range a {
				if m != fmt.Sprint(i) {
					return false
				}
			}
			return len(a) == 1000
		}},
		{"loss", Conditions{Loss: 0.1}, func(a []string, s Stats) bool { return s.Lost > 70 && s.Lost < 130 && len(a) == 1000-int(s.Lost) }},
		{"duplicates", Conditions{Latency: time.Millisecond, Duplicate: 0.1}, func(a []string, s Stats) bool {
			return s.Duplicated > 70 && s.Duplicated < 130 && len(a) == 1000+int(s.Duplicated)
		}},
		{"reordering", Conditions{Latency: 10 * time.Millisecond, Reorder: 0.1}, func(a []string, s Stats) bool {
			late := 0
			for i := 1; i < len(a); i++ {
				var x, y int
				fmt.Sscan(a[i-1], &x)
				fmt.Sscan(a[i], &y)
				if y < x {
					late++
				}
			}
			return len(a) == 1000 && s.Reordered > 70 && late > 30
		}},
		{"bandwidth: what waits too long is lost", Conditions{Bandwidth: 1000}, func(a []string, s Stats) bool {
			return s.Overflowed > 0 && len(a) == 1000-int(s.Overflowed)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				arrived, stats := run(t, 1, test.c, 1000)
				if !test.ok(arrived, stats) {
					t.Errorf("%d packets arrived; %+v", len(arrived), stats)
				}
				again, _ := run(t, 1, test.c, 1000)
				if !slices.Equal(arrived, again) {
					t.Error("the same seed gave another result")
				}
			})
		})
	}
}

func TestPartitionAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetLink("10.0.0.1:1", "10.0.0.2:1", Conditions{Latency: time.Second})
		a, b := listen(t, n, "10.0.0.1:1"), listen(t, n, "10.0.0.2:1")
		if _, err := n.Listen("10.0.0.1:1"); err == nil {
			t.Error("an address was given twice")
		}
		receive := func(c *Conn) error {
			c.SetReadDeadline(time.Now().Add(2 * time.Second))
			_, _, err := c.ReadFrom(make([]byte, 10))
			return err
		}
		a.WriteTo([]byte("under way"), b.LocalAddr())
		n.Partition([]string{"10.0.0.1:1"})
		a.WriteTo([]byte("cut"), b.LocalAddr())
		start := time.Now()
		if err := receive(b); err != nil || time.Since(start) != time.Second {
			t.Errorf("a packet under way: %v after %v, want 1s", err, time.Since(start))
		}
		if err := receive(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("across the cut: %v", err)
		}
		n.Partition()
		b.WriteTo([]byte("back"), a.LocalAddr())
		start = time.Now()
		if err := receive(a); err != nil || time.Since(start) != 0 {
			t.Errorf("the other direction: %v after %v, want 0s", err, time.Since(start))
		}
		a.SetReadDeadline(time.Time{})
		result := make(chan error)
		go func() { _, _, err := a.ReadFrom(make([]byte, 10)); result <- err }()
		synctest.Wait()
		a.SetReadDeadline(time.Now()) // interrupts, as quic-go does to stop reading
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an interrupted read: %v", err)
		}
		a.SetReadDeadline(time.Time{})
		go func() { _, _, err := a.ReadFrom(make([]byte, 10)); result <- err }()
		synctest.Wait()
		a.Close()
		if err := <-result; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a read when it is closed: %v", err)
		}
		if _, err := a.WriteTo(nil, b.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write after that: %v", err)
		}
		listen(t, n, "10.0.0.1:1")
	})
}
