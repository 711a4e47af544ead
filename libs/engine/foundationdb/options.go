//go:build foundationdb

package foundationdb

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

const (
	// stampsMax is what the 2 bytes of a stamp's index can count.
	stampsMax    = 1 << 16
	rootBytesMax = 1_000
)

const (
	// defaultTimeout bounds a wait for the cluster if the context does not: as long as a read version is valid.
	defaultTimeout = 5 * time.Second
	// defaultRecentAge bounds the age of a read version that is used again (RecentSnapshot).
	defaultRecentAge = 250 * time.Millisecond
	// watchPoll is the interval at which a row is read when no watch is available: a client may have 10,000.
	watchPoll = 250 * time.Millisecond
	// fencePause is the pause between attempts of a fence that the client library would not retry.
	fencePause = 500 * time.Millisecond
)

// Options configure Open. The zero value means the default cluster file and the whole of its database.
type Options struct {
	// ClusterFile is the path of the cluster file. If it is "", libfdb_c uses its default: FDB_CLUSTER_FILE,
	// ./fdb.cluster, /etc/foundationdb/fdb.cluster.
	ClusterFile string
	// Root is put before every key: the store's place in a shared cluster. It must not begin with 0xff.
	Root []byte

	// Timeout bounds each wait for the cluster, except for a commit, if the context does not end before. The error is
	// then ErrUnavailable. Default 5 s.
	Timeout time.Duration
	// RecentAge is how old a read version may be that RecentSnapshot uses again, and the version of a commit that
	// BeginRecent uses. Default 250 ms.
	RecentAge time.Duration

	// TLS to the cluster. All stores of a process must have the same.
	TLS TLS
	// TraceDir is the directory for libfdb_c's trace files; "": none are written. All stores of a process must have
	// the same.
	TraceDir string

	// Logger receives the store's log lines. By default they are discarded.
	Logger *slog.Logger
	// OnFailure is called once, from any goroutine, when the store has failed for good. It must not call the store.
	OnFailure func(err error)
}

// TLS are the client's options for TLS to the cluster. They have no effect if the cluster file does not demand TLS.
type TLS struct {
	CertFile, KeyFile, CAFile string
	// Password is the password of an encrypted key.
	Password string
	// VerifyPeers are FoundationDB's criteria for the servers' certificates, as "Check.Valid=1,S.O=Example".
	VerifyPeers string
}

// EnsureDefaults sets the options that are zero to their defaults.
func (o *Options) EnsureDefaults() {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.RecentAge == 0 {
		o.RecentAge = defaultRecentAge
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnFailure == nil {
		o.OnFailure = func(error) {}
	}
}

// Validate checks the options after EnsureDefaults.
func (o *Options) Validate() error {
	switch {
	case len(o.Root) > 0 && o.Root[0] == 0xff:
		return fmt.Errorf("foundationdb: root %q lies among the system's keys", o.Root)
	case len(o.Root) > rootBytesMax:
		return fmt.Errorf("foundationdb: a root of %d bytes, at most %d", len(o.Root), rootBytesMax)
	case o.Timeout < 0, o.RecentAge < 0:
		return fmt.Errorf("foundationdb: Timeout %v and RecentAge %v must not be negative", o.Timeout, o.RecentAge)
	case (o.TLS.CertFile == "") != (o.TLS.KeyFile == ""):
		return fmt.Errorf("foundationdb: a certificate and its key belong together")
	}
	return nil
}

func (o *Options) limits() engine.Limits {
	return engine.Limits{
		KeyBytes:      txnsize.KeyBytesMax - len(o.Root),
		ValueBytes:    txnsize.ValueBytesMax,
		TxnBytes:      txnsize.TxnBytesMax,
		Structures:    true,
		RootBytes:     len(o.Root),
		StampBytes:    txnsize.StampBytes,
		MaxStamps:     stampsMax,
		Versionstamps: true,
	}
}
