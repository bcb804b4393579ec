package wasmvm

import (
	"io/fs"
	"syscall"
	"time"
)

// lastUse returns when a file was written or read last. Reads are noted once a day where that is how the file system is mounted.
func lastUse(info fs.FileInfo) time.Time {
	used := info.ModTime()
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		if read := time.Unix(int64(s.Atim.Sec), int64(s.Atim.Nsec)); read.After(used) { //nolint:unconvert // on some processors the fields are 32 bits
			return read
		}
	}
	return used
}
