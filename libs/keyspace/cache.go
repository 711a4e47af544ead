package keyspace

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// Version returns how many changes the table below root has had. Releases before the table had settings do not count
// their changes. Errors: ErrFormat, the engine's.
func Version(ctx context.Context, eng engine.Store, root []byte) (v int64, err error) {
	err = view(ctx, eng, func(r engine.Reader) error {
		b, err := r.Get(ctx, table{root}.version())
		if err != nil {
			return err
		}
		var ok bool
		if v, ok = engine.ParseCounter(b); !ok {
			return fmt.Errorf("%w: the table's version has %d bytes", ErrFormat, len(b))
		}
		return nil
	})
	return v, err
}

// WaitChanged returns nil when the version of the table below root may differ from was. Errors: the engine's.
func WaitChanged(ctx context.Context, eng engine.Store, root []byte, was int64) error {
	var old []byte
	if was != 0 {
		old = engine.AppendCounter(nil, was)
	}
	return eng.WaitChange(ctx, table{root}.version(), old)
}

// Defaults of CacheOptions.
const (
	cacheMax     = 20_000
	cacheRefresh = time.Minute
	cacheRetry   = time.Second
)

// CacheOptions configure a Cache. Zero means the default.
type CacheOptions struct {
	// Max bounds the keyspaces in the copy (default 20,000). If the table is larger, the copy has those that come first
	// by name, and the others are read when somebody asks for them.
	Max int
	// Refresh is how often the table is read even though it has not reported a change (default 1 min). Earlier releases
	// do not report their changes.
	Refresh time.Duration
	// Report, if set, is called with errors. Run tries again.
	Report func(error)
}

// Cache is a copy of the table of keyspaces that is kept up to date. Its methods may be called from any goroutine.
type Cache struct {
	eng  engine.Store
	root []byte
	o    CacheOptions

	mu      sync.Mutex
	byName  map[string]*Info
	byID    map[uint64]*Info
	shared  bool          // there is one that all pods serve
	closed  bool          // there is, or may be, one that not everybody may enter
	users   bool          // there is, or may be, one that users may enter by their names
	version int64         // at which the copy was read; -1: never
	changed chan struct{} // closed when the copy is replaced
}

// NewCache returns a Cache of the table below root. Until Run has read it, it is empty.
func NewCache(eng engine.Store, root []byte, o CacheOptions) *Cache {
	if o.Max == 0 {
		o.Max = cacheMax
	}
	if o.Refresh == 0 {
		o.Refresh = cacheRefresh
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	return &Cache{eng: eng, root: root, o: o, version: -1, changed: make(chan struct{})}
}

// Run keeps the copy up to date until ctx ends, and returns the context's error. While the table does not change, it
// costs one wait for a change, and one read per CacheOptions.Refresh.
func (c *Cache) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		v, err := c.refresh(ctx)
		if err == nil {
			short, cancel := context.WithTimeout(ctx, c.o.Refresh)
			err = WaitChanged(short, c.eng, c.root, v)
			if short.Err() != nil {
				err = nil
			}
			cancel()
		}
		if err != nil && ctx.Err() == nil {
			c.o.Report(err)
			_ = retry.Sleep(ctx, cacheRetry)
		}
	}
	return ctx.Err()
}

// refresh reads the table.
func (c *Cache) refresh(ctx context.Context) (version int64, err error) {
	version, err = Version(ctx, c.eng, c.root) // before the rows, so that a change in between makes Run read again
	if err != nil {
		return 0, err
	}
	all, err := List(ctx, c.eng, c.root, "", c.o.Max)
	if err != nil {
		return 0, err
	}
	byName, byID := make(map[string]*Info, len(all)), make(map[uint64]*Info, len(all))
	shared, closed, users := false, len(all) == c.o.Max, len(all) == c.o.Max
	for i := range all {
		shared = shared || all[i].Shared()
		closed = closed || !IsOpen(all[i].Row.GetAccess())
		users = users || len(Users(all[i].Row.GetAccess())) > 0
		byName[all[i].Name], byID[all[i].ID] = &all[i], &all[i]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName, c.byID, c.version, c.shared, c.closed, c.users = byName, byID, version, shared, closed, users
	close(c.changed)
	c.changed = make(chan struct{})
	return version, nil
}

// Changed returns a channel that is closed when the copy is next replaced. A keyspace that was looked up before may
// then have changed or been deleted.
func (c *Cache) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// ByName returns the keyspace of a name. If the copy has it, the answer may be as old as the news of a change is slow.
// If not, the table is read, so that a new keyspace is found at once. Errors: ErrNotFound, ErrName, ErrFormat, the
// engine's.
func (c *Cache) ByName(ctx context.Context, name string) (Info, error) {
	c.mu.Lock()
	info := c.byName[name]
	c.mu.Unlock()
	if info != nil {
		return *info, nil
	}
	return Show(ctx, c.eng, c.root, name)
}

// Copied returns the keyspace of a name, if the copy has it.
func (c *Cache) Copied(name string) (Info, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.byName[name]
	if info == nil {
		return Info{}, false
	}
	return *info, true
}

// ByID returns the keyspace of an id, if the copy has it. The copy has no deleted keyspaces.
func (c *Cache) ByID(id uint64) (Info, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.byID[id]
	if info == nil {
		return Info{}, false
	}
	return *info, true
}

// Shared says whether the copy has a keyspace that all pods serve.
func (c *Cache) Shared() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shared
}

// Closed says whether there is a keyspace with restricted access. If the table is larger than the copy, this is not
// known, and Closed returns true.
func (c *Cache) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// ByUsers tells whether there is a keyspace whose rule names users. Of a table that is larger than the copy that is not
// known, and taken to be so.
func (c *Cache) ByUsers() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.users
}

// Len is the number of keyspaces in the copy; read is false while there is no copy.
func (c *Cache) Len() (n int, read bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byID), c.version >= 0
}

// Ready returns when the copy has been read once. Errors: the context's.
func (c *Cache) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		read, changed := c.version >= 0, c.changed
		c.mu.Unlock()
		if read {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
