package pebble

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Handling of damaged tables.
const (
	// compactPauseMin is the first pause after a compaction has failed because of damage. It doubles up to
	// compactPauseMax until a compaction succeeds. Without a pause Pebble would pick the same tables again at once,
	// forever.
	compactPauseMin, compactPauseMax = 100 * time.Millisecond, time.Minute
	// statsPause is the time between two attempts to read the statistics of a damaged table. An attempt keeps the
	// tables of its time on disk.
	statsPause = 5 * time.Second
	// damageLogEvery is the time between two log lines about one file. damagedFilesMax bounds the files that are
	// tracked separately.
	damageLogEvery  = time.Minute
	damagedFilesMax = 256
)

// isDamage reports whether an error of a read means that written data cannot be read back. A block that the disk cannot
// read, or that is missing from a file, counts like one with a wrong checksum.
func isDamage(err error) bool {
	return pdb.IsCorruptionError(err) || errors.Is(err, syscall.EIO) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

// readError classifies an error of a read. A damaged block fails the reads that meet it, not the store.
func (s *Store) readError(err error) error {
	if isDamage(err) {
		return s.damaged(err)
	}
	return fmt.Errorf("%w: read: %w", engine.ErrUnavailable, err)
}

// damaged turns an error for which isDamage is true into an *engine.Damage, and reports it.
func (s *Store) damaged(err error) error {
	d := &engine.Damage{Err: oneLine(err)}
	path := "not known"
	if i := pdb.ExtractDataCorruptionInfo(err); i != nil {
		path, d.File, d.Err = i.Path, filepath.Base(i.Path), oneLine(i.Details)
		s.damage.known.learn(d.File, i.Details, time.Now())
	}
	return s.tellDamage(path, d)
}

// tellDamage logs and reports damage of a file, and returns it.
func (s *Store) tellDamage(path string, d *engine.Damage) error {
	if s.damage.worthALine(path, time.Now()) {
		s.log.Error(
			"a file is damaged: data in it cannot be read, all other data is served", "path", path, "error",
			d.Err.Error(),
		)
	}
	s.opts.OnDamage(d)
	return d
}

// damage is what a Store knows about its damaged files.
type damage struct {
	failures atomic.Int64 // compactions that damage has made fail since the last success
	until    atomic.Int64 // when compactions may continue, in Unix nanoseconds

	known knownDamage

	mu     sync.Mutex
	logged map[string]time.Time // when a file was last logged
}

// worthALine reports whether a line about a file is to be logged now.
func (d *damage) worthALine(path string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.logged[path]) < damageLogEvery {
		return false
	}
	if d.logged == nil || len(d.logged) >= damagedFilesMax {
		d.logged = make(map[string]time.Time)
	}
	d.logged[path] = now
	return true
}

// compactionEnded records how a compaction has ended.
func (d *damage) compactionEnded(err error, now time.Time) {
	switch {
	case err == nil:
		d.failures.Store(0)
		d.until.Store(0)
	case isDamage(err):
		n := min(d.failures.Add(1)-1, 16)
		d.until.Store(now.Add(min(compactPauseMin<<n, compactPauseMax)).UnixNano())
	}
}

// compactionsPaused reports whether no compaction may begin now.
func (d *damage) compactionsPaused() bool {
	until := d.until.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// slowStats makes Pebble's collector of statistics wait, if that is the caller. The collector tries again at once,
// forever, and holds no lock when it reports an error. All others who report errors hold one.
func (s *Store) slowStats() {
	if s.durable.Load() == nil || !runsUnder("pebble/v2.(*DB).collectTableStats") {
		return // nothing ends the wait before Open has returned
	}
	t := time.NewTimer(statsPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.stop:
	}
}
