package relay

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// endpoint is one entry of a pool's list.
type endpoint struct {
	host, port string // TCP; host is a name or an address
	path       string // unix socket
}

// parseEndpoint reads host:port, where host is a name with one or more addresses or an IP address, or unix://path. The schemes http:// and
// dns:/// are taken for the sake of those who paste them.
func parseEndpoint(s string) (endpoint, error) {
	for _, scheme := range []string{"unix://", "unix:"} {
		if path, ok := strings.CutPrefix(s, scheme); ok {
			if path == "" {
				return endpoint{}, fmt.Errorf("%q has no path", s)
			}
			return endpoint{path: path}, nil
		}
	}
	rest := s
	for _, scheme := range []string{"http://", "dns:///"} {
		rest = strings.TrimPrefix(rest, scheme)
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(rest, "/"))
	if err != nil || host == "" || strings.ContainsAny(host, "/@ ") {
		return endpoint{}, fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return endpoint{}, fmt.Errorf("%q has no port number", s)
	}
	return endpoint{host: host, port: port}, nil
}

// Validate checks a list of endpoints; its error names the entry that is wrong.
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

// isName reports whether the host must be looked up.
func (e endpoint) isName() bool { return e.path == "" && net.ParseIP(e.host) == nil }
