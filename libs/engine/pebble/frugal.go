package pebble

import (
	"sync"

	pdb "github.com/cockroachdb/pebble/v2"
)

// blockCache is Pebble's cache of blocks, which lies in Go's heap: blocks that are pushed out of it are garbage until
// the collector comes.
type blockCache struct {
	mu       sync.Mutex
	cache    *pdb.Cache
	reserved int64 // by those who are frugal
}

// bytes is the size of a new cache. Pebble takes memtables off it.
func (s *Store) cacheBytes() int64 { return s.opts.CacheBytes + memTablesMax*int64(s.space.memTable) }

// set puts another cache in the place of the present one; nil: none.
func (c *blockCache) set(cache *pdb.Cache) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cache != nil {
		c.cache.Unref()
	}
	c.cache, c.reserved = cache, 0
}

// Frugal implements engine.Frugal.
func (s *Store) Frugal(growth int64) (release func()) {
	s.swapping.RLock()
	defer s.swapping.RUnlock()
	if s.err() != nil {
		return func() {}
	}
	m := s.db.Metrics() // before the lock: it takes Pebble's
	memTables := int64(m.MemTable.Size + m.MemTable.ZombieSize)
	b := &s.blocks
	b.mu.Lock()
	defer b.mu.Unlock()
	cache := b.cache
	if cache == nil {
		return func() {}
	}
	spare := cache.MaxSize() - cache.Size() - memTables - b.reserved - growth
	if spare <= 0 {
		return func() {}
	}
	b.reserved += spare
	give := cache.Reserve(int(spare))
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.cache == cache { // else it is gone with its Pebble
			b.reserved -= spare
			give()
		}
	}
}
