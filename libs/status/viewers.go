package status

import (
	"net/http"
	"net/netip"
	"sync"
)

// viewers counts the open tails by the viewer's address, so that one viewer leaves room for others.
type viewers struct {
	mu    sync.Mutex
	tails map[netip.Prefix]int // nothing that is 0
}

// viewerOf returns what a request's tails are counted by: the address of the client or, for IPv6, its /64 network,
// because one host may have all addresses in it. Requests without an address, such as those over a Unix socket, count
// as one viewer.
func viewerOf(r *http.Request) netip.Prefix {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	addr := from.Addr().Unmap()
	p, _ := addr.Prefix(min(addr.BitLen(), 64)) // no error: there are as many bits
	return p
}

// enter takes one of a viewer's places. ok is false if the viewer has none left.
func (v *viewers) enter(of netip.Prefix) (leave func(), ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tails[of] >= tailsPerViewer {
		return nil, false
	}
	if v.tails == nil {
		v.tails = make(map[netip.Prefix]int)
	}
	v.tails[of]++
	return func() { v.leave(of) }, true
}

func (v *viewers) leave(of netip.Prefix) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tails[of]--; v.tails[of] == 0 {
		delete(v.tails, of)
	}
}

// enterTail takes a place for a tail. Errors: errBusy, errManyTails.
func (h *Handler) enterTail(r *http.Request) (leave func(), err error) {
	leaveAll, ok := h.enter(h.tails)
	if !ok {
		return nil, errBusy
	}
	leaveMine, ok := h.viewers.enter(viewerOf(r))
	if !ok {
		leaveAll()
		return nil, errManyTails
	}
	return func() { leaveMine(); leaveAll() }, nil
}
