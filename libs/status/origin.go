package status

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// strange says why a request is not answered: its host is not one of ours, or a page of another site has made it. "" if
// nothing is wrong.
func (h *Handler) strange(r *http.Request) string {
	host := hostOf(r.Host)
	if r.TLS == nil && !isLocal(host) && !h.known(host) {
		return "headwater: the Host header names a host that this process is not known by (protection from DNS " +
			"rebinding); --host-whitelist can name it"
	}
	if origin := r.Header.Get("Origin"); origin != "" && !sameOrigin(origin, r.Host) {
		return "headwater: the request was made by a page of another site"
	}
	switch site, mode := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Mode"); {
	case site == "" || site == "same-origin" || site == "none":
	case mode == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document": // a link to here
	default:
		return "headwater: the request was made by a page of another site"
	}
	return ""
}

// sameOrigin tells whether an Origin header names the host of the request.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// hostOf is the host of a Host header, in small letters.
func hostOf(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// isLocal tells whether nobody else can make a host lead here: it is an address, or localhost.
func isLocal(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
