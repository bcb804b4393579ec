package group

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/fondaco/fondaco/state/identity"
)

// echo is a network whose peers answer with the request.
type echo struct{}

func (echo) Send(identity.NodeID, Protocol, []byte) {}
func (echo) Request(_ context.Context, _ identity.NodeID, _ Protocol, m []byte) ([]byte, error) {
	return m, nil
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		loop := NewLoop(echo{})
		var count, drained int // only touched on the loop: the race detector sees it otherwise
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			loop.Run(ctx, func() { drained++ })
		}()
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				for range 100 {
					if err := loop.Call(ctx, func() { count++ }); err != nil {
						t.Error(err)
					}
					loop.Offer(func() { count++ })
				}
			})
		}
		calls.Wait()
		fired := make(chan string, 4)
		if err := loop.Call(ctx, func() {
			cancel := loop.After(10, func() { fired <- "cancelled timer" })
			loop.After(5, func() { fired <- "timer"; cancel() })
			loop.Go(func() func() { return func() { fired <- "work" } })
			loop.Request(identity.NodeID{}, Blocks, []byte("reply"), func(m []byte, err error) { fired <- string(m) })
		}); err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{<-fired: true, <-fired: true, <-fired: true}
		if !got["timer"] || !got["work"] || !got["reply"] {
			t.Errorf("ran %v, want timer, work and reply", got)
		}
		synctest.Wait()
		if err := loop.Call(ctx, func() {
			if count != 1_600 || drained == 0 {
				t.Errorf("%d callbacks ran and %d drains, want 1600 and some", count, drained)
			}
		}); err != nil {
			t.Fatal(err)
		}
		stop()
		<-ended
		if loop.Post(func() {}) || loop.Offer(func() {}) {
			t.Error("a loop that ended takes callbacks")
		}
		if err := loop.Call(t.Context(), func() {}); !errors.Is(err, ErrStopped) {
			t.Errorf("Call after the end = %v, want ErrStopped", err)
		}
		if len(fired) > 0 {
			t.Errorf("%s fired", <-fired)
		}
	})
}
