//go:build !unix

package state

import "os"

// lockFile relies on bbolt's own lock on the state file where there is no flock.
func lockFile(*os.File) error { return nil }
