package pebble

// Stats describes the store at one time. Sizes are in bytes.
type Stats struct {
	DiskBytes    uint64 // the sum of the lengths of all files of the store, without the ballast
	LiveBytes    uint64 // tables, value files and logs that hold the current state, older versions of rows included
	GarbageBytes uint64 // the part of LiveBytes that compactions are expected to free

	ValueFiles   int    // 0 if the store has none
	ValueBytes   uint64 // in them
	ValueGarbage uint64 // the part of ValueBytes that is known to be garbage
	ValueMoved   int64  // bytes written again since the store was opened, to free others

	MemTableBytes  uint64
	CacheBytes     int64
	CacheHits      int64
	CacheMisses    int64
	ReadAmp        int    // tables that a lookup may have to read
	CompactionDebt uint64 // bytes that compactions have yet to move
	Flushes        int64
	Compactions    int64
	WALBytes       uint64 // written to the log since the store was opened

	Commits      uint64 // since the store was opened
	Version      uint64 // the last version given out
	Undurable    int    // commits that wait for their sync
	OpenTxns     int
	WindowSets   int // write sets kept for open transactions
	WindowBytes  int64
	NoSpace      bool
	FreeBytes    uint64 // on the disk; 0 if not known
	ReserveBytes uint64
}

// Sizes returns the sum of the lengths of all files of the store, without the ballast, and an estimate of how many of
// these bytes hold live data. Both are as old as Stats says. They are zero if they are not known.
func (s *Store) Sizes() (total, inUse int64) {
	st := s.Stats()
	return int64(st.DiskBytes), int64(st.LiveBytes - min(st.GarbageBytes, st.LiveBytes))
}

// Stats returns figures for metrics. It takes some microseconds and Pebble's lock: call it per scrape, not per request.
// While Pebble is being reopened, which may take long, it returns the last figures; zeros if there are none.
func (s *Store) Stats() Stats {
	if !s.swapping.TryRLock() {
		if last := s.stats.Load(); last != nil {
			return *last
		}
		return Stats{}
	}
	defer s.swapping.RUnlock()
	if s.err() != nil {
		return Stats{}
	}
	m := s.db.Metrics()
	values := s.values.totals()
	st := Stats{
		DiskBytes: s.diskBytes(),
		LiveBytes: m.Table.Local.LiveSize + m.WAL.Size + values.bytes,
		GarbageBytes: m.Table.Garbage.PointDeletionsBytesEstimate +
			m.Table.Garbage.RangeDeletionsBytesEstimate + values.garbage,
		ValueFiles:     values.files,
		ValueBytes:     values.bytes,
		ValueGarbage:   values.garbage,
		ValueMoved:     s.values.movedBytes.Load(),
		MemTableBytes:  m.MemTable.Size,
		CacheBytes:     m.BlockCache.Size,
		CacheHits:      m.BlockCache.Hits,
		CacheMisses:    m.BlockCache.Misses,
		ReadAmp:        m.ReadAmp(),
		CompactionDebt: m.Compact.EstimatedDebt,
		Flushes:        m.Flush.Count,
		Compactions:    m.Compact.Count,
		WALBytes:       m.WAL.BytesWritten,
		NoSpace:        s.NoSpace(),
		ReserveBytes:   s.space.reserve,
	}
	if u, err := s.space.fs.GetDiskUsage(s.space.dir); err == nil {
		st.FreeBytes = u.AvailBytes
	}
	s.mu.Lock() // not the writer lock: a commit holds it while Pebble makes writes wait
	defer s.mu.Unlock()
	if s.applied != nil {
		st.Version, st.Commits = s.applied.commit.last, s.applied.commit.seq
	}
	st.Undurable, st.WindowSets, st.WindowBytes = len(s.queue), len(s.window.sets), s.window.bytes
	for t := s.open.first; t != nil; t = t.next {
		st.OpenTxns++
	}
	s.stats.Store(&st)
	return st
}
