package relay

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// endpoint is one entry of a pool's list.
type endpoint struct {
	host, port string // TCP; host is a name or an address
	path       string // unix socket
	tls        security
}

// security says whether a connection to an endpoint uses TLS.
type security int

const (
	asGiven security = iota // with TLS if the pool has credentials
	plain
	secure
)

// endpointScheme is a prefix that an endpoint may have.
type endpointScheme struct {
	prefix string
	unix   bool
	tls    security
}

// schemes are all such prefixes.
var schemes = []endpointScheme{
	{"unix://", true, plain},
	{"unix:", true, plain},
	{"unixs://", true, secure},
	{"http://", false, plain},
	{"https://", false, secure},
	{"dns:///", false, asGiven},
	{"", false, asGiven},
}

// parseEndpoint reads host:port or unix://path. host is a name with one or more addresses, or an IP address.
// https://host:port and unixs://path use TLS, http:// and unix:// do not. dns:/// is accepted because people paste it
// from gRPC targets.
func parseEndpoint(s string) (endpoint, error) {
	i := slices.IndexFunc(schemes, func(k endpointScheme) bool { return strings.HasPrefix(s, k.prefix) })
	scheme := schemes[i] // the last one fits everything
	rest := strings.TrimPrefix(s, scheme.prefix)
	if scheme.unix {
		if rest == "" {
			return endpoint{}, fmt.Errorf("%q has no path", s)
		}
		return endpoint{path: rest, tls: scheme.tls}, nil
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(rest, "/"))
	if err != nil || host == "" || strings.ContainsAny(host, "/@ ") {
		return endpoint{}, fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return endpoint{}, fmt.Errorf("%q has no port number", s)
	}
	return endpoint{host: host, port: port, tls: scheme.tls}, nil
}

// Validate checks a list of endpoints. Its error names the wrong entry.
func Validate(endpoints []string) error {
	_, err := parseEndpoints(endpoints)
	return err
}

func parseEndpoints(list []string) ([]endpoint, error) {
	es := make([]endpoint, 0, len(list))
	for _, s := range list {
		e, err := parseEndpoint(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	return es, nil
}

// WantsTLS says whether a connection to an endpoint must use TLS.
func WantsTLS(s string) bool {
	e, err := parseEndpoint(strings.TrimSpace(s))
	return err == nil && e.tls == secure
}

// allSecure says whether all of es use TLS. given says whether there are credentials for it. Its error says that only
// some use TLS, or that the credentials are missing.
func allSecure(es []endpoint, given bool) (bool, error) {
	n := 0
	for _, e := range es {
		if e.tls == secure || e.tls == asGiven && given {
			n++
		}
	}
	switch {
	case n == 0:
		return false, nil
	case n < len(es):
		return false, errors.New("some endpoints use TLS and others do not")
	case !given:
		return false, errors.New("the endpoints use TLS, but there are no credentials for it")
	}
	return true, nil
}

// isName says whether the host must be looked up.
func (e endpoint) isName() bool { return e.path == "" && net.ParseIP(e.host) == nil }
