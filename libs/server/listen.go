package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// role is what a listener serves.
type role int

const (
	roleBoth    role = iota // gRPC and HTTP
	roleGRPC                // gRPC only: --listen-client-http-urls moves HTTP elsewhere
	roleHTTP                // HTTP only
	roleMetrics             // metrics and health only
	rolePeer                // gRPC, for other pods
)

func (r role) String() string { return [...]string{"grpc+http", "grpc", "http", "metrics", "peer"}[r] }

// Sockets are the URLs to listen on: http://host:port or unix://path. Port 0 takes a free one. With https and unixs
// they use TLS. The same address may be given with and without TLS; then it serves both.
type Sockets struct {
	Client  []string // gRPC, and HTTP unless that is elsewhere
	HTTP    []string // if there are any, they serve HTTP instead of Client
	Metrics []string // metrics and health only
	Peer    []string // gRPC for other pods
	// TLS is for all URLs but those of Peer, PeerTLS for those. If it is nil, a URL that asks for TLS is an error.
	TLS, PeerTLS *tlsconf.TLS
	// Advertise are the client URLs that clients are told. None: those of Client, with the ports that were bound.
	Advertise []string
}

// listener is an open socket and what it serves.
type listener struct {
	net.Listener
	role  role
	urls  []string     // as configured, with the port that was bound; two if there are both schemes
	tls   *tlsconf.TLS // nil: none
	plain bool         // connections without TLS are served (too)
}

// CheckListenURL returns what is wrong with a URL to listen on, or nil.
func CheckListenURL(s string) error {
	_, err := parseURL(s)
	return err
}

// Secure says whether a URL to listen on asks for TLS.
func Secure(s string) bool {
	a, err := parseURL(s)
	return err == nil && a.secure
}

// Exposed says whether other hosts can connect to a URL to listen on, and do so without TLS.
func Exposed(s string) bool {
	a, err := parseURL(s)
	if err != nil || a.secure || a.network == "unix" {
		return false
	}
	host, _, _ := net.SplitHostPort(a.addr) // parseURL has done it before
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.IsLoopback()) // no host means all addresses
}

// address is the parts of a URL to listen on.
type address struct {
	network, addr string // as package net has them
	secure        bool   // with TLS
}

// url is the address as a URL.
func (a address) url() string {
	scheme := "http"
	if a.network == "unix" {
		scheme = "unix"
	}
	if a.secure {
		scheme += "s"
	}
	return scheme + "://" + a.addr
}

// parseURL parses a URL to listen on: http://host:port or unix://path (or unix:path), or the same with https or unixs.
func parseURL(s string) (a address, err error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil {
		return a, fmt.Errorf("%q is not a URL", s)
	}
	switch u.Scheme {
	case "http", "https":
		if u.Path != "" && u.Path != "/" {
			return a, fmt.Errorf("URL %q must not have a path", s)
		}
		host, port, err := net.SplitHostPort(u.Host)
		if err != nil || port == "" {
			return a, fmt.Errorf("URL %q needs host:port", s)
		}
		// etcd binds to addresses and not to names, except localhost.
		if host != "localhost" && host != "" && net.ParseIP(strings.Split(host, "%")[0]) == nil {
			return a, fmt.Errorf("expected IP in URL for binding (%s)", s)
		}
		return address{"tcp", u.Host, u.Scheme == "https"}, nil
	case "unix", "unixs":
		addr := u.Opaque
		if addr == "" {
			addr = u.Host + u.Path
		}
		if addr == "" {
			return a, fmt.Errorf("URL %q needs a path", s)
		}
		return address{"unix", addr, u.Scheme == "unixs"}, nil
	}
	return a, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", s)
}

// listenAll opens all listen URLs of c, or none.
func listenAll(ctx context.Context, c Sockets) (ls []*listener, err error) {
	defer func() {
		if err != nil {
			closeAll(ls)
		}
	}()
	client := roleBoth
	if len(c.HTTP) > 0 {
		client = roleGRPC
	}
	for _, group := range []struct {
		urls []string
		role role
		tls  *tlsconf.TLS
	}{
		{c.Client, client, c.TLS}, {c.HTTP, roleHTTP, c.TLS}, {c.Metrics, roleMetrics, c.TLS}, {c.Peer, rolePeer, c.PeerTLS},
	} {
		opened := make(map[string]*listener) // by address
		for _, u := range group.urls {
			a, err := parseURL(u)
			if err != nil {
				return ls, err
			}
			if l := opened[a.addr]; l != nil {
				if err := l.add(a, group.tls); err != nil {
					return ls, err
				}
				continue
			}
			l, err := listen(ctx, a, group.role, group.tls)
			if err != nil {
				return ls, err
			}
			ls = append(ls, l)
			if !strings.HasSuffix(a.addr, ":0") { // each :0 is another port
				opened[a.addr] = l
			}
		}
	}
	return ls, nil
}

// add makes l serve another URL of the same address: the same one again, or one with the other scheme.
func (l *listener) add(a address, tls *tlsconf.TLS) error {
	if slices.Contains(l.urls, a.url()) {
		return nil
	}
	l.urls = append(l.urls, a.url())
	return l.serve(a, tls)
}

// serve registers that l serves a.
func (l *listener) serve(a address, tls *tlsconf.TLS) error {
	switch {
	case !a.secure:
		l.plain = true
	case tls != nil:
		l.tls = tls
	case l.role == roleMetrics:
		return errors.New("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")
	case l.role == rolePeer:
		return fmt.Errorf(
			"TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url %s with HTTPS scheme",
			a.url(),
		)
	default:
		return fmt.Errorf(
			"TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme",
			a.url(),
		)
	}
	return nil
}

func closeAll(ls []*listener) {
	for _, l := range ls {
		l.Close()
	}
}

func listen(ctx context.Context, a address, r role, tls *tlsconf.TLS) (*listener, error) {
	return listenWith(ctx, net.ListenConfig{}, a, r, tls)
}

// listenWith is listen with options for the socket.
func listenWith(ctx context.Context, lc net.ListenConfig, a address, r role, tls *tlsconf.TLS) (*listener, error) {
	made := &listener{role: r}
	if err := made.serve(a, tls); err != nil {
		return nil, err
	}
	u, network, addr := a.url(), a.network, a.addr
	if network == "unix" {
		if err := removeStaleSocket(addr); err != nil {
			return nil, err
		}
	}
	l, err := lc.Listen(ctx, network, addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("cannot listen on %s: address already in use", u)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", u, err)
	}
	if network == "tcp" {
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		a.addr = net.JoinHostPort(host, port)
	}
	made.Listener, made.urls = l, []string{a.url()}
	return made, nil
}

// privateMode is the mode of a unix socket that only the server's own user may use.
const privateMode = 0o600

// Private is a socket that is not for clients. Operators serves it.
type Private struct{ *listener }

// ListenPrivate opens a socket that is not for clients. It returns its URL with the port that was bound. Only the
// process's own user can use a unix socket. A socket that a killed server has left behind is replaced, and Close
// removes the socket. tls is needed for https and unixs, and may be nil otherwise.
func ListenPrivate(ctx context.Context, u string, tls *tlsconf.TLS) (l Private, bound string, err error) {
	a, err := parseURL(u)
	if err != nil {
		return Private{}, "", err
	}
	// A client that connects between bind and chmod would be in and stay, so the socket must have its mode before it
	// has a name.
	made, err := listenWith(ctx, net.ListenConfig{Control: bindPrivate}, a, roleBoth, tls)
	if err != nil {
		return Private{}, "", err
	}
	if addr, ok := made.Addr().(*net.UnixAddr); ok {
		if err := os.Chmod(addr.Name, privateMode); err != nil {
			return Private{}, "", errors.Join(err, made.Close())
		}
	}
	return Private{made}, made.urls[0], nil
}

// removeStaleSocket deletes a socket file that a killed server has left behind and nobody listens on.
func removeStaleSocket(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot listen on unix://%s: %w", path, err)
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on unix://%s: the file exists and is not a socket", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("cannot listen on unix://%s: address already in use", path)
	}
	return os.Remove(path)
}

// advertised returns the client URLs that clients are told: the configured ones, or those listened on. If a URL is
// bound to all addresses of the host, one address is shown instead, as etcd does.
func advertised(c Sockets, ls []*listener) []string {
	if len(c.Advertise) > 0 {
		return c.Advertise
	}
	var urls []string
	for _, l := range ls {
		if l.role == roleBoth || l.role == roleGRPC {
			urls = append(urls, l.reachable()...)
		}
	}
	return urls
}

// reachable returns the URLs of l, with hosts that others can dial.
func (l *listener) reachable() []string {
	var urls []string
	for _, u := range l.urls {
		a, err := parseURL(u)
		if err == nil && a.network == "tcp" {
			host, port, err := net.SplitHostPort(a.addr)
			if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
				a.addr = net.JoinHostPort(HostAddress(), port)
				u = a.url()
			}
		}
		urls = append(urls, u)
	}
	return urls
}

// HostAddress returns the first address of this host that others can reach, in the order of the system's interfaces, or
// localhost if there is none.
func HostAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "localhost"
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "localhost"
}
