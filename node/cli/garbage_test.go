package cli

import "testing"

func TestGarbagePercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {50 << 20, 100}, {128 << 20, 100}, {129 << 20, 99}, {160 << 20, 80}, {256 << 20, 50}, {257 << 20, 50}, {8 << 30, 50}} {
		if got := garbagePercent(c.live); got != c.want {
			t.Errorf("%d MiB live: %d %%, want %d", c.live>>20, got, c.want)
		}
	}
}
