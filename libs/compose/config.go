package compose

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
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
	// DefaultRoot is the prefix of all of Headwater's rows.
	DefaultRoot = "headwater"
	// rootMax bounds the prefix, which is part of every row's key.
	rootMax = 128
	// DefaultKeyspace is the keyspace that is served unless told otherwise.
	DefaultKeyspace = "default"
	// shutdownDelayMax bounds --shutdown-delay: whoever stops pods does not wait for ever.
	shutdownDelayMax = 10 * time.Minute
)

// Config is what flags and environment say. DefaultConfig has the defaults; comments name the flag where the field's name
// does not.
type Config struct {
	server.Config

	Store          string // --store
	FDBClusterFile string // --fdb-cluster-file; "": FoundationDB's own default
	FDBTLS         FDBTLS // --fdb-tls-…
	FDBRoot        string // --fdb-root
	Keyspace       string // --keyspace
	NATSURL        string // --nats-url; "": no NATS, hubs follow the log

	KVEndpoints, WatchHubEndpoints, LeaseKeeperEndpoints []string // --kv-endpoints …; not needed for the pod's own kind

	Lanes int // --lanes
	// PodAddress is the host:port at which pods of the same kind reach this one; "": see Pod.Address.
	PodAddress string
	// ShutdownDelay is the time between readiness off and the end of service.
	ShutdownDelay time.Duration
}

// DefaultConfig returns the configuration of a pod without flags.
func DefaultConfig() Config {
	c := Config{
		Config: server.DefaultConfig(), Store: StoreFoundationDB, FDBRoot: DefaultRoot, Keyspace: DefaultKeyspace, Lanes: DefaultLanes,
	}
	c.MaxConcurrentStreams = math.MaxUint32 // Program.AnyStreams
	return c
}

// Endpoints returns where the pods of a kind are.
func (c Config) Endpoints(k Kind) []string {
	switch k {
	case KV:
		return c.KVEndpoints
	case WatchHub:
		return c.WatchHubEndpoints
	}
	return c.LeaseKeeperEndpoints
}

// Validate checks what a single flag cannot say, for a pod of kind k. Its error names the flag.
func (c Config) Validate(k Kind) error {
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if !k.shared() {
		return nil
	}
	if c.Store != StoreFoundationDB {
		return fmt.Errorf("--store %q: pods share a %s; for a store of its own start headwater, the standalone server", c.Store, StoreFoundationDB)
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

func (c Config) validateEndpoints(k Kind) error {
	for _, other := range Kinds {
		list := c.Endpoints(other)
		if len(list) == 0 && other != k {
			return fmt.Errorf("--%s-endpoints must not be empty: a %s pod relays to them what it does not own", other, k)
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
	return nil
}

// address is the host:port at which other pods reach this one: --pod-address, else the first of --advertise-client-urls,
// else the first address that is listened on, with one of this host's where that is all of them.
func (c Config) address(advertised []string) (string, error) {
	switch {
	case c.PodAddress != "":
		return c.PodAddress, nil
	case len(advertised) == 0:
		return "", errors.New("--pod-address is needed: there is no client URL that other pods can reach")
	}
	u, err := url.Parse(advertised[0])
	switch {
	case err != nil:
		return "", fmt.Errorf("--pod-address is needed: %w", err)
	case u.Scheme == "unix":
		return advertised[0], nil
	case len(c.AdvertiseClientURLs) > 0 || !c.listensEverywhere():
		return u.Host, nil
	}
	return net.JoinHostPort(hostAddress(), u.Port()), nil
}

// listensEverywhere reports whether the first client URL is bound to all addresses of the host.
func (c Config) listensEverywhere() bool {
	u, err := url.Parse(c.ListenClientURLs[0])
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "" || ip != nil && ip.IsUnspecified()
}

// hostAddress is the first address of this host that others may reach, or localhost.
func hostAddress() string {
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

// Reasons of flags that mean nothing to pods.
const (
	noteNoDisk  = "the data is in FoundationDB, which has limits of its own"
	noteNoHub   = "only watchhub pods hold watches"
	noteNoWrite = "only kv pods take writes of clients"
)

// Program is the command line of a process of kind k. Its flags that are not etcd's go to c.
func Program(k Kind, c *Config) server.Program {
	if !k.shared() {
		return server.Standalone
	}
	p := server.Program{
		AnyStreams: true,
		Name:       k.program(),
		About:      about[k],
		Ignored: map[string]string{
			"quota-backend-bytes": noteNoDisk, "cache-bytes": noteNoDisk, "memtable-bytes": noteNoDisk, "disk-reserve-bytes": noteNoDisk,
		},
		Flags: []server.Flag{
			text("store", c.Store, "The store that the pods share: foundationdb.", &c.Store),
			text("fdb-cluster-file", c.FDBClusterFile, "FoundationDB's cluster file. Default: FoundationDB's own.", &c.FDBClusterFile),
			text("fdb-tls-certificate-file", "", "Certificate (PEM, with its chain) for TLS to FoundationDB, where the cluster file asks for TLS. Default: libfdb_c's own, FDB_TLS_CERTIFICATE_FILE.", &c.FDBTLS.CertFile),
			text("fdb-tls-key-file", "", "Key (PEM) of the certificate. The password of an encrypted one is taken from "+fdbTLSPasswordEnv+".", &c.FDBTLS.KeyFile),
			text("fdb-tls-ca-file", "", "Certificates (PEM) of the authorities that sign FoundationDB's. Default: FDB_TLS_CA_FILE.", &c.FDBTLS.CAFile),
			text("fdb-tls-verify-peers", "", "FoundationDB's criteria for its servers' certificates, such as Check.Valid=1,S.O=Example.", &c.FDBTLS.VerifyPeers),
			text("fdb-root", c.FDBRoot, "Prefix of all rows of this deployment.", &c.FDBRoot),
			text("keyspace", c.Keyspace, "The keyspace that is served; it is created if it does not exist.", &c.Keyspace),
			text("nats-url", c.NATSURL, "Comma-separated URLs of NATS. Without, watchhub pods follow the log in FoundationDB, each by itself.", &c.NATSURL),
			list("kv-endpoints", "Comma-separated host:port of kv pods; a host may be a name with several addresses.", &c.KVEndpoints),
			list("watchhub-endpoints", "As --kv-endpoints, of watchhub pods.", &c.WatchHubEndpoints),
			list("leasekeeper-endpoints", "As --kv-endpoints, of leasekeeper pods.", &c.LeaseKeeperEndpoints),
			number("lanes", c.Lanes, "Group commits in flight at a time.", &c.Lanes),
			text("pod-address", "", "host:port at which pods of the same kind reach this one. Default: the first of --advertise-client-urls, or the address listened on.", &c.PodAddress),
			duration("shutdown-delay", c.ShutdownDelay, "Time between readiness off and the end of service, for load balancers to notice.", &c.ShutdownDelay),
		},
	}
	if k != WatchHub {
		p.Ignored["data-dir"] = "the pod keeps nothing on disk"
		for _, f := range []string{"watch-history-bytes", "watch-progress-notify-interval", "max-watch-streams", "max-watches", "max-watch-streams-per-connection", "max-watches-per-connection"} {
			p.Ignored[f] = noteNoHub
		}
	}
	if k != KV {
		for _, f := range []string{"auto-compaction-mode", "auto-compaction-retention", "max-txn-ops", "activate-features", "max-answer-bytes"} {
			p.Ignored[f] = noteNoWrite
		}
	}
	return p
}

var about = map[Kind]string{
	KV:          "Start a kv pod of a distributed Headwater: it answers etcd's whole v3 API, and owns reads, writes and maintenance.",
	WatchHub:    "Start a watchhub pod of a distributed Headwater: it answers etcd's whole v3 API, and owns watches.",
	LeaseKeeper: "Start a leasekeeper pod of a distributed Headwater: it answers etcd's whole v3 API, and owns leases.",
}

func text(name, def, help string, to *string) server.Flag {
	return server.Flag{Name: name, Default: def, Help: help, Set: func(v string) error { *to = v; return nil }}
}

func list(name, help string, to *[]string) server.Flag {
	return server.Flag{Name: name, Help: help, Set: func(v string) error { *to = server.SplitList(v); return nil }}
}

func number(name string, def int, help string, to *int) server.Flag {
	return server.Flag{Name: name, Default: strconv.Itoa(def), Help: help, Set: func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return errors.New("not a whole number")
		}
		*to = n
		return nil
	}}
}

func duration(name string, def time.Duration, help string, to *time.Duration) server.Flag {
	return server.Flag{Name: name, Default: def.String(), Help: help, Set: func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return errors.New("not a duration such as 10s or 5m")
		}
		*to = d
		return nil
	}}
}
