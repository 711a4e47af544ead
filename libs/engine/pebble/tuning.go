package pebble

import (
	"errors"
	"runtime"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Settings of Pebble.
const (
	// formatVersion of Pebble's files; raising it makes older versions of Headwater unable to open the directory.
	formatVersion = pdb.FormatTableFormatV6
	// memTablesMax is how many memtables may exist before writes wait for one to be written out.
	memTablesMax = 4
	// blockBytes is the size of a table's blocks before compression. Reads of one row are faster with small blocks,
	// lists with large ones.
	blockBytes = 16 << 10
	// indexBlockBytes keeps most tables at one level of index.
	indexBlockBytes = 128 << 10
	// bloomBits is the number of filter bits per key: with these, 1 % of the lookups of absent rows read a block.
	bloomBits = 10
	// l0Compact is the number of levels within L0 that starts a compaction.
	l0Compact = 6
	// openFilesMax bounds the tables that are open.
	openFilesMax = 1000
	// syncEveryBytes is how often a table is synced while it is written, so that the last sync is short.
	syncEveryBytes = 1 << 20
	// flushClearsAfter is when a memtable with a cleared range is written out. Only then does the range free space.
	flushClearsAfter = 5 * time.Second
)

func (s *Store) pebbleOptions() *pdb.Options {
	o := &pdb.Options{
		FS:                      &steadyFS{FS: s.files, s: s},
		ErrorIfNotExists:        s.ledger.hasManifest(),
		BlockPropertyCollectors: []func() pdb.BlockPropertyCollector{newTableID},
		FormatMajorVersion:      formatVersion,
		Logger:                  logger{s},
		// Pebble takes the memtables' size out of the cache.
		CacheSize:                   s.opts.CacheBytes + memTablesMax*int64(s.space.memTable),
		MemTableSize:                s.space.memTable,
		MemTableStopWritesThreshold: memTablesMax,
		L0CompactionThreshold:       l0Compact,
		L0StopWritesThreshold:       pebbleStop,
		LBaseMaxBytes:               int64(s.space.base),
		MaxOpenFiles:                openFilesMax,
		BytesPerSync:                syncEveryBytes,
		FlushDelayDeleteRange:       flushClearsAfter,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, min(4, runtime.GOMAXPROCS(0)/2)) },
		EventListener:               s.events(),
	}
	o.Experimental.CompactionScheduler = newScheduler(s.damage.compactionsPaused)
	for i := range o.Levels {
		o.TargetFileSizes[i] = int64(min(s.space.table<<i, max(s.space.table, s.space.largestTable)))
		l := &o.Levels[i]
		l.BlockSize, l.IndexBlockSize = blockBytes, indexBlockBytes
		l.FilterPolicy = bloom.FilterPolicy(bloomBits)
	}
	o.ApplyCompressionSettings(func() pdb.DBCompressionSettings { return pdb.DBCompressionFastest })
	return o
}

// events follows Pebble's background work. Its functions are called with Pebble's locks held, unless they say
// otherwise.
func (s *Store) events() *pdb.EventListener {
	return &pdb.EventListener{
		BackgroundError: func(err error) {
			switch {
			case isDamage(err):
				_ = s.damaged(err)
				s.slowStats()
			case errors.Is(err, engine.ErrClosed): // given up by Close
			case !isNoSpace(err):
				s.log.Error("background work failed and will be tried again", "error", err.Error())
			case s.closed.Load() && s.space.noFlush.Load():
				s.noRoomOnce.Do(func() { close(s.noRoom) })
			}
		},
		// A reader that meets damage gets an error and classifies it. A separate report is not needed.
		DataCorruption: func(pdb.DataCorruptionInfo) {},
		CompactionEnd: func(i pdb.CompactionInfo) {
			s.shape.Add(1)
			s.space.compacted(i.Err)
			s.damage.compactionEnded(i.Err, time.Now())
			s.stall.changed()
		},
		FlushEnd:        func(i pdb.FlushInfo) { s.shape.Add(1); s.space.flushed(i.Err); s.stall.changed() },
		WriteStallBegin: func(i pdb.WriteStallBeginInfo) { s.log.Warn("writes wait for the disk", "reason", i.Reason) },
	}
}
