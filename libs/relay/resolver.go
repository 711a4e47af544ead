package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
)

// Times of name resolution.
const (
	// resolveInterval is how often names are looked up while there are no errors.
	resolveInterval = 10 * time.Second
	// resolvePause is the shortest time between two lookups.
	resolvePause = time.Second
	// resolveTimeout bounds one lookup of all names.
	resolveTimeout = 2 * time.Second
	// addressesMax bounds the pods of a pool.
	addressesMax = 1024
)

// scheme is that of the targets of pools. unixScheme begins the addresses of unix sockets.
const (
	scheme     = "headwater"
	unixScheme = "unix:"
)

// lookup finds the addresses of a name; net.Resolver.LookupHost is one.
type lookup func(ctx context.Context, host string) ([]string, error)

// builder makes the resolver of one pool.
type builder struct {
	endpoints []endpoint
	lookup    lookup
}

// Scheme implements resolver.Builder.
func (b builder) Scheme() string { return scheme }

// Build implements resolver.Builder.
func (b builder) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &poolResolver{
		builder: b,
		cc:      cc,
		ctx:     ctx,
		cancel:  cancel,
		now:     make(chan struct{}, 1),
		known:   make(map[string][]string),
	}
	r.wg.Go(r.run)
	return r, nil
}

// poolResolver gives a connection the addresses of all endpoints of a pool.
type poolResolver struct {
	builder
	cc     resolver.ClientConn
	ctx    context.Context
	cancel context.CancelFunc
	now    chan struct{} // capacity 1: look up again
	wg     sync.WaitGroup

	known map[string][]string // last addresses of each name; run's own
}

// ResolveNow implements resolver.Resolver.
func (r *poolResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (r *poolResolver) Close() {
	r.cancel()
	r.wg.Wait()
}

func (r *poolResolver) run() {
	var told []resolver.Address
	for {
		addrs, err := r.resolve()
		switch {
		case r.ctx.Err() != nil:
			return
		case len(addrs) == 0:
			r.cc.ReportError(errors.Join(errors.New("no pod is known"), err))
		case !slices.EqualFunc(addrs, told, func(a, b resolver.Address) bool { return a.Equal(b) }):
			// An error says that the balancer refuses the addresses. The balancer asks again by itself.
			_ = r.cc.UpdateState(resolver.State{Addresses: addrs})
			told = addrs
		}
		if !slices.ContainsFunc(r.endpoints, endpoint.isName) {
			return
		}
		wait := resolveInterval - resolvePause
		if err != nil {
			wait = 0
		}
		if !r.sleep(resolvePause, nil) || !r.sleep(wait, r.now) {
			return
		}
	}
}

// sleep waits for d, or until early gets a value. It says whether to go on.
func (r *poolResolver) sleep(d time.Duration, early <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-r.ctx.Done():
		return false
	}
	return true
}

// resolve returns the addresses of all endpoints, sorted. If it returns an error, some of the addresses may be old.
func (r *poolResolver) resolve() ([]resolver.Address, error) {
	ctx, cancel := context.WithTimeout(r.ctx, resolveTimeout)
	defer cancel()
	var addrs []resolver.Address
	var errs []error
	for _, e := range r.endpoints {
		if e.path != "" {
			addrs = append(addrs, resolver.Address{Addr: unixScheme + e.path, ServerName: "localhost"})
			continue
		}
		ips := []string{e.host}
		if e.isName() {
			found, err := r.lookup(ctx, e.host)
			if err == nil && len(found) > 0 {
				r.known[e.host] = found
			} else if err != nil {
				errs = append(errs, fmt.Errorf("looking up %s: %w", e.host, err))
			}
			ips = r.known[e.host]
		}
		for _, ip := range ips {
			addrs = append(addrs, resolver.Address{Addr: net.JoinHostPort(ip, e.port), ServerName: e.host})
		}
	}
	slices.SortFunc(addrs, func(a, b resolver.Address) int { return strings.Compare(a.Addr, b.Addr) })
	addrs = slices.CompactFunc(addrs, func(a, b resolver.Address) bool { return a.Addr == b.Addr })
	return addrs[:min(len(addrs), addressesMax)], errors.Join(errs...)
}

// dial opens a connection to an address of a poolResolver.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	if path, ok := strings.CutPrefix(addr, unixScheme); ok {
		return d.DialContext(ctx, "unix", path)
	}
	return d.DialContext(ctx, "tcp", addr)
}
