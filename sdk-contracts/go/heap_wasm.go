//go:build wasip1 && wasm

package sdk

import "runtime"

// roomTaken makes the runtime ask the host at start-up for memory that calls then use: it asks for 256 KiB at
// a time, and this goes over into the next. A memory cannot shrink, so a node throws away an instance whose
// memory grew in a call, and making a new one costs more than most calls. To collect the garbage here would
// make more room, but cost two million gas in every call.
var roomTaken = takeRoom()

func takeRoom() bool {
	runtime.KeepAlive(make([]byte, 100<<10))
	return true
}
