package compare

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/proc"
)

const (
	// goMemoryShare is the part of a memory limit that Go's own limit gets; the rest is for stacks, code and page
	// tables.
	goMemoryShare = 0.85
	// bigWindowMin is the shortest window of the big-data run: caches take a while to show what they do.
	bigWindowMin = 10 * time.Second
	// bigFreeFactor is the free disk space that the big-data run wants, as a multiple of its data: room for a log,
	// tables and compactions, or for pages that are half full.
	bigFreeFactor = 4
)

// realTargets are the servers that store.
func (r *runner) realTargets() (ts []*target) {
	for _, t := range r.bin.targets {
		if t.name != nameNull {
			ts = append(ts, t)
		}
	}
	return ts
}

// memory measures resident memory with many keys, and the time to start with them.
func (r *runner) memory(ctx context.Context) {
	if r.cfg.MemoryKeys == 0 {
		return
	}
	for _, t := range r.realTargets() {
		r.log.Info("memory and start", "server", t.name, "keys", r.cfg.MemoryKeys)
		res, err := r.memoryOf(ctx, t)
		if err != nil {
			r.fail(ctx, "memory and start of "+t.name, err)
			continue
		}
		r.log.Info("memory and start", "server", t.name, "rss_mib", res.Loaded.RSS>>20, "peak_mib", res.Loaded.Peak>>20,
			"starts_s", res.Starts)
		r.rep.Memory = append(r.rep.Memory, res)
	}
}

func (r *runner) memoryOf(ctx context.Context, t *target) (memoryResult, error) {
	res := memoryResult{Server: t.name, Keys: r.cfg.MemoryKeys, ValSize: r.cfg.MemoryValSize}
	dir, remove, err := tempDir(r.cfg.Dir)
	if err != nil {
		return res, err
	}
	defer remove()
	s, err := t.start(ctx, startOptions{dir: dir})
	if err != nil {
		return res, err
	}
	defer func() { s.kill() }()
	filled, err := r.fillPlain(ctx, s, r.cfg.MemoryKeys, r.cfg.MemoryValSize)
	if err != nil {
		return res, err
	}
	res.LoadRate = filled.PerSec
	if res.Loaded, err = proc.ReadMemory(s.pid()); err != nil {
		return res, err
	}
	for range r.cfg.Starts {
		begin := time.Now()
		if err := s.stop(); err != nil {
			return res, err
		}
		res.Stops = append(res.Stops, time.Since(begin).Seconds())
		if s, err = restart(ctx, t, dir, s); err != nil {
			return res, err
		}
		res.Starts = append(res.Starts, time.Since(s.started).Seconds())
	}
	if res.Started, err = proc.ReadMemory(s.pid()); err != nil {
		return res, err
	}
	if err := r.countKeys(ctx, s, r.cfg.MemoryKeys); err != nil {
		return res, err
	}
	if err := s.stop(); err != nil {
		return res, err
	}
	res.Disk, err = diskUse(dir)
	return res, err
}

// restart starts t again. On failure it returns the old server, which has ended, so that callers can always kill the
// result.
func restart(ctx context.Context, t *target, dir string, old *server) (*server, error) {
	s, err := t.start(ctx, startOptions{dir: dir})
	if err != nil {
		return old, err
	}
	return s, nil
}

// fillPlain writes the keys with one put each: a large transaction would fill etcd's raft log, which it keeps in
// memory by entries.
func (r *runner) fillPlain(ctx context.Context, s *server, keys int64, valSize int) (load.Result, error) {
	args := []string{"fill", "--txn-ops=1", keySpace(keys), "--val-size=" + strconv.Itoa(valSize)}
	return r.hwbench(ctx, s, append(args, manyClients...)...)
}

// countKeys fails unless the server holds that many keys. A list of one page returns the exact count.
func (r *runner) countKeys(ctx context.Context, s *server, keys int64) error {
	_, err := r.hwbench(ctx, s, "list", "--total=1", keySpace(keys), "--limit=10000")
	return err
}

func keySpace(keys int64) string { return "--key-space-size=" + strconv.FormatInt(keys, 10) }

// bigData loads more values than the server may keep in memory and then reads and writes all over them.
func (r *runner) bigData(ctx context.Context) {
	if r.cfg.BigBytes == 0 {
		return
	}
	free, err := freeBytes(r.cfg.Dir)
	if err != nil {
		r.fail(ctx, "big data", err)
		return
	}
	if free < bigFreeFactor*r.cfg.BigBytes {
		r.rep.Notes = append(r.rep.Notes, fmt.Sprintf("The big-data run was left out: it wants %d GB of free disk, "+
			"there are %d.", bigFreeFactor*r.cfg.BigBytes/1e9, free/1e9))
		return
	}
	for _, t := range r.realTargets() {
		r.log.Info("big data", "server", t.name, "bytes", r.cfg.BigBytes)
		res, err := r.bigDataOf(ctx, t)
		if err != nil {
			r.fail(ctx, "big data on "+t.name, err)
			continue
		}
		r.log.Info("big data", "server", t.name, "load_per_second", int64(res.Load.PerSec), "mixed_per_second",
			int64(res.Mixed.PerSec),
			"peak_mib", res.Memory.Peak>>20, "anon_mib", res.Memory.Anon>>20)
		r.rep.Big = append(r.rep.Big, res)
	}
}

func (r *runner) bigDataOf(ctx context.Context, t *target) (bigResult, error) {
	res := bigResult{
		Server: t.name, Bytes: r.cfg.BigBytes, ValSize: r.cfg.BigValSize, Limit: r.cfg.BigMemory,
		Enforced: r.cfg.Cgroup != "",
	}
	dir, remove, err := tempDir(r.cfg.Dir)
	if err != nil {
		return res, err
	}
	defer remove()
	o := startOptions{
		dir: dir, env: []string{"GOMEMLIMIT=" + strconv.FormatInt(int64(goMemoryShare*float64(r.cfg.BigMemory)), 10)},
	}
	if r.cfg.Cgroup != "" {
		if o.limit, err = newMemoryGroup(r.cfg.Cgroup, r.cfg.BigMemory); err != nil {
			return res, err
		}
		defer o.limit.remove()
	}
	s, err := t.start(ctx, o)
	if err != nil {
		return res, err
	}
	defer s.kill()
	keys := max(1, r.cfg.BigBytes/int64(r.cfg.BigValSize))
	if res.Load, err = r.fillPlain(ctx, s, keys, r.cfg.BigValSize); err != nil {
		return res, err
	}
	window := max(bigWindowMin, r.cfg.Duration)
	res.Mixed, err = r.hwbench(ctx, s, append([]string{
		"mixed", keySpace(keys), "--val-size=" + strconv.Itoa(r.cfg.BigValSize), "--warmup=" + r.cfg.Warmup.String(),
		"--duration=" + window.String(),
	}, manyClients...)...)
	if err != nil {
		return res, err
	}
	if res.Memory, err = proc.ReadMemory(s.pid()); err != nil {
		return res, err
	}
	if res.Disk, err = diskUse(dir); err != nil {
		return res, err
	}
	return res, s.stop()
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
