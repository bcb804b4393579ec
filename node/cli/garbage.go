package cli

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	spareHeap  = 128 << 20        // bytes of garbage that a node may always keep beside what lives, if that much lives
	garbageEra = 10 * time.Second // between looks at how much lives
)

// paceGarbage lets this process keep as much garbage as lives where that is little, and half as much where it is a lot, until ctx
// ends: Go's default doubles the memory of a node whose state has millions of keys. Where GOGC is set, its word holds.
func paceGarbage(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	now := 100
	for tick := time.NewTicker(garbageEra); ; {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if want := garbagePercent(live[0].Value.Uint64()); want != now {
			now = want
			debug.SetGCPercent(now)
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// garbagePercent returns how much garbage may be kept beside live bytes, in percent of them: spareHeap, from 50 to 100.
func garbagePercent(live uint64) int {
	return int(min(100, max(50, 100*spareHeap/max(live, 1))))
}
