package rpc

import (
	"maps"
	"slices"
)

// Patterns returns the methods and paths that the API serves.
func Patterns() []string {
	return append(slices.Sorted(maps.Keys((*Server)(nil).routes())), "GET /openapi.json")
}

// OpenAPI returns the document.
func OpenAPI() []byte { return openAPI }

// Limits that tests go to.
const (
	MaxBatch   = maxBatch
	MaxBatchTx = maxBatchTxs
	MaxStreams = maxStreams
	MaxBodies  = maxBodies
)
