package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
)

// flagKind says what becomes of a flag.
type flagKind int

const (
	works   flagKind = iota // means here what it means in etcd
	ignored                 // means nothing here and does no harm
)

// flagDef is one flag.
type flagDef struct {
	group, name, def string
	kind             flagKind
	isBool           bool // may stand without a value
	isDuration       bool // a whole number of nanoseconds in a configuration file
	help             string
	note             string                      // why it is ignored
	takes            kinds                       // the kinds of processes that take it
	elsewhere        string                      // why the others ignore it; "": they do not know it
	podDef           *string                     // the default of pods, if that is another
	set              func(*Config, string) error // works
}

// Groups of --help; those of etcd.
const (
	groupMember     = "Member"
	groupClustering = "Clustering"
	groupSecurity   = "Security"
	groupAuth       = "Auth"
	groupMonitoring = "Profiling and Monitoring"
	groupLogging    = "Logging"
	groupTracing    = "Distributed tracing"
	groupFeatures   = "Features"
	groupUnsafe     = "Unsafe feature"
	groupOwn        = "Headwater"
	groupPods       = "Headwater pods"
)

// Reasons that several flags share.
const (
	noteRaft    = "there is no raft"
	notePeers   = "there are no peers"
	noteBbolt   = "there is no bbolt file"
	noteNoDisk  = "the data is in FoundationDB, which has limits of its own"
	noteNoFiles = "the pod keeps nothing on disk"
	noteNoHub   = "only watchhub pods hold watches"
	noteNoWrite = "only kv pods take writes of clients"
	noteLeases  = "the time that a lease has left is not kept: after a start, or under a new owner, it has its full time again, as in etcd without the flag"
)

// noteObsolete is the reason of names that etcd has had long ago.
const noteObsolete = "etcd accepts it for old command lines, and does nothing with it either"

// flagTable is every flag of every kind of process: all of etcd 3.7 in the order of its help, and our own after them.
// A row says what a flag means where it is taken; rows without only are of all kinds.
var flagTable = []flagDef{
	str(groupMember, "name", "default", "Human-readable name of this member, as MemberList shows it.", func(c *Config) *string { return &c.Name }),
	str(groupMember, "data-dir", "${name}"+DataDirSuffix, "Path to the data directory.", func(c *Config) *string { return &c.DataDir }).only(onStandalone|onWatchHub, noteNoFiles).onPods(""),
	ignore(groupMember, "wal-dir", "", "the write-ahead log is in the data directory"),
	ignore(groupMember, "snapshot-count", "10000", noteRaft),
	ignore(groupMember, "heartbeat-interval", "100", noteRaft),
	ignore(groupMember, "election-timeout", "1000", noteRaft),
	ignoreBool(groupMember, "initial-election-tick-advance", "true", noteRaft),
	list(groupMember, "listen-peer-urls", "http://localhost:2380", "Comma-separated URLs to serve other pods on, in the form of --listen-client-urls. Default: other pods connect to the client URLs.", func(c *Config) *[]string { return &c.ListenPeerURLs }).only(onPods, notePeers).onPods(""),
	list(groupMember, "listen-client-urls", "http://localhost:2379", "Comma-separated URLs to serve clients on, gRPC and HTTP: http://host:port or unix://path, with TLS https://host:port or unixs://path. Port 0 picks a free port.", func(c *Config) *[]string { return &c.ListenClientURLs }),
	list(groupMember, "listen-client-http-urls", "", "Comma-separated URLs to serve HTTP clients on. With it --listen-client-urls serves gRPC only.", func(c *Config) *[]string { return &c.ListenClientHTTPURLs }),
	ignore(groupMember, "max-snapshots", "5", noteRaft),
	ignore(groupMember, "max-wals", "5", noteRaft),
	ignoreBool(groupMember, "memory-mlock", "false", noteBbolt),
	number(groupMember, "quota-backend-bytes", "0", "Size of the store in bytes above which writes that make it grow are refused (alarm NOSPACE). 0 or less: no quota, only the disk bounds it.", math.MinInt64, math.MaxInt64, func(c *Config, v int64) { c.QuotaBackendBytes = v }).only(onStandalone, noteNoDisk),
	ignore(groupMember, "backend-bbolt-freelist-type", "map", noteBbolt),
	ignore(groupMember, "backend-batch-interval", "", noteBbolt),
	ignore(groupMember, "backend-batch-limit", "0", noteBbolt),
	number(groupMember, "max-txn-ops", "128", "Maximum number of operations permitted in a transaction.", 0, math.MaxInt32, func(c *Config, v int64) { c.MaxTxnOps = int(v) }).only(onStandalone|onKV, noteNoWrite),
	number(groupMember, "max-request-bytes", "1572864", "Maximum client request size in bytes the server will accept.", 0, math.MaxUint32, func(c *Config, v int64) { c.MaxRequestBytes = int(v) }),
	number(groupMember, "max-concurrent-streams", strconv.Itoa(DefaultMaxStreams), "Maximum concurrent streams that each client connection can open at a time (0: no bound).", 0, math.MaxUint32, func(c *Config, v int64) { c.MaxConcurrentStreams = uint32(v) }).onPods(strconv.Itoa(streamsOfPods)),
	duration(groupMember, "grpc-keepalive-min-time", "5s", "Minimum interval that a client should wait before pinging the server.", func(c *Config) *time.Duration { return &c.KeepaliveMinTime }),
	duration(groupMember, "grpc-keepalive-interval", "2h", "Interval of server-to-client pings that check whether a connection is alive (0 to disable).", func(c *Config) *time.Duration { return &c.KeepaliveInterval }),
	duration(groupMember, "grpc-keepalive-timeout", "20s", "Additional wait before a connection that does not answer is closed (0 to disable).", func(c *Config) *time.Duration { return &c.KeepaliveTimeout }),
	ignoreBool(groupMember, "socket-reuse-port", "false", "two servers never share a data directory"),
	ignoreBool(groupMember, "socket-reuse-address", "false", "Go sets SO_REUSEADDR already"),
	boolean(groupMember, "enable-grpc-gateway", "true", "Serve the API as JSON over HTTP, at /v3/.", func(c *Config) *bool { return &c.EnableGRPCGateway }),
	ignore(groupMember, "raft-read-timeout", "5s", noteRaft),
	ignore(groupMember, "raft-write-timeout", "5s", noteRaft),
	ignore(groupMember, "feature-gates", "", "etcd's feature gates are about its own insides"),

	list(groupClustering, "initial-advertise-peer-urls", defaultPeerURL, "Comma-separated peer URLs that MemberList shows. The server does not listen there.", func(c *Config) *[]string { return &c.AdvertisePeerURLs }).only(onStandalone|onKV, notePeers),
	ignore(groupClustering, "initial-cluster", "default=http://localhost:2380", notePeers),
	ignore(groupClustering, "initial-cluster-state", "new", notePeers),
	ignore(groupClustering, "initial-cluster-token", "etcd-cluster", notePeers),
	list(groupClustering, "advertise-client-urls", "", "Comma-separated client URLs that MemberList shows. Default: the URLs that the process listens on.", func(c *Config) *[]string { return &c.AdvertiseClientURLs }),
	ignore(groupClustering, "discovery", "", notePeers),
	ignore(groupClustering, "discovery-token", "", notePeers),
	ignore(groupClustering, "discovery-endpoints", "", notePeers),
	ignore(groupClustering, "discovery-dial-timeout", "2s", notePeers),
	ignore(groupClustering, "discovery-request-timeout", "5s", notePeers),
	ignore(groupClustering, "discovery-keepalive-time", "2s", notePeers),
	ignore(groupClustering, "discovery-keepalive-timeout", "6s", notePeers),
	ignoreBool(groupClustering, "discovery-insecure-transport", "true", notePeers),
	ignoreBool(groupClustering, "discovery-insecure-skip-tls-verify", "false", notePeers),
	ignore(groupClustering, "discovery-cert", "", notePeers),
	ignore(groupClustering, "discovery-key", "", notePeers),
	ignore(groupClustering, "discovery-cacert", "", notePeers),
	ignore(groupClustering, "discovery-user", "", notePeers),
	ignore(groupClustering, "discovery-password", "", notePeers),
	ignore(groupClustering, "discovery-fallback", "exit", notePeers),
	ignore(groupClustering, "discovery-proxy", "", notePeers),
	ignore(groupClustering, "discovery-srv", "", notePeers),
	ignore(groupClustering, "discovery-srv-name", "", notePeers),
	ignoreBool(groupClustering, "strict-reconfig-check", "true", notePeers),
	ignoreBool(groupClustering, "pre-vote", "true", noteRaft),
	str(groupClustering, "auto-compaction-retention", "0", "Auto compaction retention: hours or a duration in mode periodic, a number of revisions in mode revision. 0 disables auto compaction.", func(c *Config) *string { return &c.AutoCompactionRetention }).only(onStandalone|onKV, noteNoWrite),
	str(groupClustering, "auto-compaction-mode", "periodic", "How to read --auto-compaction-retention: periodic or revision.", func(c *Config) *string { return &c.AutoCompactionMode }).only(onStandalone|onKV, noteNoWrite),
	ignore(groupClustering, "v2-deprecation", "write-only", "there is no v2 store"),

	str(groupSecurity, "cert-file", "", "Path to the client server TLS cert file.", func(c *Config) *string { return &c.ClientTLS.CertFile }),
	str(groupSecurity, "key-file", "", "Path to the client server TLS key file.", func(c *Config) *string { return &c.ClientTLS.KeyFile }),
	boolean(groupSecurity, "client-cert-auth", "false", "Enable client cert authentication.", func(c *Config) *bool { return &c.ClientTLS.ClientCertAuth }),
	str(groupSecurity, "client-cert-file", "", "Path to the certificate that the pod shows to other pods if no --peer-… flag gives one. Default: --cert-file.", func(c *Config) *string { return &c.ClientTLS.ClientCertFile }),
	str(groupSecurity, "client-key-file", "", "Path to the key of --client-cert-file.", func(c *Config) *string { return &c.ClientTLS.ClientKeyFile }),
	str(groupSecurity, "client-crl-file", "", "Path to the client certificate revocation list file, DER or PEM.", func(c *Config) *string { return &c.ClientTLS.CRLFile }),
	list(groupSecurity, "client-cert-allowed-hostname", "", "Comma-separated list of SAN hostnames for client cert authentication.", func(c *Config) *[]string { return &c.ClientTLS.AllowedHostnames }),
	str(groupSecurity, "trusted-ca-file", "", "Path to the client server TLS trusted CA cert file. Clients must have a certificate of this CA.", func(c *Config) *string { return &c.ClientTLS.TrustedCAFile }),
	boolean(groupSecurity, "auto-tls", "false", "Client TLS using generated certificates, kept in the data directory.", func(c *Config) *bool { return &c.ClientTLS.Auto }),
	str(groupSecurity, "peer-cert-file", "", "Path to the certificate of --listen-peer-urls.", func(c *Config) *string { return &c.PeerTLS.CertFile }).only(onPods, notePeers),
	str(groupSecurity, "peer-key-file", "", "Path to the key of --peer-cert-file.", func(c *Config) *string { return &c.PeerTLS.KeyFile }).only(onPods, notePeers),
	boolean(groupSecurity, "peer-client-cert-auth", "false", "Ask other pods for a certificate even without --peer-trusted-ca-file.", func(c *Config) *bool { return &c.PeerTLS.ClientCertAuth }).only(onPods, notePeers),
	str(groupSecurity, "peer-client-cert-file", "", "Path to the certificate that the pod shows to other pods. Default: --peer-cert-file.", func(c *Config) *string { return &c.PeerTLS.ClientCertFile }).only(onPods, notePeers),
	str(groupSecurity, "peer-client-key-file", "", "Path to the key of --peer-client-cert-file.", func(c *Config) *string { return &c.PeerTLS.ClientKeyFile }).only(onPods, notePeers),
	str(groupSecurity, "peer-trusted-ca-file", "", "Path to the authorities of other pods' certificates. A pod that connects must have a certificate of one of them.", func(c *Config) *string { return &c.PeerTLS.TrustedCAFile }).only(onPods, notePeers),
	list(groupSecurity, "peer-cert-allowed-cn", "", "Comma-separated list of CNs that other pods' certificates may have. The pod believes these pods when they say who a client is.", func(c *Config) *[]string { return &c.PeerTLS.AllowedCNs }).only(onPods, notePeers),
	list(groupSecurity, "peer-cert-allowed-hostname", "", "Like --peer-cert-allowed-cn, for SAN hostnames.", func(c *Config) *[]string { return &c.PeerTLS.AllowedHostnames }).only(onPods, notePeers),
	boolean(groupSecurity, "peer-auto-tls", "false", "Refused by pods: generated certificates identify nobody.", func(c *Config) *bool { return &c.PeerTLS.Auto }).only(onPods, notePeers),
	number(groupSecurity, "self-signed-cert-validity", "1", "Validity of the certificate that --auto-tls makes, in years.", 0, selfSignedYearsMax, func(c *Config, v int64) { c.SelfSignedCertValidity = uint(v) }),
	str(groupSecurity, "peer-crl-file", "", "Path to the revocation list for other pods' certificates, DER or PEM.", func(c *Config) *string { return &c.PeerTLS.CRLFile }).only(onPods, notePeers),
	list(groupSecurity, "cipher-suites", "", "Comma-separated list of supported TLS cipher suites between client/server and pods (empty will be auto-populated by Go).", func(c *Config) *[]string { return &c.CipherSuites }),
	list(groupSecurity, "cors", "*", "Comma-separated origins that browsers may call from (empty or * means all).", func(c *Config) *[]string { return &c.CORS }),
	list(groupSecurity, "host-whitelist", "*", "Comma-separated host names that HTTP requests may ask for (empty or * means all).", func(c *Config) *[]string { return &c.HostWhitelist }),
	str(groupSecurity, "tls-min-version", "TLS1.2", "Minimum TLS version supported: TLS1.2 or TLS1.3.", func(c *Config) *string { return &c.TLSMinVersion }),
	str(groupSecurity, "tls-max-version", "", "Maximum TLS version supported: TLS1.2 or TLS1.3 (empty will be auto-populated by Go).", func(c *Config) *string { return &c.TLSMaxVersion }),

	str(groupAuth, "auth-token", "simple", "Kind of tokens: simple, or jwt with options, such as jwt,pub-key=file,priv-key=file,sign-method=RS256,ttl=10m.", func(c *Config) *string { return &c.AuthToken }),
	number(groupAuth, "bcrypt-cost", "10", "Cost of the hashes of passwords, 4 to 31.", math.MinInt32, math.MaxInt32, func(c *Config, v int64) { c.BcryptCost = int(v) }).only(onStandalone|onKV, noteNoWrite),
	number(groupAuth, "auth-token-ttl", "300", "Time in seconds for which a simple token is good after it was made. It is at least a day.", 0, math.MaxInt32, func(c *Config, v int64) { c.AuthTokenTTL = time.Duration(v) * time.Second }),

	boolean(groupMonitoring, "enable-pprof", "false", "Serve runtime profiles at client URL + \"/debug/pprof/\".", func(c *Config) *bool { return &c.EnablePprof }),
	choice(groupMonitoring, "metrics", "basic", "basic, or extensive to add histograms of gRPC latency.", []string{"basic", "extensive"}, func(c *Config, v string) { c.ExtensiveMetrics = v == "extensive" }),
	list(groupMonitoring, "listen-metrics-urls", "", "Comma-separated URLs to serve /metrics and the health endpoints on as well.", func(c *Config) *[]string { return &c.ListenMetricsURLs }),

	choice(groupLogging, "logger", "zap", "Accepted because etcd has it. Logs always have zap's form.", []string{"zap"}, func(*Config, string) {}),
	list(groupLogging, "log-outputs", server.LogDefault, "Comma-separated: stdout, stderr (default), or file paths.", func(c *Config) *[]string { return &c.LogOutputs }),
	str(groupLogging, "log-level", "info", "debug, info, warn, error, panic or fatal.", func(c *Config) *string { return &c.LogLevel }),
	str(groupLogging, "log-format", "json", "json or console.", func(c *Config) *string { return &c.LogFormat }),
	boolean(groupLogging, "enable-log-rotation", "false", "Rotate the one file in --log-outputs.", func(c *Config) *bool { return &c.LogRotate }),
	str(groupLogging, "log-rotation-config-json", server.LogRotation, "How the file is rotated: maxsize in MB, maxage in days, maxbackups (0: all are kept), localtime, compress.", func(c *Config) *string { return &c.LogRotation }),
	duration(groupLogging, "warning-unary-request-duration", "300ms", "Unary requests that take longer are logged (0 to disable).", func(c *Config) *time.Duration { return &c.WarningUnaryRequestDuration }),

	boolean(groupTracing, "enable-distributed-tracing", "false", "Send OpenTelemetry spans of requests to a collector.", func(c *Config) *bool { return &c.Tracing.Enabled }),
	str(groupTracing, "distributed-tracing-address", "localhost:4317", "host:port at which the collector takes OTLP over gRPC, without TLS.", func(c *Config) *string { return &c.Tracing.Address }),
	str(groupTracing, "distributed-tracing-service-name", "etcd", "Name of the service in spans.", func(c *Config) *string { return &c.Tracing.ServiceName }),
	str(groupTracing, "distributed-tracing-instance-id", "", "Id of this instance of the service in spans.", func(c *Config) *string { return &c.Tracing.InstanceID }),
	number(groupTracing, "distributed-tracing-sampling-rate", "0", "How many of a million requests are sampled if their clients send no span. A request with a span is sampled if that span is.", math.MinInt32, math.MaxInt32, func(c *Config, v int64) { c.Tracing.PerMillion = int(v) }),

	ignore(groupFeatures, "corrupt-check-time", "0s", notePeers),
	ignore(groupFeatures, "compact-hash-check-time", "1m", notePeers),
	ignoreBool(groupFeatures, "compact-hash-check-enabled", "false", notePeers),
	ignoreBool(groupFeatures, "initial-corrupt-check", "false", notePeers),
	ignore(groupFeatures, "compaction-batch-limit", "1000", "compaction does not stop writers"),
	ignoreBool(groupFeatures, "peer-skip-client-san-verification", "false", notePeers),
	duration(groupFeatures, "watch-progress-notify-interval", "10m", "Interval of watch progress notifications.", func(c *Config) *time.Duration { return &c.WatchProgressNotifyInterval }).only(onStandalone|onWatchHub, noteNoHub),
	ignore(groupFeatures, "warning-apply-duration", "100ms", noteRaft),
	ignore(groupFeatures, "bootstrap-defrag-threshold-megabytes", "0", noteBbolt),
	ignore(groupFeatures, "max-learners", "1", notePeers),
	ignore(groupFeatures, "compaction-sleep-interval", "10ms", "compaction does not stop writers"),
	ignore(groupFeatures, "downgrade-check-time", "5s", noteRaft),
	ignore(groupFeatures, "snapshot-catchup-entries", "5000", noteRaft),
	ignoreBool(groupFeatures, "enable-lease-checkpoint", "false", noteLeases),
	ignoreBool(groupFeatures, "enable-lease-checkpoint-persist", "false", noteLeases),
	ignoreBool(groupFeatures, "stop-grpc-service-on-defrag", "false", "defragmentation never blocks"),
	ignoreBool(groupFeatures, "txn-mode-write-with-shared-buffer", "true", noteBbolt),

	ignoreBool(groupUnsafe, "force-new-cluster", "false", notePeers),
	ignoreBool(groupUnsafe, "unsafe-no-fsync", "false", "writes are always synced to disk"),

	ignoreBool(groupUnsafe, "cluster-active-size", "", noteObsolete),
	ignoreBool(groupUnsafe, "cluster-remove-delay", "", noteObsolete),
	ignoreBool(groupUnsafe, "cluster-sync-interval", "", noteObsolete),
	ignoreBool(groupUnsafe, "config", "", noteObsolete),
	ignoreBool(groupUnsafe, "force", "", noteObsolete),
	ignoreBool(groupUnsafe, "max-result-buffer", "", noteObsolete),
	ignoreBool(groupUnsafe, "max-retry-attempts", "", noteObsolete),
	ignoreBool(groupUnsafe, "peer-heartbeat-interval", "", noteObsolete),
	ignoreBool(groupUnsafe, "peer-election-timeout", "", noteObsolete),
	ignoreBool(groupUnsafe, "retry-interval", "", noteObsolete),
	ignoreBool(groupUnsafe, "snapshot", "", noteObsolete),
	ignoreBool(groupUnsafe, "v", "", noteObsolete),
	ignoreBool(groupUnsafe, "vv", "", noteObsolete),

	str(groupMember, configFileFlag, "", "File with all settings, in the form of etcd's (YAML with the names of flags). Other flags and environment variables are ignored then, and one warning names them.", func(c *Config) *string { return &c.ConfigFile }),

	number(groupOwn, "cache-bytes", "0", "Size of the block cache in bytes. 0: the engine's default (128 MiB).", 0, math.MaxInt64, func(c *Config, v int64) { c.CacheBytes = v }).only(onStandalone, noteNoDisk),
	number(groupOwn, "memtable-bytes", "0", "Size in bytes at which the engine writes new data out as a table. 0: the engine's default (16 MiB).", 0, math.MaxInt64, func(c *Config, v int64) { c.MemTableBytes = v }).only(onStandalone, noteNoDisk),
	number(groupOwn, "disk-reserve-bytes", "0", "Free disk space in bytes below which the server refuses writes that grow the store. 0: 256 MiB, or an eighth of the disk if that is less. -1: no check.", -1, math.MaxInt64, func(c *Config, v int64) { c.DiskReserveBytes = v }).only(onStandalone, noteNoDisk),
	str(groupOwn, "snapshot-dir", "", "Directory in which Maintenance.Snapshot makes its file. Default: the data directory; on pods the directory for temporary files.", func(c *Config) *string { return &c.SnapshotDir }).only(onStandalone|onKV, "only kv pods make snapshots"),
	{
		group: groupOwn, name: "activate-features", kind: works, takes: onStandalone | onKV, elsewhere: noteNoWrite,
		help: "Comma-separated features of the data format, or all, to activate in data that an earlier release has written. From then on earlier releases cannot open the data.",
		set: func(c *Config, v string) (err error) {
			c.ActivateFeatures, err = mvcc.ParseFeatures(v)
			return err
		},
	},
	number(groupOwn, "watch-history-bytes", "0", "Memory in bytes for recent events, from which watchers catch up. 0: the hub's default.", 0, math.MaxInt64, func(c *Config, v int64) { c.WatchHistoryBytes = v }).only(onStandalone|onWatchHub, noteNoHub),
	number(groupOwn, "max-watch-streams", "0", "Watch streams that may be open. 0: no bound.", 0, math.MaxInt32, func(c *Config, v int64) { c.MaxWatchStreams = int(v) }).only(onStandalone|onWatchHub, noteNoHub),
	number(groupOwn, "max-watches", "0", "Watches that may be open. 0: no bound.", 0, math.MaxInt32, func(c *Config, v int64) { c.MaxWatches = int(v) }).only(onStandalone|onWatchHub, noteNoHub),
	number(groupOwn, "max-watch-streams-per-connection", "0", "Watch streams that one client connection may have open. 0: no bound.", 0, math.MaxInt32, func(c *Config, v int64) { c.MaxWatchStreamsPerConn = int(v) }).only(onStandalone|onWatchHub, noteNoHub),
	number(groupOwn, "max-watches-per-connection", "0", "Watches that one client connection may have open. 0: no bound.", 0, math.MaxInt32, func(c *Config, v int64) { c.MaxWatchesPerConn = int(v) }).only(onStandalone|onWatchHub, noteNoHub),
	list(groupOwn, "listen-admin-urls", "", "Comma-separated URLs to serve the admin API on, which headwaterctl calls. On unix://path or http://ip:port everybody who can connect may do everything; on https://ip:port only clients that --admin-cert-allowed-… names. Default: admin.sock in the data directory, for the server's own user only; on pods no admin API. none: no admin API.", func(c *Config) *[]string { return &c.ListenAdminURLs }),
	list(groupOwn, "listen-status-urls", "", "Comma-separated URLs to serve the status page on, and nothing else: http://ip:port, or https://ip:port with the TLS of clients. Everybody who can connect sees what the process does, and may look into keyspaces as far as access rules, users and roles allow. The admin API's listeners serve the page too.", func(c *Config) *[]string { return &c.ListenStatusURLs }),
	list(groupOwn, "admin-cert-allowed-cn", "", "Comma-separated list of CNs. Clients with such certificates may use the admin API on https:// URLs.", func(c *Config) *[]string { return &c.AdminCertAllowedCNs }),
	list(groupOwn, "admin-cert-allowed-hostname", "", "Like --admin-cert-allowed-cn, for SAN hostnames.", func(c *Config) *[]string { return &c.AdminCertAllowedHostnames }),
	duration(groupOwn, "max-connection-age", "0s", "Age, give or take a tenth, from which a client connection takes no new calls, so that clients spread over new servers (0: no limit).", func(c *Config) *time.Duration { return &c.MaxConnectionAge }),
	duration(groupOwn, "max-connection-age-grace", DefaultMaxConnectionAgeGrace.String(), "Time after --max-connection-age in which the calls of a connection may end. Then the server closes the connection, and clients resume their streams elsewhere.", func(c *Config) *time.Duration { return &c.MaxConnectionAgeGrace }),
	str(groupOwn, "keyspace-domain", "", "Domain below which the host name that a client dials names its keyspace: with etcd.example.com, team-a.etcd.example.com is the keyspace team-a. Default: host names do not name keyspaces.", func(c *Config) *string { return &c.KeyspaceDomain }),
	duration(groupOwn, "keyspace-idle", "10m", "Time after which the process closes a keyspace that nobody uses. The next request opens it again, and so does a lease that expires (0: never closed).", func(c *Config) *time.Duration { return &c.KeyspaceIdle }),
	{
		group: groupOwn, name: "metrics-keyspaces", def: metricsNone, kind: works,
		help: "Keyspaces that have metrics of their own: comma-separated names, top:N for the N busiest (at most 100), " +
			"or none.",
		set: func(c *Config, v string) (err error) {
			c.MetricsKeyspaces, err = parseMetricsKeyspaces(v)
			return err
		},
	},
	number(groupOwn, "max-answer-bytes", "536870912", "Memory in bytes for answers under way, from the time they are gathered until clients have read them. Further answers wait, and are refused after 10 s. Answers up to 2 MiB have another quarter of it for themselves. An answer that is larger than all of it goes when no other is under way.", 1<<20, math.MaxInt64/4, func(c *Config, v int64) { c.MaxAnswerBytes = v }).only(onStandalone|onKV, noteNoWrite),

	str(groupPods, "store", StoreFoundationDB, "The store that the pods share: foundationdb.", func(c *Config) *string { return &c.Store }).only(onPods, ""),
	str(groupPods, "fdb-cluster-file", "", "FoundationDB's cluster file. Default: FoundationDB's own.", func(c *Config) *string { return &c.FDBClusterFile }).only(onPods, ""),
	str(groupPods, "fdb-tls-certificate-file", "", "Certificate (PEM, with its chain) for TLS to FoundationDB, if the cluster file asks for TLS. Default: libfdb_c's own, FDB_TLS_CERTIFICATE_FILE.", func(c *Config) *string { return &c.FDBTLS.CertFile }).only(onPods, ""),
	str(groupPods, "fdb-tls-key-file", "", "Key (PEM) of the certificate. The password of an encrypted key is read from "+fdbTLSPasswordEnv+".", func(c *Config) *string { return &c.FDBTLS.KeyFile }).only(onPods, ""),
	str(groupPods, "fdb-tls-ca-file", "", "Certificates (PEM) of the authorities that sign FoundationDB's. Default: FDB_TLS_CA_FILE.", func(c *Config) *string { return &c.FDBTLS.CAFile }).only(onPods, ""),
	str(groupPods, "fdb-tls-verify-peers", "", "FoundationDB's criteria for its servers' certificates, such as Check.Valid=1,S.O=Example.", func(c *Config) *string { return &c.FDBTLS.VerifyPeers }).only(onPods, ""),
	str(groupPods, "fdb-root", DefaultRoot, "Prefix of all rows of this deployment.", func(c *Config) *string { return &c.FDBRoot }).only(onPods, ""),
	str(groupPods, "keyspace", DefaultKeyspace, "The keyspace of requests that name none. It is created if it does not exist, and has these pods to itself: other pods serve it only if they are started with the same keyspace.", func(c *Config) *string { return &c.Keyspace }).only(onPods, ""),
	str(groupPods, "nats-url", "", "Comma-separated URLs of NATS. Default: no NATS; each watchhub pod follows the log in FoundationDB by itself.", func(c *Config) *string { return &c.NATSURL }).only(onPods, ""),
	str(groupPods, "nats-trusted-ca-file", "", "Authorities (PEM) of NATS's certificate. With it the pod connects only by TLS, to a NATS with such a certificate.", func(c *Config) *string { return &c.NATS.CAFile }).only(onPods, ""),
	str(groupPods, "nats-cert-file", "", "Certificate (PEM) that the pod shows to NATS.", func(c *Config) *string { return &c.NATS.CertFile }).only(onPods, ""),
	str(groupPods, "nats-key-file", "", "Key (PEM) of --nats-cert-file.", func(c *Config) *string { return &c.NATS.KeyFile }).only(onPods, ""),
	str(groupPods, "nats-user", "", "User name for NATS.", func(c *Config) *string { return &c.NATS.User }).only(onPods, ""),
	str(groupPods, "nats-password-file", "", "File with the password of --nats-user.", func(c *Config) *string { return &c.NATS.PasswordFile }).only(onPods, ""),
	str(groupPods, "nats-token-file", "", "File with a token for NATS.", func(c *Config) *string { return &c.NATS.TokenFile }).only(onPods, ""),
	str(groupPods, "nats-nkey-file", "", "File with the seed of an nkey for NATS.", func(c *Config) *string { return &c.NATS.NkeyFile }).only(onPods, ""),
	str(groupPods, "nats-creds-file", "", "Credentials file for NATS: JWT and seed.", func(c *Config) *string { return &c.NATS.CredsFile }).only(onPods, ""),
	list(groupPods, "kv-endpoints", "", "Comma-separated host:port of kv pods; a host may be a name with several addresses.", func(c *Config) *[]string { return &c.KVEndpoints }).only(onPods, ""),
	list(groupPods, "watchhub-endpoints", "", "Like --kv-endpoints, for watchhub pods.", func(c *Config) *[]string { return &c.WatchHubEndpoints }).only(onPods, ""),
	list(groupPods, "leasekeeper-endpoints", "", "Like --kv-endpoints, for leasekeeper pods.", func(c *Config) *[]string { return &c.LeaseKeeperEndpoints }).only(onPods, ""),
	number(groupPods, "lanes", strconv.Itoa(DefaultLanes), "Group commits in flight at a time.", math.MinInt32, math.MaxInt32, func(c *Config, v int64) { c.Lanes = int(v) }).only(onPods, ""),
	str(groupPods, "pod-address", "", "host:port at which pods of the same kind reach this one. Default: the first of --listen-peer-urls, or of --advertise-client-urls, or the address that the pod listens on.", func(c *Config) *string { return &c.PodAddress }).only(onPods, ""),
	duration(groupPods, "shutdown-delay", "0s", "Time that the pod goes on serving after it has turned unready, so that load balancers notice.", func(c *Config) *time.Duration { return &c.ShutdownDelay }).only(onPods, ""),
}

// only says which kinds take the flag, and why the others ignore it; "": they do not know it.
func (f flagDef) only(k kinds, elsewhere string) flagDef {
	f.takes, f.elsewhere = k, elsewhere
	return f
}

// onPods gives the flag another default on pods.
func (f flagDef) onPods(def string) flagDef {
	f.podDef = &def
	return f
}

// own tells whether the flag is ours rather than etcd's.
func (f *flagDef) own() bool { return f.group == groupOwn || f.group == groupPods }

// on is the flag as processes of kind k have it; ok is false if they have none of that name.
func (f flagDef) on(k Kind) (_ flagDef, ok bool) {
	if f.podDef != nil && k.IsPod() {
		f.def = *f.podDef
	}
	switch {
	case f.takes == 0 || f.takes&k.set() != 0:
	case f.elsewhere == "":
		return f, false
	default:
		f.kind, f.note = ignored, f.elsewhere
	}
	return f, true
}

func str(group, name, def, help string, field func(*Config) *string) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, set: func(c *Config, v string) error {
		*field(c) = v
		return nil
	}}
}

func list(group, name, def, help string, field func(*Config) *[]string) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, set: func(c *Config, v string) error {
		*field(c) = splitList(v)
		return nil
	}}
}

func choice(group, name, def, help string, choices []string, set func(*Config, string)) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, set: func(c *Config, v string) error {
		for _, ch := range choices {
			if v == ch {
				set(c, v)
				return nil
			}
		}
		return fmt.Errorf("want one of %v", choices)
	}}
}

func number(group, name, def, help string, least, most int64, set func(*Config, int64)) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, set: func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 0, 64)
		if err != nil {
			return errors.New("not a whole number")
		}
		if n < least || n > most {
			return fmt.Errorf("not in %d to %d", least, most)
		}
		set(c, n)
		return nil
	}}
}

func duration(group, name, def, help string, field func(*Config) *time.Duration) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, isDuration: true, set: func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return errors.New("not a duration such as 10s or 5m")
		}
		*field(c) = d
		return nil
	}}
}

func boolean(group, name, def, help string, field func(*Config) *bool) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, isBool: true, set: func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return errors.New("not true or false")
		}
		*field(c) = b
		return nil
	}}
}

func ignore(group, name, def, note string) flagDef {
	return flagDef{group: group, name: name, def: def, kind: ignored, note: note}
}

func ignoreBool(group, name, def, note string) flagDef {
	return flagDef{group: group, name: name, def: def, kind: ignored, note: note, isBool: true}
}
