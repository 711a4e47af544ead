package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headwaterdb/headwater/libs/compactor"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/tracing"
)

// Config is the configuration of a process, as flags and environment variables give it. Default returns the defaults. A
// comment names the flag of a field whose name does not tell it.
type Config struct {
	ConfigFile string // the file with all settings; "": flags and environment have them
	Name       string
	DataDir    string // "": Name + DataDirSuffix

	ListenClientURLs     []string
	ListenClientHTTPURLs []string // HTTP moves here from ListenClientURLs if not empty
	AdvertiseClientURLs  []string // none: the URLs listened on
	AdvertisePeerURLs    []string // --initial-advertise-peer-urls
	ListenMetricsURLs    []string
	// ListenAdminURLs are the URLs of the admin API. If there are none, AdminURLs says where it is.
	ListenAdminURLs []string
	// ListenStatusURLs are the URLs that serve the status page alone. The listeners of the admin API serve it too.
	ListenStatusURLs []string

	ClientTLS, PeerTLS           TLS
	CipherSuites                 []string
	TLSMinVersion, TLSMaxVersion string
	SelfSignedCertValidity       uint // years
	// The names in a client certificate that may use the admin API over TLS.
	AdminCertAllowedCNs, AdminCertAllowedHostnames []string

	MaxRequestBytes      int
	MaxTxnOps            int
	MaxConcurrentStreams uint32

	KeepaliveMinTime  time.Duration // --grpc-keepalive-min-time
	KeepaliveInterval time.Duration // --grpc-keepalive-interval; 0: off
	KeepaliveTimeout  time.Duration // --grpc-keepalive-timeout; 0: off

	MaxConnectionAge      time.Duration // 0: no bound
	MaxConnectionAgeGrace time.Duration

	AutoCompactionMode      string
	AutoCompactionRetention string // as compactor.Parse takes it

	QuotaBackendBytes           int64 // 0: no quota, only the disk bounds the store
	WatchProgressNotifyInterval time.Duration
	WarningUnaryRequestDuration time.Duration

	LogLevel   string
	LogFormat  string // json or console
	LogOutputs []string
	// LogRotate and LogRotation are --enable-log-rotation and --log-rotation-config-json.
	LogRotate   bool
	LogRotation string

	Tracing tracing.Options // --enable-distributed-tracing, --distributed-tracing-…

	EnablePprof       bool
	ExtensiveMetrics  bool // --metrics=extensive
	HostWhitelist     []string
	EnableGRPCGateway bool // --enable-grpc-gateway
	CORS              []string
	CacheBytes        int64         // --cache-bytes; 0: the engine's default
	MemTableBytes     int64         // --memtable-bytes; 0: the engine's default
	DiskReserveBytes  int64         // --disk-reserve-bytes; 0: the engine's default, negative: no check
	ValueFiles        ValueFiles    // --value-files
	SnapshotDir       string        // --snapshot-dir; "": the data directory, or the system's for temporary files
	KeyspaceDomain    string        // --keyspace-domain; "": hosts say nothing
	UserAtKeyspace    bool          // --user-at-keyspace
	KeyspaceIdle      time.Duration // --keyspace-idle; 0: keyspaces are never closed
	WatchHistoryBytes int64         // --watch-history-bytes; 0: the hub's default
	// ActivateFeatures are features of the keyspace's rows that the process activates when it starts. They stay active.
	ActivateFeatures mvcc.Features
	MaxAnswerBytes   int64 // --max-answer-bytes

	AuthToken    string        // --auth-token: the kind of tokens, with its options
	AuthTokenTTL time.Duration // --auth-token-ttl
	BcryptCost   int           // --bcrypt-cost; outside bcrypt's bounds: bcrypt's default
	// The most watch streams and watches that may be open, in all and per client connection. 0: no bound.
	MaxWatchStreams, MaxWatches               int // --max-watch-streams, --max-watches
	MaxWatchStreamsPerConn, MaxWatchesPerConn int // --max-watch-streams-per-connection, --max-watches-per-connection

	// MetricsKeyspaces are the keyspaces that have metrics of their own.
	MetricsKeyspaces MetricsKeyspaces

	Pod // used by pods only
}

// DefaultMaxStreams is how many streams a client connection may have open, including calls under way. If all of them
// are watches, they take some 190 MB of memory. Real clients open a hundredth of that. (etcd has no bound.)
const DefaultMaxStreams = 10_000

// DefaultMaxConnectionAgeGrace is how long calls may go on after their connection has reached --max-connection-age.
// Every call that is not a stream ends sooner.
const DefaultMaxConnectionAgeGrace = 30 * time.Second

// DataDirSuffix follows the name in the default data directory. It differs from etcd's ".etcd", so that a Headwater
// that is started in the place of an etcd never meets that etcd's files.
const DataDirSuffix = ".headwater"

// Dir returns the data directory.
func (c Config) Dir() string {
	if c.DataDir == "" {
		return c.Name + DataDirSuffix
	}
	return c.DataDir
}

// Default returns the configuration of a process of kind k without flags. Where etcd has a default, it is etcd's.
func Default(k Kind) Config {
	c := Config{
		Name:                        "default",
		ListenClientURLs:            []string{"http://localhost:2379"},
		MaxRequestBytes:             3 << 19, // 1.5 MiB
		MaxTxnOps:                   128,
		MaxAnswerBytes:              512 << 20,
		AuthToken:                   "simple",
		AuthTokenTTL:                300 * time.Second,
		BcryptCost:                  10,
		MaxConcurrentStreams:        DefaultMaxStreams,
		KeepaliveMinTime:            5 * time.Second,
		KeepaliveInterval:           2 * time.Hour,
		KeepaliveTimeout:            20 * time.Second,
		MaxConnectionAgeGrace:       DefaultMaxConnectionAgeGrace,
		TLSMinVersion:               "TLS1.2",
		SelfSignedCertValidity:      1,
		AutoCompactionMode:          compactor.ModePeriodic,
		AutoCompactionRetention:     "0",
		KeyspaceIdle:                10 * time.Minute,
		WatchProgressNotifyInterval: 10 * time.Minute,
		WarningUnaryRequestDuration: 300 * time.Millisecond,
		LogLevel:                    "info",
		LogFormat:                   "json",
		LogOutputs:                  []string{server.LogDefault},
		LogRotation:                 server.LogRotation,
		Tracing:                     tracing.Options{Address: "localhost:4317", ServiceName: "etcd"},
		HostWhitelist:               []string{"*"},
		EnableGRPCGateway:           true,
		AdvertisePeerURLs:           []string{defaultPeerURL},
		CORS:                        []string{"*"},
	}
	if k.IsPod() {
		c.MaxConcurrentStreams = streamsOfPods
		c.Pod = Pod{Store: StoreFoundationDB, FDBRoot: DefaultRoot, Keyspace: DefaultKeyspace, Lanes: DefaultLanes}
	}
	return c
}

// maxRequestBytesMax is the largest --max-request-bytes. The layers below can address a request of this size, its log
// entry and its rows.
const maxRequestBytesMax = 1 << 30

// watchProgressMin is the shortest interval between progress notifications that etcd allows.
const watchProgressMin = 100 * time.Millisecond

// Validate checks what Parse cannot check flag by flag, for a process of kind k. Its error names the flag.
func (c Config) Validate(k Kind) error {
	if err := c.validateSockets(); err != nil {
		return err
	}
	if err := c.validateTLS(k); err != nil {
		return err
	}
	if err := c.validateLimits(); err != nil {
		return err
	}
	if _, err := compactor.Parse(c.AutoCompactionMode, c.AutoCompactionRetention); err != nil {
		return fmt.Errorf("--%w", err)
	}
	if err := c.LogOptions().Validate(); err != nil {
		return err
	}
	if err := c.Tracing.Validate(); err != nil {
		return err
	}
	if !k.IsPod() {
		return nil
	}
	return c.validatePod(k)
}

// Sockets returns the plain sockets that c asks for. The caller adds TLS.
func (c Config) Sockets() server.Sockets {
	return server.Sockets{
		Client: c.ListenClientURLs, HTTP: c.ListenClientHTTPURLs, Metrics: c.ListenMetricsURLs,
		Peer: c.ListenPeerURLs, Advertise: c.AdvertiseClientURLs,
	}
}

// AdminNone as the only one of ListenAdminURLs says that there is no admin API.
const AdminNone = "none"

// AdminSocket is the name of the admin API's default socket. It is in the data directory.
const AdminSocket = "admin.sock"

// AdminURLs returns the URLs at which a process of kind k serves the admin API. byDefault says that no flag has set
// them. By default a standalone server has a socket in its data directory, and a pod has no admin API.
func (c Config) AdminURLs(k Kind) (urls []string, byDefault bool, err error) {
	switch {
	case slices.Equal(c.ListenAdminURLs, []string{AdminNone}):
		return nil, false, nil
	case len(c.ListenAdminURLs) > 0:
		return c.ListenAdminURLs, false, nil
	case k.IsPod():
		return nil, true, nil
	}
	dir, err := filepath.Abs(c.Dir())
	if err != nil {
		return nil, true, err
	}
	return []string{(&url.URL{Scheme: "unix", Path: filepath.Join(dir, AdminSocket)}).String()}, true, nil
}

// LogOptions returns the options of the process's logs.
func (c Config) LogOptions() server.LogOptions {
	return server.LogOptions{
		Level: c.LogLevel, Format: c.LogFormat, Outputs: c.LogOutputs, Rotate: c.LogRotate, Rotation: c.LogRotation,
	}
}

func (c Config) validateSockets() error {
	if c.Name == "" {
		return fmt.Errorf("--name must not be empty")
	}
	if len(c.ListenClientURLs) == 0 {
		return fmt.Errorf("--listen-client-urls must not be empty")
	}
	for flag, urls := range map[string][]string{
		"listen-client-urls":      c.ListenClientURLs,
		"listen-client-http-urls": c.ListenClientHTTPURLs,
		"listen-metrics-urls":     c.ListenMetricsURLs,
		"listen-admin-urls":       c.ListenAdminURLs,
		"listen-status-urls":      c.ListenStatusURLs,
		"listen-peer-urls":        c.ListenPeerURLs,
	} {
		if flag == "listen-admin-urls" && slices.Equal(urls, []string{AdminNone}) {
			continue
		}
		for _, u := range urls {
			if err := server.CheckListenURL(u); err != nil {
				return fmt.Errorf("--%s: %w", flag, err)
			}
		}
	}
	for flag, urls := range map[string][]string{
		"advertise-client-urls": c.AdvertiseClientURLs, "initial-advertise-peer-urls": c.AdvertisePeerURLs,
	} {
		for _, u := range urls {
			if p, err := url.Parse(u); err != nil || p.Scheme == "" || p.Host == "" && p.Path == "" && p.Opaque == "" {
				return fmt.Errorf("--%s: %q is not a URL", flag, u)
			}
		}
	}
	return nil
}

// defaultPeerURL is etcd's.
const defaultPeerURL = "http://localhost:2380"

func (c Config) validateLimits() error {
	if c.MaxRequestBytes < 1 || c.MaxRequestBytes > maxRequestBytesMax {
		return fmt.Errorf("--max-request-bytes must be 1 to %d", maxRequestBytesMax)
	}
	if c.MaxTxnOps < 1 {
		return fmt.Errorf("--max-txn-ops must be at least 1")
	}
	if c.MaxConcurrentStreams == 0 {
		return fmt.Errorf("--max-concurrent-streams must be at least 1")
	}
	if c.WatchProgressNotifyInterval < watchProgressMin {
		return fmt.Errorf("--watch-progress-notify-interval must be at least %v", watchProgressMin)
	}
	return nil
}

// splitList splits the value of a comma-separated flag. It drops empty parts.
func splitList(v string) []string {
	var parts []string
	for p := range strings.SplitSeq(v, ",") {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	return parts
}
