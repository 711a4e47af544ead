package history

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
)

// formatVersion of Pebble's files.
const formatVersion = pdb.FormatTableFormatV6

// store is Pebble on the cache's directory. It is of use until it has failed once: then it is thrown away.
type store struct {
	db    *pdb.DB
	fs    *mortalFS
	users sync.WaitGroup // reads that are under way; Cache.mu is held when one begins

	dead  atomic.Bool
	first sync.Once
	why   error // once dead
}

// cause returns what the store has failed with, or nil.
func (s *store) cause() error {
	if s == nil || !s.dead.Load() {
		return nil
	}
	return s.why
}

// fail notes that a store has failed. It is called from any goroutine, Pebble's own with its locks held included.
func (c *Cache) fail(s *store, err error) {
	s.first.Do(func() {
		s.why = err
		s.dead.Store(true)
		select {
		case c.failed <- struct{}{}:
		default:
		}
	})
}

// open opens the directory. What cannot be opened is removed first, unless another process has it.
func (c *Cache) open() error {
	s, err := c.openStore()
	if err != nil && !s.fs.locked.Load() {
		c.opts.Log.Warn("watch history cannot be opened, and is removed", "error", err)
		if err = c.wipe(); err == nil {
			s, err = c.openStore()
		}
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.store = s
	c.mu.Unlock()
	return nil
}

func (c *Cache) openStore() (*store, error) {
	s := &store{}
	fail := func(err error) { c.fail(s, err) }
	s.fs = newMortalFS(c.opts.FS, fail)
	db, err := pdb.Open(c.dir, &pdb.Options{
		FS: s.fs, Logger: logger{c.opts.Log, fail}, DisableWAL: true, FormatMajorVersion: formatVersion,
		MemTableSize: uint64(c.opts.MemTableBytes), CacheSize: blockCacheBytes,
		EventListener: &pdb.EventListener{
			BackgroundError: fail,
			DataCorruption:  func(i pdb.DataCorruptionInfo) { fail(i.Details) },
		},
	})
	if err == nil && s.dead.Load() {
		err = errors.Join(s.why, db.Close())
	}
	s.db = db
	return s, err
}

// wipe removes what is in the directory, which may be a mount point.
func (c *Cache) wipe() error {
	names, err := c.opts.FS.List(c.dir)
	if err != nil {
		return nil //nolint:nilerr // it is not there, or opening it will say what is wrong
	}
	for _, name := range names {
		if err := c.opts.FS.RemoveAll(c.opts.FS.PathJoin(c.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// bury closes a store that has failed. Whether Pebble's Close ends is not certain then.
func (c *Cache) bury(s *store) error {
	s.users.Wait()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = s.db.Close() // it has failed already
	}()
	t := time.NewTimer(closeMax)
	defer t.Stop()
	select {
	case <-closed:
		return nil
	case <-t.C:
		return errors.New("history: a failed store does not close")
	}
}

// logger sends Pebble's errors on. What is fatal for Pebble is the end of this store and of nothing else: Pebble goes
// on as after any error, and nobody reads what it makes of it.
type logger struct {
	log  *slog.Logger
	fail func(error)
}

func (logger) Infof(string, ...any) {}
func (l logger) Errorf(f string, args ...any) {
	l.log.Warn("watch history", "error", fmt.Sprintf(f, args...))
}

func (l logger) Fatalf(f string, args ...any) { l.fail(fmt.Errorf(f, args...)) }
