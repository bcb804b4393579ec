//go:build !linux

package cli

import "time"

// disciplined cannot tell on this system.
func disciplined() (known, synchronized bool, within time.Duration) { return false, false, 0 }
