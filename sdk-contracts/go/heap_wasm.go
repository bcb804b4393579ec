//go:build wasip1 && wasm

package sdk

import "runtime"

// heapReady makes the runtime take room for a call's allocations from the host before the first call.
// A memory cannot shrink, so a node throws away an instance whose memory grew, and making a new one costs
// over a millisecond. A node calls methods on a copy of what start-up leaves, so this is done once.
var heapReady = prepareHeap()

func prepareHeap() bool {
	room := make([]byte, 512<<10)
	runtime.KeepAlive(room)
	room = nil
	runtime.GC()
	return true
}
