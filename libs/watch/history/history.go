package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// Defaults and bounds.
const (
	// DefaultMaxBytes bounds the keys and values of all rows, before compression.
	DefaultMaxBytes = 1 << 30
	// DefaultMaxAge is how long an entry is kept.
	DefaultMaxAge = time.Hour
	// DefaultQueueBytes bounds what Append may leave for the writer. If there is more, the cache starts again.
	DefaultQueueBytes = 32 << 20
	// DefaultMemTableBytes is the size of one of Pebble's memtables: a crash loses up to so much of the newest.
	DefaultMemTableBytes = 8 << 20

	// blockCacheBytes is the size of Pebble's cache. It is small, because reads are long scans, and the system's cache
	// keeps the files.
	blockCacheBytes = 4 << 20
	// marksMax is the number of steps in which MaxBytes is trimmed.
	marksMax = 256
	// trimEvery is how often the age of entries is checked while nothing is written.
	trimEvery = time.Minute
	// fillEntries is how many entries Start reads from the log at most, to close the gap since the last run. fillStep
	// and fillBytes bound one read.
	fillEntries, fillStep, fillBytes = 1_000_000, 1000, 4 << 20
	// refillPause … are those between attempts to make the cache anew, but for the first after calmTime without one.
	refillPauseMin, refillPauseMax = time.Second, 10 * time.Minute
	calmTime                       = time.Hour
	// closeMax is how long a store that has failed may take to close.
	closeMax = 30 * time.Second
	// samples is how many entries Start compares with the log.
	samples = 16
	// rowBytes is how much a row of several entries holds. Rows of a small cache are smaller, so that it is trimmed in
	// small steps.
	rowBytes = 64 << 10
	// prefetchEntries bounds what one read allocates before it knows how many entries there are.
	prefetchEntries = 1024
)

// Options configures a Cache. Zero values mean defaults.
type Options struct {
	// Identity names the keyspace whose log is cached. A directory with another identity is emptied.
	Identity []byte
	// Codec decodes the entries of the log. A directory that was written with another one is emptied.
	Codec    revlog.Codec
	MaxBytes int64
	MaxAge   time.Duration
	// QueueBytes: see DefaultQueueBytes.
	QueueBytes int
	// MemTableBytes: see DefaultMemTableBytes.
	MemTableBytes int
	// FS is where the directory is; nil is the disk.
	FS vfs.FS
	// Now is the clock of MaxAge; nil is time.Now.
	Now func() time.Time
	// Log gets failures; nil is slog.Default().
	Log *slog.Logger
}

// Log is a keyspace's log, as in package watch.
type Log interface {
	Head(ctx context.Context) (int64, error)
	CompactRevision() int64
	ReadLog(ctx context.Context, from int64, maxEntries, maxBytes int) (entries []revlog.Entry, next int64, err error)
	// ReadValues is not cached, because a value is read once for all watchers.
	ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error)
}

// Cache is a directory of recent entries.
type Cache struct {
	opts Options
	dir  string
	log  Log // since Start

	mu      sync.RWMutex
	store   *store // nil: it is being made anew, and everything comes from the log
	window  window
	started bool

	queueMu    sync.Mutex
	queue      []revlog.Payload
	queueBytes int
	queuePrev  int64 // revision before queue[0]
	tail       int64 // last revision given to Append

	queued chan struct{} // capacity 1: the queue is not empty
	failed chan struct{} // capacity 1: the store has failed
	ctx    context.Context
	cancel context.CancelFunc // by Close
	done   chan struct{}

	// The writer's own.
	buf       []byte    // for a row
	rebuilds  int       // without a calm time in between
	rebuiltAt time.Time // begin of the last one

	reads, entries, restarts atomic.Uint64
}

// window says which revisions the rows in the store cover.
type window struct {
	floor, last int64 // complete in (floor, last]
	bytes       int64
	marks       []mark // stretches of rows, oldest first
}

// mark is a stretch of rows that are trimmed together.
type mark struct {
	last  int64 // revision of its last row
	bytes int64
	at    time.Time // of its last row
}

// Open opens the cache in dir, or makes it. It serves nothing before Start.
func Open(dir string, o Options) (*Cache, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxAge <= 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.MemTableBytes <= 0 {
		o.MemTableBytes = DefaultMemTableBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	c := &Cache{
		opts: o, dir: dir,
		queued: make(chan struct{}, 1), failed: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if err := c.open(); err != nil {
		return nil, fmt.Errorf("history: open %s: %w", dir, err)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Start checks what the directory holds against log, fills it up to position if that is near, and begins to serve.
// Entries after position must be given to Append, which may begin after Start; what the directory holds of them is
// kept and skipped. Call it once. It fails only with the context; a directory that cannot be used makes a cache that
// serves nothing.
func (c *Cache) Start(ctx context.Context, log Log, position int64) error {
	c.log = log
	w, err := c.resume(ctx, log, position)
	if ctx.Err() != nil {
		close(c.done)
		return ctx.Err()
	}
	if err != nil {
		c.opts.Log.Info("watch history starts empty", "reason", err)
		w = window{floor: position, last: position}
		err = c.renew(!errors.Is(err, errNew))
	}
	c.queueMu.Lock()
	c.tail, c.queuePrev = max(position, w.last), w.last // nothing is in between
	c.queueMu.Unlock()
	c.mu.Lock()
	c.window, c.started = w, true
	c.mu.Unlock()
	go c.write(err)
	return nil
}

// Append queues entries in revision order, encoded by Options.Codec. They must follow those before without a gap, and
// must not be changed any more.
func (c *Cache) Append(entries []revlog.Payload) {
	c.queueMu.Lock()
	defer c.queueMu.Unlock()
	for len(entries) > 0 && entries[0].Rev <= c.tail {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return
	}
	c.queue = append(c.queue, entries...)
	for i := range entries {
		c.queueBytes += entryOverhead + len(entries[i].Bytes)
	}
	c.tail = entries[len(entries)-1].Rev
	if c.queueBytes > c.opts.QueueBytes {
		// The writer notices that queuePrev differs from what it wrote last.
		c.queue, c.queueBytes, c.queuePrev = nil, 0, c.tail
		return
	}
	select {
	case c.queued <- struct{}{}:
	default:
	}
}

// entryOverhead is the memory of a queued entry beside its bytes.
const entryOverhead = 32

// Close writes out what is in memory and closes the directory. No read may be under way or come later.
func (c *Cache) Close() error {
	c.mu.RLock()
	started := c.started
	c.mu.RUnlock()
	c.cancel()
	if started {
		<-c.done
	}
	if c.store == nil {
		return nil
	}
	if c.store.dead.Load() {
		return c.bury(c.store)
	}
	return errors.Join(c.store.db.Flush(), c.store.db.Close())
}

// Stats is a snapshot for metrics.
type Stats struct {
	// Floor and Last say that the cache is complete in (Floor, Last]. Bytes is the size of its rows.
	Floor, Last, Bytes int64
	// Reads and Entries count what the cache has served.
	Reads, Entries uint64
	// Restarts counts how often it let go of everything: its disk was too slow, or it was made anew after a failure.
	Restarts uint64
}

// Stats returns the present state.
func (c *Cache) Stats() Stats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return Stats{
		Floor: c.window.floor, Last: c.window.last, Bytes: c.window.bytes,
		Reads: c.reads.Load(), Entries: c.entries.Load(), Restarts: c.restarts.Load(),
	}
}

var (
	errCorrupt = errors.New("history: corrupt row")
	errHole    = errors.New("history: an entry is missing")
	errNew     = errors.New("it is new")
	errFar     = errors.New("it is too far behind the log")
)
