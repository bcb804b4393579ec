//go:build !race

package wasmvm

// timed says whether processor times can be compared.
const timed = true
