package transport

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// cpu returns the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u) //nolint:errcheck // never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, start time.Duration) {
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkEcho sends a vote-sized message and its echo over the consensus connection; both ends are in this
// process.
func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{220, 16 << 10, 200 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			c := newChain(b, 2).onLoopback()
			back := make(chan struct{}, 1)
			x := c.start(0, func(e *Endpoint) { e.Handle(Consensus, func(identity.NodeID, []byte) { back <- struct{}{} }) })
			y := c.start(1, func(e *Endpoint) {
				e.Handle(Consensus, func(from identity.NodeID, m []byte) { e.Send(from, Consensus, m) })
			})
			connected(b, x, y)
			m := make([]byte, size)
			start := cpu()
			for b.Loop() {
				if err := x.Send(y.Self(), Consensus, m); err != nil {
					b.Fatal(err)
				}
				<-back
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkGossip pushes transactions of 250 bytes, and batches of them, one way.
func BenchmarkGossip(b *testing.B) {
	for _, size := range []int{250, 16 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			c := newChain(b, 2).onLoopback()
			arrived := make(chan struct{}, 1<<16)
			x := c.start(0, nil)
			y := c.start(1, func(e *Endpoint) { e.Handle(TxGossip, func(identity.NodeID, []byte) { arrived <- struct{}{} }) })
			connected(b, x, y)
			m := make([]byte, size)
			b.SetBytes(int64(size))
			start := cpu()
			const window = 1024
			sent, got := 0, 0
			for b.Loop() {
				if sent-got >= window {
					<-arrived
					got++
				}
				if err := x.Send(y.Self(), TxGossip, m); err != nil {
					b.Fatal(err)
				}
				sent++
			}
			for ; got < sent; got++ {
				<-arrived
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkRequest asks for small and large responses on the bulk connection.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{200, 8 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			c := newChain(b, 2).onLoopback()
			response := make([]byte, size)
			x := c.start(0, nil)
			y := c.start(1, func(e *Endpoint) {
				e.HandleRequest(BlockSync, func(context.Context, identity.NodeID, []byte) ([]byte, error) { return response, nil })
			})
			connected(b, x, y)
			b.SetBytes(int64(size))
			start := cpu()
			for b.Loop() {
				if _, err := x.Request(b.Context(), y.Self(), BlockSync, []byte("range")); err != nil {
					b.Fatal(err)
				}
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkConnect measures from New to both connections being up, on both sides, with proofs of identity under either suite, and with keys
// of the inner layer agreed on.
func BenchmarkConnect(b *testing.B) {
	for _, s := range []struct {
		name  string
		chain func() *chain
	}{
		{"std", func() *chain { return newChainOf(b, keys.Std(), 2) }},
		{"gm", func() *chain { return newChainOf(b, keys.GM(), 2) }},
		{"gm with the inner layer", func() *chain { return sealing(b, 2) }},
	} {
		b.Run(s.name, func(b *testing.B) {
			c := s.chain().onLoopback()
			y := c.start(1, nil)
			start := cpu()
			for b.Loop() {
				x := c.start(0, nil)
				connected(b, x, y)
				x.stop()
				eventually(b, "it is gone", func() bool { return !y.sees(x.Self()) })
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkIdle reports how much of a core four connected nodes use together when nothing is sent.
func BenchmarkIdle(b *testing.B) {
	c := newChain(b, 4).onLoopback()
	var members []*member
	for i := range 4 {
		members = append(members, c.start(i, nil))
	}
	connected(b, members...)
	time.Sleep(time.Second)
	for b.Loop() {
		start, began := cpu(), time.Now()
		time.Sleep(10 * time.Second)
		b.ReportMetric(100*(cpu()-start).Seconds()/time.Since(began).Seconds(), "%core")
	}
}
