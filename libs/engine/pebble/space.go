package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// class is the purpose of a transaction. It decides how much of the reserve the transaction may use.
type class int

const (
	growing   class = iota
	shrinking       // Txn.Shrinks: deletes, revocations
	vital           // Txn.Vital: what leads out of a full disk
)

// How the reserve R is shared. A committed byte needs writeCost bytes in the end: one in the log, and one in the table
// that its memtable becomes. The space that is free after that, and after all memtables have been written out, must not
// fall below the floor of the class:
//
//	R    … R/2   growing transactions stop at R: from here on the space is for what gives space back
//	R/2  … R/4   shrinking transactions stop at R/2
//	R/4  … R/8   the output of compactions stops at R/4, so that a compaction never takes what logs and memtables need;
//	             at R/8 when it has failed for that, and the ballast has been given back
//	R/8  … R/16  vital transactions stop at R/8, but
//	R/16 … 0     those of at most tinyBytes stop at R/16; below there is what the manifest and the directory take
//
// So a compaction has at least R/4 (R/2 less R/4) when deletes have taken all that they may, and R/4 + R/8 + the
// ballast in the end. It rewrites one piece: R/8 of tables and what overlaps them in L0 (a few memtables of at most
// R/32 each) and in the first level below (R/8 at most, since basePart = 8 × reservePart). A piece that is cleared
// frees what it held and writes nothing, so each one that succeeds leaves more room than it found, or the store is
// all live.
//
// The clears of a removal are smaller than the rows they clear, so R/4 less R/8 is enough for a step of it, writeCost
// included, if the step's own bytes stay below R/16; each step is followed by compactions that give back more than it
// took.
const (
	shrinkPart    = 2
	compactPart   = 4
	emergencyPart = 8
	vitalPart     = 8
	tinyPart      = 16
	tinyBytes     = 4 << 10
	writeCost     = 2
)

// How the space on the disk is watched.
const (
	ballastName = "BALLAST"
	// checkEvery is the time between two checks of the disk. The disk is also checked when checkPart of the reserve has
	// been written since the last check.
	checkEvery = time.Second
	checkPart  = 64
	// refusedEvery is the time between two checks of the disk for transactions that were refused.
	refusedEvery = 20 * time.Millisecond
	// resumePart of the reserve must be free in addition before growing transactions are accepted again, so that the
	// state does not flap.
	resumePart = 8
	// retryEvery is the time between two attempts of a write that finds no space.
	retryEvery = 100 * time.Millisecond
	// stuckMemTables is how many memtables' bytes may wait while they cannot be written out.
	stuckMemTables = 2
	// stuckSublevels is how many levels within L0 there may be while compactions find no space. Pebble stops at l0Stop.
	stuckSublevels = l0Stop * 2 / 3
	// startSlack is the space that a start needs besides the memtables that it writes out: manifest, options, a log.
	startSlack = 256 << 10
)

// space watches the free space of the disk that the store is on.
type space struct {
	sizing
	s       *Store
	fs      vfs.FS // the file system below spaceFS
	dir     string
	watched bool // the file system reports its free space

	opening   atomic.Bool // nothing waits for space: Open fails
	full      atomic.Bool // growing transactions are refused
	emergency atomic.Bool // compactions may use more of the reserve
	blocked   atomic.Int64
	// noFlush and noCompact say that the last memtable, or compaction, found no space.
	noFlush, noCompact atomic.Bool

	free      atomic.Int64 // at the last check, minus the memtables that had to be written out
	unflushed atomic.Int64 // bytes in those memtables at the last check
	sublevels atomic.Int64 // levels within L0 at the last check
	since     atomic.Int64 // cost of commits since the last check
	lookedAt  atomic.Int64 // Unix nanoseconds

	pressed chan struct{} // a transaction was refused: housekeep is to make room
	stop    chan struct{}
	once    sync.Once

	mu    sync.Mutex // serialises checks and OnNoSpace
	laid  bool       // the ballast exists
	alarm bool       // the last argument of OnNoSpace
}

func newSpace(s *Store, dir string) *space {
	return &space{
		s:       s,
		fs:      s.opts.FS,
		dir:     dir,
		stop:    make(chan struct{}),
		pressed: make(chan struct{}, 1),
		sizing:  sizesFor(&s.opts, 0),
	}
}

// probe measures the disk, and checks that files can be created in the directory.
func (sp *space) probe() error {
	if u, err := sp.fs.GetDiskUsage(sp.dir); err == nil {
		sp.watched = true
		sp.sizing = sizesFor(&sp.s.opts, u.TotalBytes)
	} else {
		sp.reserve, sp.ballast = 0, 0
	}
	_, err := sp.fs.Stat(sp.ballastPath())
	sp.laid = err == nil
	name := sp.fs.PathJoin(sp.dir, "PROBE")
	f, err := sp.fs.Create(name, vfs.WriteCategoryUnspecified)
	if isNoSpace(err) {
		return nil // a full disk counts as writable; openDB finds out more
	}
	if err != nil {
		return err
	}
	_ = f.Close()
	return sp.fs.Remove(name)
}

// room reports whether that many bytes are free, if necessary after the ballast is removed. The store is not open yet.
func (sp *space) room(bytes uint64) bool {
	u, err := sp.fs.GetDiskUsage(sp.dir)
	if err != nil || u.AvailBytes >= bytes {
		return true
	}
	sp.mu.Lock()
	dropped := sp.dropBallast()
	sp.mu.Unlock()
	if dropped {
		u, err = sp.fs.GetDiskUsage(sp.dir)
	}
	return err != nil || u.AvailBytes >= bytes
}

func (sp *space) close() { sp.once.Do(func() { close(sp.stop) }) }

func (sp *space) closing() bool {
	select {
	case <-sp.stop:
		return true
	default:
		return false
	}
}

func (sp *space) ballastPath() string { return sp.fs.PathJoin(sp.dir, ballastName) }

// admit returns an error if a transaction of that many bytes must not be committed now. It never waits.
func (sp *space) admit(c class, bytes int) error {
	if sp.s.readOnly.Load() {
		return sp.s.errReadOnly()
	}
	if sp.blocked.Load() > 0 {
		return fmt.Errorf("%w: the disk is full, the log waits for space", engine.ErrNoSpace)
	}
	cost := writeCost * int64(bytes)
	if sp.reserve == 0 {
		sp.since.Add(cost)
		return sp.stuck(c, bytes)
	}
	if sp.since.Add(cost) > int64(sp.reserve/checkPart) {
		sp.look()
		sp.since.Add(cost)
	}
	err := sp.fits(c, bytes)
	if err == nil {
		return nil
	}
	if now := time.Now().UnixNano(); now-sp.lookedAt.Load() > int64(refusedEvery) {
		sp.look()
		sp.since.Add(cost)
		if err = sp.fits(c, bytes); err == nil {
			return nil
		}
	}
	sp.since.Add(-cost)
	if c == growing && cost <= int64(sp.reserve/checkPart) && !sp.full.Load() {
		sp.mu.Lock()
		sp.tell(true)
		sp.mu.Unlock()
	}
	sp.press()
	return err
}

// fits compares the remaining space with the floor of a class. The cost of the transaction is included in since.
func (sp *space) fits(c class, bytes int) error {
	left, floor := sp.free.Load()-sp.since.Load(), sp.floor(c, bytes)
	if left < floor {
		return fmt.Errorf(
			"%w: %d bytes would be left on the disk, less than the reserve of %d", engine.ErrNoSpace, max(0, left),
			floor,
		)
	}
	return sp.stuck(c, bytes)
}

// stuck refuses transactions that would make Pebble's writers wait for memtables or compactions that find no space.
// Tiny vital transactions are accepted for longer.
func (sp *space) stuck(c class, bytes int) error {
	if c == vital && bytes <= tinyBytes {
		return nil
	}
	switch {
	case sp.noFlush.Load() && sp.unflushed.Load()+sp.since.Load()/writeCost > stuckMemTables*int64(sp.memTable):
		return fmt.Errorf("%w: memtables wait for space to be written out", engine.ErrNoSpace)
	case sp.noCompact.Load() && sp.sublevels.Load() >= stuckSublevels:
		return fmt.Errorf("%w: compactions wait for space", engine.ErrNoSpace)
	}
	return nil
}

// floor is the space that a transaction must leave free.
func (sp *space) floor(c class, bytes int) int64 {
	r := int64(sp.reserve)
	switch {
	case c == vital && bytes <= tinyBytes:
		return r / tinyPart
	case c == vital:
		return r / vitalPart
	case c == shrinking:
		return r / shrinkPart
	case sp.full.Load():
		return r + r/resumePart
	}
	return r
}

// press asks housekeep to make room.
func (sp *space) press() {
	select {
	case sp.pressed <- struct{}{}:
	default:
	}
}

// look compares the free space with the reserve, and creates the ballast file when there is room for it.
func (sp *space) look() {
	if !sp.watched || sp.s.readOnly.Load() {
		return
	}
	m := sp.s.db.Metrics() // before the lock: hit is called while Pebble holds its own
	sp.mu.Lock()
	defer sp.mu.Unlock()
	u, err := sp.fs.GetDiskUsage(sp.dir)
	if errors.Is(err, fs.ErrNotExist) {
		// Pebble would continue, and acknowledge commits, until it needs its next file.
		_ = sp.s.fail(fmt.Errorf("data directory %s has been removed", sp.dir))
		return
	}
	if err != nil {
		sp.s.log.Warn("the free space of the disk cannot be determined", "error", err)
		return
	}
	avail, unflushed := int64(u.AvailBytes), int64(m.WAL.Size)
	reserve := int64(sp.reserve)
	need := reserve
	if sp.full.Load() {
		need += need / resumePart
	}
	if !sp.laid && sp.ballast > 0 && avail-unflushed > need+int64(sp.ballast) {
		sp.emergency.Store(false) // else the ballast would go again at once, and the alarm would never end
		sp.layBallast()
		avail -= int64(sp.ballast)
	}
	if (avail-unflushed < reserve/vitalPart || sp.emergency.Load()) && sp.dropBallast() {
		avail += int64(sp.ballast)
	}
	sp.unflushed.Store(unflushed)
	sp.sublevels.Store(int64(m.Levels[0].Sublevels))
	sp.free.Store(avail - unflushed)
	sp.since.Store(0)
	sp.lookedAt.Store(time.Now().UnixNano())
	sp.tell(sp.blocked.Load() > 0 || avail-unflushed < need || !sp.laid && sp.ballast > 0 && sp.full.Load())
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
		sp.emergency.Store(false)
		sp.s.log.Info("the disk has room again: writes are accepted")
	}
	sp.s.opts.OnNoSpace(full)
}

// layBallast creates the ballast file. sp.mu is held.
func (sp *space) layBallast() {
	f, err := sp.fs.Create(sp.ballastPath(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return // the next check tries again
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

// hit is called when a write has found no space. It removes the ballast.
func (sp *space) hit() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.dropBallast()
	if !sp.opening.Load() {
		sp.tell(true)
	}
}

// dropBallast removes the ballast file, if it exists and can be removed. sp.mu is held.
func (sp *space) dropBallast() bool {
	if !sp.laid {
		return false
	}
	sp.laid = false
	err := sp.fs.Remove(sp.ballastPath())
	if err == nil {
		sp.s.log.Warn("the disk is full: the ballast file has been removed", "bytes", sp.ballast)
	}
	return err == nil
}

// flushed and compacted are called with the results of memtables' writes and of compactions.
func (sp *space) flushed(err error) {
	if err == nil || isNoSpace(err) {
		sp.noFlush.Store(err != nil)
	}
}

func (sp *space) compacted(err error) {
	if err == nil || isNoSpace(err) {
		sp.noCompact.Store(err != nil)
	}
}

// mayCompact returns an error if a compaction must not write more: it never uses the space that logs and memtables
// need. A store that is being closed abandons its compactions.
func (sp *space) mayCompact() error {
	if sp.closing() {
		return engine.ErrClosed
	}
	if sp.reserve == 0 {
		return nil
	}
	u, err := sp.fs.GetDiskUsage(sp.dir)
	if err != nil {
		return nil //nolint:nilerr // without the free space there is nothing to check against
	}
	part := int64(compactPart)
	if sp.emergency.Load() {
		part = emergencyPart
	}
	if int64(u.AvailBytes)-sp.unflushed.Load()-sp.since.Load()/writeCost < int64(sp.reserve)/part {
		return fmt.Errorf("the rest of the disk is reserved for logs: %w", syscall.ENOSPC)
	}
	return nil
}

// retry calls op. If op finds no space, it is called again after the ballast has been removed. If it must succeed, it
// is called until it succeeds or fails for another reason. Closing the store does not end that, because Pebble cannot
// continue without its log; Close does not wait for it.
func (sp *space) retry(must bool, op func() error) error {
	err := op()
	if err == nil || !isNoSpace(err) {
		return sp.slow(must, err)
	}
	sp.hit()
	if err = op(); err == nil || !isNoSpace(err) {
		return err
	}
	if sp.opening.Load() && !must {
		sp.s.log.Error("the disk is full: the start waits for space")
		sp.pause()
	}
	if !must || sp.opening.Load() {
		return sp.slow(must, err)
	}
	sp.blocked.Add(1)
	defer sp.blocked.Add(-1)
	sp.s.log.Error("the disk is full: the store waits for space")
	for {
		time.Sleep(retryEvery)
		if err = op(); err == nil || !isNoSpace(err) {
			return err
		}
	}
}

// slow returns err, after a pause if a table could not be written: Pebble tries again at once, forever.
func (sp *space) slow(must bool, err error) error {
	if err != nil && !must && !sp.opening.Load() {
		sp.pause()
	}
	return err
}

// pause waits for the time between two attempts, or until the store is being closed.
func (sp *space) pause() {
	t := time.NewTimer(retryEvery)
	defer t.Stop()
	select {
	case <-t.C:
	case <-sp.stop:
	}
}

// NoSpace reports whether the store refuses growing transactions because the disk is nearly full.
func (s *Store) NoSpace() bool { return s.readOnly.Load() || s.space.full.Load() }
