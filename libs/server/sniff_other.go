//go:build !linux || headwater_simulation

package server

import "net"

func sniff(c net.Conn) (net.Conn, verdict, error) { return sniffByReading(c) }
