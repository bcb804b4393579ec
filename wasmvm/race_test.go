//go:build race

package wasmvm

// timed is false under the race detector: it makes the host's Go code several times slower and the guest's code no slower, so what
// one takes says nothing about the other.
const timed = false
