package group

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fondaco/fondaco/state/identity"
)

// Network is what a Loop needs of the transport.
type Network interface {
	Send(to identity.NodeID, p Protocol, m []byte)
	Request(ctx context.Context, to identity.NodeID, p Protocol, m []byte) ([]byte, error)
}

const (
	// mailbox bounds the callbacks that wait for the loop; strangers' messages are dropped when it is full.
	mailbox = 8_192
	// requestPatience bounds how long a peer may take to answer, unless it is asked for blocks: the largest, 32 MiB, take
	// two minutes over a line of 2 Mbit/s, and whoever waits knows what else to do meanwhile.
	requestPatience = 5 * time.Second
	blocksPatience  = 2 * time.Minute
	storedPatience  = 30 * time.Second
	// run bounds how many callbacks are handled before the engine gets to see what they brought.
	run = 256
)

// Loop is the Env of a real node: the system's clock, goroutines and a Network, and one goroutine that runs all
// callbacks. Use it as: New with the Loop as Env, inside Do; then Run.
type Loop struct {
	// ClockOffset is added to the system's clock, for tests of what a wrong clock does. It is set before use.
	ClockOffset time.Duration

	net   Network
	calls chan func()
	done  chan struct{}
	work  sync.WaitGroup
}

// NewLoop returns a loop that sends over net.
func NewLoop(net Network) *Loop {
	return &Loop{net: net, calls: make(chan func(), mailbox), done: make(chan struct{})}
}

// Run runs callbacks, and drain after each run of them, until ctx ends; then it waits for workers to finish.
func (l *Loop) Run(ctx context.Context, drain func()) {
	defer l.work.Wait()
	defer close(l.done)
	drain()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-l.calls:
			f()
			for n := 1; n < run; n++ {
				select {
				case f := <-l.calls:
					f()
					continue
				default:
				}
				break
			}
			drain()
		}
	}
}

// Now implements Env.
func (l *Loop) Now() int64 { return time.Now().Add(l.ClockOffset).UnixMilli() }

// After implements Env.
func (l *Loop) After(milli int64, f func()) (cancel func()) {
	cancelled := false // only touched on the loop
	timer := time.AfterFunc(time.Duration(milli)*time.Millisecond, func() {
		l.Post(func() {
			if !cancelled {
				cancelled = true
				f()
			}
		})
	})
	return func() {
		cancelled = true
		timer.Stop()
	}
}

// Go implements Env. A panic in work is a fault of this node and ends it with its stack.
func (l *Loop) Go(work func() (then func())) {
	l.work.Go(func() { l.Post(work()) })
}

// Post implements Env. It waits while the mailbox is full.
func (l *Loop) Post(f func()) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	select {
	case l.calls <- f:
		return true
	case <-l.done:
		return false
	}
}

// Offer is Post for what a stranger sent: it drops f when the mailbox is three quarters full.
func (l *Loop) Offer(f func()) bool {
	if len(l.calls) > mailbox*3/4 {
		return false
	}
	return l.Post(f)
}

// Send implements Env.
func (l *Loop) Send(to identity.NodeID, p Protocol, m []byte) { l.net.Send(to, p, m) }

// Request implements Env.
func (l *Loop) Request(to identity.NodeID, p Protocol, m []byte, then func(reply []byte, err error)) {
	l.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience(p))
		defer cancel()
		reply, err := l.net.Request(ctx, to, p, m)
		l.Post(func() { then(reply, err) })
	})
}

// patience returns how long an answer may take.
func patience(p Protocol) time.Duration {
	switch p {
	case Blocks, States:
		return blocksPatience
	case Stored:
		return storedPatience
	default:
		return requestPatience
	}
}

// Call runs f on the loop and waits for it.
func (l *Loop) Call(ctx context.Context, f func()) error {
	finished := make(chan struct{})
	if !l.Post(func() { defer close(finished); f() }) {
		return ErrStopped
	}
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the group's loop: %w", ctx.Err())
	case <-l.done:
		return ErrStopped
	}
}
