//go:build !unix

package x509ca

import (
	"fmt"
	"os"
)

// lock takes the only right to change an authority's folder, where there is no flock.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: another process is changing the authority; if there is none, remove the file", err)
	}
	return func() { _ = file.Close(); _ = os.Remove(path) }, nil
}

// syncDir does nothing where folders cannot be synced.
func syncDir(string) error { return nil }
