//go:build !linux

package wasmvm

import (
	"io/fs"
	"time"
)

// lastUse returns when a file was written last.
func lastUse(info fs.FileInfo) time.Time { return info.ModTime() }
