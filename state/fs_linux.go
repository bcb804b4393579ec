package state

import (
	"errors"
	"os"
	"syscall"
)

// syncData is fdatasync(2): it writes the size too when that changed, but not the times.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
