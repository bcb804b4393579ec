package signer

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// peerUser returns the user at the other end of a connection, as the kernel noted it when it was made (unix(7), SO_PEERCRED).
func peerUser(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if asked != nil {
		return 0, asked
	}
	return peer.Uid, nil
}

// Harden keeps the memory of this process from core dumps, and from other processes of the same user (prctl(2), PR_SET_DUMPABLE).
func Harden() error {
	none := unix.Rlimit{}
	return errors.Join(unix.Setrlimit(unix.RLIMIT_CORE, &none), unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}
