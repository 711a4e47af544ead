package cluster

import (
	"errors"
	"net"
	"sync"
)

// proxyBufferBytes is what one direction of a connection reads at a time.
const proxyBufferBytes = 32 << 10

// proxy is a pod's address. It stays the same while pods behind it come and go. While there is no pod behind it, it
// resets connections.
type proxy struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	target string // "": nobody
	gate   *gate
	conns  map[net.Conn]struct{}
}

func newProxy() (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{l: l, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// attach puts a pod behind the address.
func (p *proxy) attach(target string, g *gate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.gate = target, g
}

// detach takes the pod away and resets all connections.
func (p *proxy) detach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.gate = "", nil
	for c := range p.conns {
		reset(c)
	}
	clear(p.conns)
}

func (p *proxy) close() error {
	err := p.l.Close()
	p.detach()
	p.wg.Wait()
	return err
}

// reset closes a connection as the end of its process does.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on closed ones
	}
	_ = c.Close()
}

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(client net.Conn) {
	p.mu.Lock()
	target, g := p.target, p.gate
	p.mu.Unlock()
	if g == nil || !g.Pass() {
		reset(client)
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		reset(client)
		return
	}
	if !p.own(g, client, server) {
		reset(client)
		reset(server)
		return
	}
	var back sync.WaitGroup
	back.Go(func() { transfer(g, client, server) })
	transfer(g, server, client)
	back.Wait()
	p.disown(client, server)
}

// own remembers the two ends of a connection for detach. It returns false if the pod has gone meanwhile.
func (p *proxy) own(g *gate, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate != g {
		return false
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}

func (p *proxy) disown(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// transfer copies one direction until either end closes, and then closes both.
func transfer(g *gate, to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, proxyBufferBytes)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !g.Pass() {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
