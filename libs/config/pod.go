package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/server"
)

// StoreFoundationDB is the only value of --store.
const StoreFoundationDB = "foundationdb"

// Limits and defaults.
const (
	// DefaultLanes is how many group commits a kv pod keeps in flight.
	DefaultLanes = 4
	lanesMax     = 64
	// DefaultRoot is the prefix of all of Headwater's rows in FoundationDB.
	DefaultRoot = "headwater"
	// rootMax bounds the prefix, which is part of every row's key.
	rootMax = 128
	// DefaultKeyspace is the keyspace that a pod serves if no flag names another.
	DefaultKeyspace = "default"
	// shutdownDelayMax is the longest --shutdown-delay. Whoever stops a pod must not wait for ever.
	shutdownDelayMax = 10 * time.Minute
)

// Pod is the part of the configuration that only pods have, but for JoinCommits.
type Pod struct {
	Store          string // --store
	FDBClusterFile string // --fdb-cluster-file; "": FoundationDB's own default
	FDBTLS         FDBTLS // --fdb-tls-…
	FDBRoot        string // --fdb-root
	Keyspace       string // --keyspace
	NATSURL        string // --nats-url; "": no NATS, hubs follow the log
	NATS           NATS   // --nats-…

	ListenPeerURLs []string // --listen-peer-urls; none: other pods use the client URLs

	KVEndpoints, WatchHubEndpoints, LeaseKeeperEndpoints []string // --kv-endpoints …; not needed for the pod's own kind

	Lanes       int  // --lanes
	JoinCommits bool // --join-commits; a standalone server has it too
	// PodAddress is the host:port at which pods of the same kind reach this one. "": Config.Address finds it.
	PodAddress string
	// ShutdownDelay is how long a pod goes on serving after its readiness endpoint has turned unready.
	ShutdownDelay time.Duration
}

// Endpoints returns the addresses of the pods of a kind.
func (c Pod) Endpoints(k Kind) []string {
	switch k {
	case KV:
		return c.KVEndpoints
	case WatchHub:
		return c.WatchHubEndpoints
	}
	return c.LeaseKeeperEndpoints
}

func (c Pod) validatePod(k Kind) error {
	if c.Store != StoreFoundationDB {
		return fmt.Errorf(
			"--store %q: pods share a %s; for a store of its own start headwater, the standalone server", c.Store,
			StoreFoundationDB,
		)
	}
	if c.FDBRoot == "" || len(c.FDBRoot) > rootMax || c.FDBRoot[0] == 0xff {
		return fmt.Errorf("--fdb-root must be 1 to %d bytes and must not begin with the byte 0xff", rootMax)
	}
	if err := c.FDBTLS.validate(); err != nil {
		return err
	}
	if c.Keyspace == "" {
		return errors.New("--keyspace must not be empty")
	}
	if c.Lanes < 1 || c.Lanes > lanesMax {
		return fmt.Errorf("--lanes must be 1 to %d", lanesMax)
	}
	if c.ShutdownDelay < 0 || c.ShutdownDelay > shutdownDelayMax {
		return fmt.Errorf("--shutdown-delay must be 0 to %v", shutdownDelayMax)
	}
	if c.PodAddress != "" {
		if err := relay.Validate([]string{c.PodAddress}); err != nil {
			return fmt.Errorf("--pod-address: %w", err)
		}
	}
	return c.validateEndpoints(k)
}

func (c Pod) validateEndpoints(k Kind) error {
	for _, other := range Pods {
		list := c.Endpoints(other)
		if len(list) == 0 && other != k {
			return fmt.Errorf(
				"--%s-endpoints must not be empty: a %s pod relays to them what it does not own", other, k,
			)
		}
		if err := relay.Validate(list); err != nil {
			return fmt.Errorf("--%s-endpoints: %w", other, err)
		}
	}
	for _, u := range strings.Split(c.NATSURL, ",") {
		if p, err := url.Parse(strings.TrimSpace(u)); c.NATSURL != "" && (err != nil || p.Host == "") {
			return fmt.Errorf("--nats-url: %q is not a URL such as nats://host:4222", u)
		}
	}
	return c.NATS.validate(c.NATSURL)
}

// Address is the address at which other pods reach this one: host:port or, with TLS, https://host:port. It is
// --pod-address if that is given. Otherwise it is the first URL for peers, then the first of --advertise-client-urls,
// then the first address that the pod listens on. If the pod listens on all addresses of the host, one of them is
// taken.
func (c Config) Address(peers, advertised []string) (string, error) {
	switch {
	case c.PodAddress != "":
		return c.PodAddress, nil
	case len(peers) > 0:
		return address(peers[0], listensEverywhere(c.ListenPeerURLs))
	case len(advertised) == 0:
		return "", errors.New("--pod-address is needed: there is no client URL that other pods can reach")
	}
	return address(advertised[0], len(c.AdvertiseClientURLs) == 0 && listensEverywhere(c.ListenClientURLs))
}

// address returns the address of a pod for the URL of one of its listeners. everywhere says that the listener is bound
// to all addresses of the host.
func address(listener string, everywhere bool) (string, error) {
	u, err := url.Parse(listener)
	if err != nil {
		return "", fmt.Errorf("--pod-address is needed: %w", err)
	}
	host, scheme := u.Host, ""
	switch u.Scheme {
	case "unix", "unixs":
		return listener, nil
	case "https":
		scheme = "https://"
	}
	if everywhere {
		host = net.JoinHostPort(server.HostAddress(), u.Port())
	}
	return scheme + host, nil
}

// listensEverywhere reports whether the first URL is bound to all addresses of the host.
func listensEverywhere(urls []string) bool {
	u, err := url.Parse(urls[0])
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "" || ip != nil && ip.IsUnspecified()
}
