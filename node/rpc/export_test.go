package rpc

import (
	"maps"
	"slices"
)

// Patterns returns the methods and paths that the API serves.
func Patterns() []string {
	return slices.Sorted(maps.Keys((*Server)(nil).routes()))
}

// Needs returns the right that a route takes.
func Needs(pattern string) string { return (*Server)(nil).routes()[pattern].need.String() }

// OpenAPI returns the document.
func OpenAPI() []byte { return openAPI }

// Limits that tests go to.
const (
	MaxBatch   = maxBatch
	MaxBatchTx = maxBatchTxs
	MaxStreams = maxStreams
	MaxBodies  = maxBodies
)
