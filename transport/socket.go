//go:build !unix

package transport

import "net"

// socketBuffers cannot look at the buffers on this system.
func socketBuffers(net.PacketConn) string { return "" }
