//go:build unix

package transport

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
)

// wantedBuffer is what quic-go asks for: at 1 Gbit/s, 60 ms of packets.
const wantedBuffer = 7 << 20

// SocketBuffers enlarges the socket's buffers and returns a hint for the operator if the system does not
// allow enough. It is empty for what is not a UDP socket.
func SocketBuffers(c net.PacketConn) string {
	socket, ok := c.(*net.UDPConn)
	if !ok {
		return ""
	}
	socket.SetReadBuffer(wantedBuffer)  //nolint:errcheck // the sizes below tell
	socket.SetWriteBuffer(wantedBuffer) //nolint:errcheck // the sizes below tell
	raw, err := socket.SyscallConn()
	if err != nil {
		return ""
	}
	var receive, send int
	if err := raw.Control(func(fd uintptr) {
		receive, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
		send, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	}); err != nil {
		return ""
	}
	if runtime.GOOS == "linux" { // which reports twice the size, for its own bookkeeping
		receive, send = receive/2, send/2
	}
	return bufferHint(runtime.GOOS, receive, send)
}

func bufferHint(system string, receive, send int) string {
	if receive >= wantedBuffer && send >= wantedBuffer {
		return ""
	}
	sizes := fmt.Sprintf("receive buffer %d KiB, send buffer %d KiB, wanted %d KiB each", receive>>10, send>>10, wantedBuffer>>10)
	if system == "linux" {
		return fmt.Sprintf("%s; run: sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d", sizes, wantedBuffer, wantedBuffer)
	}
	return fmt.Sprintf("%s; run: sysctl -w kern.ipc.maxsockbuf=%d", sizes, 2*wantedBuffer)
}
