package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// How the space on the disk is watched.
const (
	ballastName = "BALLAST"
	// ballastBytesMax is given back when the disk is full: enough to write a memtable out.
	ballastBytesMax = 64 << 20
	// ballastPart bounds the ballast to a part of the disk.
	ballastPart = 64
	// reserveBytesMax is the free space below which growing transactions are refused: memtables that wait to be
	// written out, the log beside them, and a compaction's output.
	reserveBytesMax = 256 << 20
	// reservePart bounds the reserve to a part of the disk.
	reservePart = 16
	// lastPart is the part of the reserve that even shrinking transactions leave alone.
	lastPart = 8
	// checkEvery is the time between two looks at the disk; checkPart of the reserve written since is the other reason to look.
	checkEvery = time.Second
	checkPart  = 8
	// retryEvery is the time between two tries of a write that finds no space.
	retryEvery = 100 * time.Millisecond
)

// space watches the free space of the disk that the store is on.
type space struct {
	s       *Store
	fs      vfs.FS // the one below spaceFS
	dir     string
	reserve uint64
	ballast uint64
	watched bool // the file system tells its free space

	full    atomic.Bool   // growing transactions are refused
	last    atomic.Bool   // shrinking ones too
	blocked atomic.Int64  // vital writes that wait for space
	written atomic.Uint64 // bytes since the last look
	stop    chan struct{}
	once    sync.Once

	mu    sync.Mutex // serialises looks, and OnNoSpace
	laid  bool       // the ballast is there
	alarm bool       // what OnNoSpace has been told last
}

func newSpace(s *Store, dir string) *space {
	return &space{s: s, fs: s.opts.FS, dir: dir, stop: make(chan struct{})}
}

// probe finds out what the disk has and whether files can be made in the directory.
func (sp *space) probe() error {
	if u, err := sp.fs.GetDiskUsage(sp.dir); err == nil {
		sp.watched = true
		sp.reserve = share(sp.s.opts.ReserveBytes, reserveBytesMax, u.TotalBytes/reservePart)
		sp.ballast = share(sp.s.opts.BallastBytes, ballastBytesMax, u.TotalBytes/ballastPart)
	}
	name := sp.fs.PathJoin(sp.dir, "PROBE")
	f, err := sp.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_ = f.Close()
	return sp.fs.Remove(name)
}

// share returns an option's value: itself, or none if negative, or the lesser of two defaults.
func share(option int64, most, part uint64) uint64 {
	switch {
	case option > 0:
		return uint64(option)
	case option < 0:
		return 0
	}
	return min(most, part)
}

// start takes the first look.
func (sp *space) start() {
	if !sp.watched {
		return
	}
	sp.mu.Lock()
	_, err := sp.fs.Stat(sp.ballastPath())
	sp.laid = err == nil
	sp.mu.Unlock()
	sp.look()
}

func (sp *space) close() { sp.once.Do(func() { close(sp.stop) }) }

func (sp *space) ballastPath() string { return sp.fs.PathJoin(sp.dir, ballastName) }

// admit tells whether a transaction of so many bytes may be committed.
func (sp *space) admit(sets, shrinks bool, bytes int) error {
	if !sp.watched && !sp.full.Load() {
		return nil
	}
	if sp.written.Add(uint64(bytes)) > sp.reserve/checkPart && sp.reserve > 0 {
		sp.look()
	}
	switch {
	case sp.blocked.Load() > 0:
		return fmt.Errorf("%w: the disk is full, the log waits for space", engine.ErrNoSpace)
	case sets && sp.full.Load() && !shrinks:
		return fmt.Errorf("%w: less than %d bytes are free", engine.ErrNoSpace, sp.reserve)
	case sets && sp.last.Load():
		return fmt.Errorf("%w: less than %d bytes are free", engine.ErrNoSpace, sp.reserve/lastPart)
	}
	return nil
}

// look compares the free space with the reserve, and lays the ballast down when there is room for it.
func (sp *space) look() {
	if !sp.watched {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	u, err := sp.fs.GetDiskUsage(sp.dir)
	if errors.Is(err, fs.ErrNotExist) {
		// Pebble would go on, and acknowledge, until its next file.
		_ = sp.s.fail(fmt.Errorf("data directory %s has been removed", sp.dir))
		return
	}
	if err != nil {
		sp.s.log.Warn("the free space of the disk is not known", "error", err)
		return
	}
	sp.written.Store(0)
	need := sp.reserve
	if sp.full.Load() {
		need += need / 4 // so that it does not flap
	}
	if !sp.laid && sp.ballast > 0 && u.AvailBytes > need+sp.ballast {
		sp.layBallast()
		u.AvailBytes -= sp.ballast
	}
	waits := sp.blocked.Load() > 0
	if u.AvailBytes < sp.reserve/lastPart && sp.dropBallast() {
		u.AvailBytes += sp.ballast
	}
	sp.last.Store(u.AvailBytes < sp.reserve/lastPart)
	sp.tell(waits || u.AvailBytes < need || !sp.laid && sp.ballast > 0 && sp.full.Load())
}

// tell sets full and calls OnNoSpace if it has changed. sp.mu is held.
func (sp *space) tell(full bool) {
	sp.full.Store(full)
	if full == sp.alarm {
		return
	}
	sp.alarm = full
	if full {
		sp.s.log.Warn("the disk is nearly full: writes are refused until there is room", "reserve_bytes", sp.reserve)
	} else {
		sp.s.log.Info("the disk has room again: writes are taken")
	}
	sp.s.opts.OnNoSpace(full)
}

// layBallast creates the ballast file. sp.mu is held.
func (sp *space) layBallast() {
	f, err := sp.fs.Create(sp.ballastPath(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return // the next look tries again
	}
	if runtime.GOOS == "linux" {
		err = f.Preallocate(0, int64(sp.ballast))
	}
	if runtime.GOOS != "linux" || err != nil { // a file system that cannot preallocate
		err = nil
		zeros := make([]byte, 1<<20)
		for left := sp.ballast; left > 0 && err == nil; left -= min(left, uint64(len(zeros))) {
			_, err = f.Write(zeros[:min(left, uint64(len(zeros)))])
		}
	}
	_ = f.Close()
	if err != nil {
		_ = sp.fs.Remove(sp.ballastPath())
		return
	}
	sp.laid = true
}

// hit is called when a write has found no space: it gives the ballast back.
func (sp *space) hit() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.dropBallast()
	sp.tell(true)
}

// dropBallast gives the ballast back, if it is there and can be. sp.mu is held.
func (sp *space) dropBallast() bool {
	if !sp.laid {
		return false
	}
	sp.laid = false
	err := sp.fs.Remove(sp.ballastPath())
	if err == nil {
		sp.s.log.Warn("the disk is full: the ballast has been given back", "bytes", sp.ballast)
	}
	return err == nil
}

// retry calls op. If it finds no space, it is called again after the ballast is gone, and, if it is vital, until it
// succeeds, fails otherwise, or the store is closed.
func (sp *space) retry(vital bool, op func() error) error {
	err := op()
	if err == nil || !isNoSpace(err) {
		return sp.slow(vital, err)
	}
	sp.hit()
	if err = op(); err == nil || !isNoSpace(err) {
		return err
	}
	if !vital {
		return sp.slow(vital, err)
	}
	sp.blocked.Add(1)
	defer sp.blocked.Add(-1)
	sp.s.log.Error("the disk is full: the store waits for space")
	for sp.pause() {
		if err = op(); err == nil || !isNoSpace(err) {
			return err
		}
	}
	return err
}

// slow returns err, after a pause if a table could not be written: Pebble tries again at once, for ever.
func (sp *space) slow(vital bool, err error) error {
	if err != nil && !vital {
		sp.pause()
	}
	return err
}

// pause waits for the time between two tries; false if the store is being closed.
func (sp *space) pause() bool {
	t := time.NewTimer(retryEvery)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-sp.stop:
		return false
	}
}

// NoSpace tells whether the store refuses growing transactions because the disk is nearly full.
func (s *Store) NoSpace() bool { return s.space.full.Load() }
