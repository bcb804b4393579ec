//go:build !unix

package transport

import "net"

// SocketBuffers cannot look at the buffers on this system.
func SocketBuffers(net.PacketConn) string { return "" }
