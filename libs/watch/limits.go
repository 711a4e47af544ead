package watch

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Defaults and limits. One of them bounds every queue, batch and cache of the package.
const (
	// DefaultRingBytes bounds the ring of recent entries, counted as in record.bytes. A watcher that falls off the
	// ring is served from the log.
	DefaultRingBytes = 64 << 20
	// DefaultInboxBytes bounds what Apply may leave for the dispatcher. If there is more, Apply does the dispatcher's
	// work itself. That slows the writer to the speed of matching, but never to that of a client.
	DefaultInboxBytes = 32 << 20
	// DefaultStreamBytes is for Options.StreamBytes where values are quick to read.
	DefaultStreamBytes = 16 << 20
	// DefaultTurnBytes bounds what one stream holds between Next and the network, and separately what a catch-up may
	// have waiting for it. A single revision is never cut, so one oversized revision may exceed it.
	DefaultTurnBytes = 1 << 20
	// DefaultResponseBytes bounds one response of many revisions. A single revision is never cut.
	DefaultResponseBytes = 512 << 10
	// DefaultHeldBytes is the sum over all streams to which the limits of turns shrink when there are very many
	// streams.
	DefaultHeldBytes = 256 << 20
	// MinTurnBytes is the size below which the limit of a stream's turn does not shrink.
	MinTurnBytes = 32 << 10
	// DefaultPassEntries and DefaultPassBytes bound what one catch-up pass reads.
	DefaultPassEntries = 1000
	DefaultPassBytes   = 4 << 20
	// DefaultPassWatchers bounds how many watchers one catch-up pass serves.
	DefaultPassWatchers = 10_000
	// DefaultProgressInterval is etcd's default of --watch-progress-notify-interval.
	DefaultProgressInterval = 10 * time.Minute
	// MinProgressInterval is etcd's lower bound of the same flag.
	MinProgressInterval = 100 * time.Millisecond

	// maxPendingProgress bounds the progress requests that wait on one stream. The same answers serve any further ones.
	maxPendingProgress = 1024
	// maxTurnControls bounds the control responses (created, canceled) of one turn.
	maxTurnControls = 1024
	// maxQueuedControls bounds the control responses that wait on one stream. Requests that would add more are not
	// taken until the client reads, which slows only that client.
	maxQueuedControls = 4096
	// lockChunk is how many watchers are moved in one hold of the hub's lock.
	lockChunk = 512
	// progressSlots spreads the periodic notifications of all streams over the interval.
	progressSlots = 16
	// readBytes bounds the values that are read at a time, if they are more than one.
	readBytes = 8 << 20
	// retryMin and retryMax bound the pause after a failed read of the log.
	retryMin = 10 * time.Millisecond
	retryMax = time.Second
)

// Errors that end a stream or refuse it.
var (
	// ErrStopped: the hub is draining, closed, or not started. Clients should resume elsewhere or later.
	ErrStopped = errors.New("watch: hub stopped")
	// ErrTooManyStreams: Options.MaxStreams is reached.
	ErrTooManyStreams = errors.New("watch: too many streams")
	// ErrTooManyStreamsPerConn: Options.MaxStreamsPerConn is reached.
	ErrTooManyStreamsPerConn = errors.New("watch: too many streams on one connection")
	// ErrClosed: the stream was closed by its own user.
	ErrClosed = errors.New("watch: stream closed")
)

// Texts of created+canceled responses. They are etcd's, since clients map them back to errors.
const (
	reasonCompacted   = "etcdserver: mvcc: required revision has been compacted"
	reasonEmptyRange  = "mvcc: watcher range is empty"
	reasonDuplicateID = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonTooMany     = "etcdserver: too many requests"
)

// reasonDamaged is the reason for ending a watch whose history cannot be read any more. etcd has no such case.
const reasonDamaged = "headwater: data loss: the history at or after revision %d cannot be read"

// Options configures a Hub. The zero value of a field means its default; limits on streams and watches default to
// none, as in etcd.
type Options struct {
	RingBytes     int
	InboxBytes    int
	TurnBytes     int
	ResponseBytes int
	HeldBytes     int
	PassEntries   int
	PassBytes     int
	PassWatchers  int
	// StreamBytes is what the larger values of one request may have for the hub to hold them in memory. Those of larger
	// requests are read by each stream when they are sent, if the Log is a Holder. 0: all are held.
	StreamBytes int

	// ProgressInterval is the period of progress_notify; below MinProgressInterval it is raised to that.
	ProgressInterval time.Duration

	// MaxStreams bounds open streams (Open answers ErrTooManyStreams); MaxWatches and MaxWatchesPerStream bound watches
	// (creation is answered with etcd's "too many requests"). 0: no bound.
	MaxStreams          int
	MaxWatches          int
	MaxWatchesPerStream int
	// MaxStreamsPerConn and MaxWatchesPerConn do the same for all streams that were opened with the same connection
	// (OpenOn answers ErrTooManyStreamsPerConn). 0: no bound.
	MaxStreamsPerConn int
	MaxWatchesPerConn int

	// Codec decodes what ApplyPayloads gets.
	Codec revlog.Codec

	// Passes, if set, lets the hubs of a process take turns for their catch-up passes.
	Passes Turn

	// OnSent, if set, is called after responses with live events have been given to the transport. It gets the number
	// of their events and the time since the oldest event of each response was given to Apply, which is the same for
	// all of them. It is called from many goroutines and must be quick.
	OnSent func(events int, latency time.Duration)
	// Log is for failures of the log reader; nil is slog.Default().
	Log *slog.Logger
}

// Turn is a hub's part in something that several hubs share, such as a fair.Flow. Costs are bytes.
type Turn interface {
	// Enter waits for a turn that costs least, or up to most; after it Leave is called. Errors: the context's.
	Enter(ctx context.Context, least, most int64) (got int64, err error)
	Leave()
	// Charge says that a turn has cost more.
	Charge(cost int64)
}

// passCost is what a pass costs in addition to the bytes of its entries.
const passCost = 4 << 10

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.RingBytes, DefaultRingBytes)
	def(&o.InboxBytes, DefaultInboxBytes)
	def(&o.TurnBytes, DefaultTurnBytes)
	def(&o.ResponseBytes, DefaultResponseBytes)
	def(&o.HeldBytes, DefaultHeldBytes)
	def(&o.PassEntries, DefaultPassEntries)
	def(&o.PassBytes, DefaultPassBytes)
	def(&o.PassWatchers, DefaultPassWatchers)
	if o.ProgressInterval <= 0 {
		o.ProgressInterval = DefaultProgressInterval
	}
	o.ProgressInterval = max(o.ProgressInterval, MinProgressInterval)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// readRetries are the pauses after failed reads.
var readRetries = retry.Policy{Min: retryMin, Max: retryMax}
