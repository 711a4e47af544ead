package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// role is what a listener serves.
type role int

const (
	roleBoth    role = iota // gRPC and HTTP
	roleGRPC                // gRPC only: --listen-client-http-urls moves HTTP elsewhere
	roleHTTP                // HTTP only
	roleMetrics             // metrics and health only
)

func (r role) String() string { return [...]string{"grpc+http", "grpc", "http", "metrics"}[r] }

// Sockets are the URLs to listen on, http://host:port or unix://path; port 0 takes a free one.
type Sockets struct {
	Client  []string // gRPC, and HTTP unless that is elsewhere
	HTTP    []string // HTTP moves here from Client if there are any
	Metrics []string // metrics and health only
	// Advertise are the client URLs that clients are told; none: those of Client as they were bound.
	Advertise []string
}

// listener is an open socket and what it serves.
type listener struct {
	net.Listener
	role role
	url  string // as configured, with the port that was bound
}

// CheckListenURL says what is wrong with a URL to listen on, nil if nothing is.
func CheckListenURL(s string) error {
	_, _, err := parseURL(s)
	return err
}

// parseURL splits a listen URL into network and address. It wants http://host:port or unix://path (or unix:path).
func parseURL(s string) (network, addr string, err error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil {
		return "", "", fmt.Errorf("%q is not a URL", s)
	}
	switch u.Scheme {
	case "http":
		if u.Path != "" && u.Path != "/" {
			return "", "", fmt.Errorf("URL %q must not have a path", s)
		}
		host, port, err := net.SplitHostPort(u.Host)
		if err != nil || port == "" {
			return "", "", fmt.Errorf("URL %q needs host:port", s)
		}
		// etcd binds to addresses, not names, but for localhost.
		if host != "localhost" && host != "" && net.ParseIP(strings.Split(host, "%")[0]) == nil {
			return "", "", fmt.Errorf("expected IP in URL for binding (%s)", s)
		}
		return "tcp", u.Host, nil
	case "unix":
		addr := u.Opaque
		if addr == "" {
			addr = u.Host + u.Path
		}
		if addr == "" {
			return "", "", fmt.Errorf("URL %q needs a path", s)
		}
		return "unix", addr, nil
	case "https", "unixs":
		return "", "", fmt.Errorf("URL %q: TLS is not supported yet", s)
	}
	return "", "", fmt.Errorf("URL scheme must be http or unix: %s", s)
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
	}{{c.Client, client}, {c.HTTP, roleHTTP}, {c.Metrics, roleMetrics}} {
		for _, u := range group.urls {
			l, err := listen(ctx, u, group.role)
			if err != nil {
				return ls, err
			}
			ls = append(ls, l)
		}
	}
	return ls, nil
}

func closeAll(ls []*listener) {
	for _, l := range ls {
		l.Close()
	}
}

func listen(ctx context.Context, u string, r role) (*listener, error) {
	return listenWith(ctx, net.ListenConfig{}, u, r)
}

// listenWith is listen with more to say of the socket.
func listenWith(ctx context.Context, lc net.ListenConfig, u string, r role) (*listener, error) {
	network, addr, err := parseURL(u)
	if err != nil {
		return nil, err
	}
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
	bound := u
	if network == "tcp" {
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		bound = "http://" + net.JoinHostPort(host, port)
	}
	return &listener{Listener: l, role: r, url: bound}, nil
}

// privateMode is the mode of a unix socket of which only the server's own user may make use.
const privateMode = 0o600

// ListenPrivate opens a socket that is not for clients, and returns its URL as it was bound. A unix socket is for the
// process's own user alone; one that a killed server has left is replaced, and Close removes it.
func ListenPrivate(ctx context.Context, u string) (l net.Listener, bound string, err error) {
	// Who connects between bind and chmod is in, and stays: the socket must have its mode before it has a name.
	made, err := listenWith(ctx, net.ListenConfig{Control: bindPrivate}, u, roleBoth)
	if err != nil {
		return nil, "", err
	}
	if addr, ok := made.Addr().(*net.UnixAddr); ok {
		if err := os.Chmod(addr.Name, privateMode); err != nil {
			return nil, "", errors.Join(err, made.Close())
		}
	}
	return made.Listener, made.url, nil
}

// removeStaleSocket deletes a socket file that nobody listens on, which a killed server leaves behind.
func removeStaleSocket(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot listen on unix://%s: %w", path, err)
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on unix://%s: a file is there that is no socket", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("cannot listen on unix://%s: address already in use", path)
	}
	return os.Remove(path)
}

// advertised returns the client URLs to tell clients: those configured, else the ones listened on, with a host that
// can be dialled.
func advertised(c Sockets, ls []*listener) []string {
	if len(c.Advertise) > 0 {
		return c.Advertise
	}
	var urls []string
	for _, l := range ls {
		if l.role != roleBoth && l.role != roleGRPC {
			continue
		}
		u := l.url
		if l.Addr().Network() == "tcp" {
			host, port, err := net.SplitHostPort(strings.TrimPrefix(u, "http://"))
			if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
				u = "http://" + net.JoinHostPort("localhost", port)
			}
		}
		urls = append(urls, u)
	}
	return urls
}
