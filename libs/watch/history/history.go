package history

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
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

	// memTableBytes is the size of one of Pebble's memtables.
	memTableBytes = 8 << 20
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
	// samples is how many entries Start compares with the log.
	samples = 16
	// prefetchEntries bounds what one read allocates before it knows how many entries there are.
	prefetchEntries = 1024
)

// Options configures a Cache. Zero values mean defaults.
type Options struct {
	// Identity names the keyspace whose log is cached. A directory with another identity is emptied.
	Identity []byte
	MaxBytes int64
	MaxAge   time.Duration
	// QueueBytes: see DefaultQueueBytes.
	QueueBytes int
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
	db   *pdb.DB

	mu      sync.RWMutex
	window  window
	started bool
	broken  bool // gave up: everything comes from the log

	queueMu    sync.Mutex
	queue      []revlog.Entry
	queueBytes int
	queuePrev  int64 // revision before queue[0]
	tail       int64 // last revision given to Append

	queued chan struct{} // capacity 1: the queue is not empty
	stop   chan struct{}
	done   chan struct{}

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
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	db, err := pdb.Open(dir, &pdb.Options{
		FS: o.FS, Logger: logger{o.Log}, DisableWAL: true, FormatMajorVersion: formatVersion,
		MemTableSize: memTableBytes, CacheSize: blockCacheBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("history: open %s: %w", dir, err)
	}
	return &Cache{
		opts: o, db: db, queued: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// formatVersion of Pebble's files.
const formatVersion = pdb.FormatTableFormatV6

// Start compares the directory with log, fills it up to position if that is near, and begins to serve. Entries after
// position must be given to Append, which may begin after Start. If the directory has some of them already, they are
// kept and skipped. Call Start once. It fails only with the context: if the directory cannot be used, the cache serves
// nothing.
func (c *Cache) Start(ctx context.Context, log Log, position int64) error {
	w, err := c.resume(ctx, log, position)
	if ctx.Err() != nil {
		close(c.done)
		return ctx.Err()
	}
	if err != nil {
		c.opts.Log.Info("watch history starts empty", "reason", err)
		w = window{floor: position, last: position}
		err = c.clear()
	}
	c.queueMu.Lock()
	c.tail, c.queuePrev = max(position, w.last), w.last // nothing is in between
	c.queueMu.Unlock()
	c.mu.Lock()
	c.window, c.started = w, true
	c.mu.Unlock()
	if err != nil {
		c.giveUp(err)
		close(c.done)
		return nil
	}
	go c.write()
	return nil
}

// Append queues entries in revision order. They must follow those before without a gap, and must not be changed any
// more.
func (c *Cache) Append(entries []revlog.Entry) {
	c.queueMu.Lock()
	defer c.queueMu.Unlock()
	for _, e := range entries {
		if e.Rev <= c.tail {
			continue
		}
		c.queue = append(c.queue, e)
		for i := range e.Events {
			ev := &e.Events[i]
			c.queueBytes += eventOverhead + len(ev.KV.Key) + len(ev.KV.Value) + len(ev.Prev.Value)
		}
		c.tail = e.Rev
	}
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

// eventOverhead is the memory of an event beside its bytes.
const eventOverhead = 160

// Close writes out what is in memory and closes the directory. No read may be under way or come later.
func (c *Cache) Close() error {
	c.mu.RLock()
	started := c.started
	c.mu.RUnlock()
	close(c.stop)
	if started {
		<-c.done
	}
	return errors.Join(c.db.Flush(), c.db.Close())
}

// Stats is a snapshot for metrics.
type Stats struct {
	// Floor and Last say that the cache is complete in (Floor, Last]. Bytes is the size of its rows.
	Floor, Last, Bytes int64
	// Reads and Entries count what the cache has served.
	Reads, Entries uint64
	// Restarts counts how often the cache dropped everything because its disk was too slow or failed.
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

// giveUp makes the cache serve nothing any more.
func (c *Cache) giveUp(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.broken {
		c.broken = true
		c.restarts.Add(1)
		c.opts.Log.Warn("watch history is not used any more", "error", err)
	}
}

// Rows: 'i' holds the identity; 'e' and the revision an entry.

const (
	rowIdentity = "i"
	rowEntry    = 'e'
	rowAfter    = "f"
)

func entryKey(rev int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{rowEntry}, uint64(rev))
}

// rowHeader is the size of a row's header: the revision of the entry before, and the time of writing in Unix seconds, 8
// bytes each, big-endian. The entry follows, as revlog encodes it, with its revisions unchanged.
const rowHeader = 16

func appendRow(b []byte, e *revlog.Entry, prev int64, at time.Time) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(prev))
	b = binary.BigEndian.AppendUint64(b, uint64(at.Unix()))
	for i := range e.Events {
		b, _ = revlog.Codec{}.AppendEvent(b, &e.Events[i], e.Rev)
	}
	return b
}

// row is a stored entry that has not been decoded.
type row struct {
	rev, prev int64
	at        time.Time
	payload   []byte
}

func parseRow(key, value []byte) (row, error) {
	if len(key) != 9 || key[0] != rowEntry || len(value) < rowHeader {
		return row{}, errCorrupt
	}
	return row{
		rev:     int64(binary.BigEndian.Uint64(key[1:])),
		prev:    int64(binary.BigEndian.Uint64(value)),
		at:      time.Unix(int64(binary.BigEndian.Uint64(value[8:])), 0),
		payload: value[rowHeader:],
	}, nil
}

var (
	errCorrupt = errors.New("history: corrupt row")
	errHole    = errors.New("history: an entry is missing")
)

// logger sends Pebble's errors on.
type logger struct{ log *slog.Logger }

func (logger) Infof(string, ...any) {}
func (l logger) Errorf(f string, args ...any) {
	l.log.Warn("watch history", "error", fmt.Sprintf(f, args...))
}

func (l logger) Fatalf(f string, args ...any) {
	panic("watch history: " + fmt.Sprintf(f, args...))
}
