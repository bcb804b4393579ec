//go:build !linux

package signer

import (
	"errors"
	"net"
)

var errSystem = errors.New("a signer runs on Linux: elsewhere nobody says here which user is at the other end of a socket")

func peerUser(*net.UnixConn) (uint32, error) { return 0, errSystem }

// Harden keeps the memory of this process from others where the system can.
func Harden() error {
	return errors.New("only on Linux does a process keep its memory from others of its user")
}
