package cli

import (
	"time"

	"golang.org/x/sys/unix"
)

// disciplined asks the kernel whether a time service keeps the system's clock, and within what error by the service's account.
// See adjtimex(2).
func disciplined() (known, synchronized bool, within time.Duration) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, false, 0
	}
	return true, t.Status&unix.STA_UNSYNC == 0, time.Duration(t.Maxerror) * time.Microsecond
}
