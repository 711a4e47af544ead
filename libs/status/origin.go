package status

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// strange says why a request is refused: its host is not one of ours, or a page of another site has made it. "": it is
// not.
func (h *Handler) strange(r *http.Request) string {
	host := hostOf(r.Host)
	if r.TLS == nil && !isLocal(host) && !h.known(host) {
		return "headwater: the Host header names a host that this process does not know as its own (protection from " +
			"DNS rebinding); --host-whitelist can name it"
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

// sameOrigin says whether an Origin header names the host of the request.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// hostOf returns the host of a Host header in lower case.
func hostOf(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// isLocal says whether the host is an address or localhost. Nobody else can make such a host lead here.
func isLocal(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
