//go:build headwater_simulation

package main

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/watch/history"
)

const (
	// damagedMax is how many files one damage is of at most, flippedMax how many bytes of one it changes.
	damagedMax, flippedMax = 3, 8
	// slowMax is how long a slow disk takes for a write at most.
	slowMax = time.Second
	// memTableMin is the least of a memtable: with it most of a run's history is in files.
	memTableMin = 4 << 10
)

// disk is where a hub keeps its history, in memory, through all lives of the pod.
type disk struct {
	seen *seen
	rnd  *rand.Rand
	opts history.Options // limits that the seed draws
	dir  string          // of the history, once one has been opened

	mu      sync.Mutex
	fs      *vfs.MemFS
	refuses func(errorfs.OpKind) error // what the disk does not do now; nil: it does all
}

// newDisk returns the disk of a pod; nil: it has none.
func (w *world) newDisk(p *pod) *disk {
	if !w.plan.disks || p.kind != config.WatchHub {
		return nil
	}
	r := w.rand("disk of " + p.name)
	d := &disk{seen: &w.seen, rnd: r, fs: vfs.NewCrashableMem(), opts: history.Options{Now: p.clock.now}}
	if r.IntN(4) > 0 {
		d.opts.MemTableBytes = memTableMin << r.IntN(3)
	}
	if r.IntN(3) == 0 {
		d.opts.MaxBytes = 64<<10 + r.Int64N(512<<10)
	}
	if r.IntN(4) == 0 {
		d.opts.MaxAge = between(r, time.Second, 10*time.Second)
	}
	if r.IntN(2) == 0 {
		d.opts.QueueBytes = 256 + r.IntN(4<<10)
	}
	return d
}

// attach gives a pod its disk.
func (d *disk) attach(p *compose.Parts) {
	if d != nil {
		p.OpenHistory = d.open
	}
}

// open is a compose.Parts.OpenHistory.
func (d *disk) open(dir string, identity []byte, codec revlog.Codec, log *slog.Logger) (compose.History, error) {
	o := d.opts
	o.Identity, o.Codec, o.Log = identity, codec, log
	d.mu.Lock()
	d.dir = dir
	o.FS = errorfs.Wrap(d.fs, errorfs.InjectorFunc(d.refuse))
	d.mu.Unlock()
	c, err := history.Open(dir, o)
	if err != nil {
		return nil, err
	}
	return keptHistory{c, d.seen}, nil
}

// refuse says whether the disk does something now.
func (d *disk) refuse(op errorfs.Op) error {
	d.mu.Lock()
	refuses := d.refuses
	d.mu.Unlock()
	if refuses == nil {
		return nil
	}
	return refuses(op.Kind)
}

// spoil has the disk refuse what f says until over is called.
func (d *disk) spoil(f func(errorfs.OpKind) error) (over func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuses = f
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.refuses = nil
	}
}

// crash makes the disk one that a process left which has ended: what it still writes goes nowhere. Where the machine
// has ended too, some of what was not synced is lost.
func (d *disk) crash() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := 100
	if d.rnd.IntN(2) == 0 {
		kept = d.rnd.IntN(100)
	}
	d.fs = d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: d.rnd})
}

// damage changes bytes of some files, or cuts them off, while they may be open.
func (d *disk) damage(r *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, err := d.fs.List(d.dir)
	if err != nil {
		return nil //nolint:nilerr // nothing has been written yet
	}
	for range 1 + r.IntN(damagedMax) {
		if len(names) == 0 {
			return nil
		}
		if err := d.damageFile(path.Join(d.dir, names[r.IntN(len(names))]), r); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) damageFile(name string, r *rand.Rand) error {
	f, err := d.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil || len(b) == 0 {
		return f.Close()
	}
	if r.IntN(4) == 0 {
		if err := f.Close(); err != nil {
			return err
		}
		if f, err = d.fs.Create(name, vfs.WriteCategoryUnspecified); err != nil {
			return err
		}
		b = b[:r.IntN(len(b))]
	} else {
		for range 1 + r.IntN(flippedMax) {
			b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		}
	}
	if len(b) > 0 {
		if _, err := f.WriteAt(b, 0); err != nil {
			return err
		}
	}
	d.seen.note("disk: file damaged")
	return f.Close()
}

// keptHistory is a history that counts what it was good for.
type keptHistory struct {
	*history.Cache
	seen *seen
}

// Start implements compose.History.
func (h keptHistory) Start(ctx context.Context, log watch.Log, position int64) error {
	err := h.Cache.Start(ctx, log, position)
	if s := h.Stats(); s.Last > s.Floor {
		h.seen.note("disk: history of the life before")
	}
	return err
}

// Over implements compose.History.
func (h keptHistory) Over(log watch.Log) watch.Log { return countedReads{h.Cache.Over(log), h.seen} }

// countedReads is a log whose reads of the disk are counted.
type countedReads struct {
	*history.Cached
	seen *seen
}

// ReadLog implements watch.Log.
func (l countedReads) ReadLog(
	ctx context.Context, from int64, maxEntries, maxBytes int,
) ([]revlog.Entry, int64, error) {
	before, _ := l.Served()
	entries, next, err := l.Cached.ReadLog(ctx, from, maxEntries, maxBytes)
	if after, _ := l.Served(); after > before {
		l.seen.note("disk: read of history")
	}
	return entries, next, err
}

// diskFaults are those of the disks of hubs.
var diskFaults = []fault{
	{"disk is full", onPod(hasDisk, func(_ context.Context, p *pod, r *rand.Rand) error {
		defer p.disk.spoil(func(op errorfs.OpKind) error {
			switch op {
			case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate:
				return syscall.ENOSPC
			}
			return nil
		})()
		time.Sleep(lasting(r, pauseMax))
		return nil
	})},
	{"disk is slow", onPod(hasDisk, func(_ context.Context, p *pod, r *rand.Rand) error {
		by := between(r, slowMax/10, slowMax)
		defer p.disk.spoil(func(op errorfs.OpKind) error {
			switch op {
			case errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
				time.Sleep(by)
			}
			return nil
		})()
		time.Sleep(between(r, pauseMax/4, pauseMax))
		return nil
	})},
	{"disk fails", onPod(hasDisk, func(_ context.Context, p *pod, r *rand.Rand) error {
		defer p.disk.spoil(func(errorfs.OpKind) error { return syscall.EIO })()
		time.Sleep(lasting(r, pauseMax))
		return nil
	})},
	{"disk is damaged", onPod(hasDisk, func(ctx context.Context, p *pod, r *rand.Rand) error {
		if r.IntN(2) == 0 {
			return p.disk.damage(r)
		}
		p.kill()
		err := p.disk.damage(r)
		time.Sleep(between(r, 0, downMax))
		if err != nil {
			return err
		}
		return p.start(ctx)
	})},
}

func hasDisk(p *pod) bool { return up(p) && p.disk != nil }
