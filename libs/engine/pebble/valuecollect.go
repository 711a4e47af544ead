package pebble

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
)

// How value files are given back. A value is garbage when no row points to it any more. A file without live values is
// removed. Of a file with few, the live values are written once more, into the active file. While the store is written
// to, that is done late (rewriteBusy, and valuepace.go), since every byte written again counts; when it rests or space
// is asked for, it is done for what little garbage there is.
const (
	// rewriteBusy, rewriteIdle and rewriteAsked: a file is rewritten if its garbage is at least so many hundredths of
	// it.
	rewriteBusy, rewriteIdle, rewriteAsked = 83, 15, 3
	// smallFilesMax is how many files of less than a quarter of a file's size there may be on a store that rests:
	// every process begins a new one. Beyond that they are rewritten into one.
	smallFilesMax = 8
	smallFilePart = 4
	// collectEvery is the time between two looks at the files. scanValues is how many values are looked at each time
	// while the store is written to, and scanValuesIdle when it rests.
	collectEvery               = time.Second
	scanValues, scanValuesIdle = 4 << 10, 64 << 10
	// collectLogEvery is the time between two log lines about files that cannot be given back.
	collectLogEvery = time.Minute
	// moveBytes and moveValues bound what is written again for one commit. One value at a time is held in memory.
	moveBytes  = 4 << 20
	moveValues = 256
	// removalWait bounds how long Defragment waits for readers of files that it is to remove.
	removalWait = 3 * time.Second
)

// effort is how hard values are collected.
type effort struct {
	values  int   // to look at; 0: all
	garbage int64 // in hundredths of a file
	spare   int64 // bytes that may be written again for files with less garbage, if there is much in all
	merge   bool  // small files too
	asked   bool  // somebody waits: also look at what could not be read, and wait for readers of what is removed
}

// asked is what Defragment and a full disk ask for.
var asked = effort{garbage: rewriteAsked, merge: true, asked: true}

// collector collects values until the store is closed.
func (v *valueLog) collector() {
	s := v.s
	ctx, cancel := s.running()
	defer cancel()
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	var last uint64
	var p pace
	changed, told := time.Now(), time.Time{}
	for {
		select {
		case <-s.stop:
			return
		case <-s.failed:
			return
		case <-tick.C:
		}
		if s.readOnly.Load() {
			continue
		}
		now := time.Now()
		if seq, at := v.users(); at != nil {
			at.unref()
			if seq != last {
				last, changed = seq, now
			}
		}
		e := effort{values: scanValues, garbage: rewriteBusy, spare: v.tick(&p)}
		if now.Sub(changed) >= idleAfter {
			e = effort{values: scanValuesIdle, garbage: rewriteIdle, merge: true}
		}
		err := v.collect(ctx, e)
		if err != nil && s.err() == nil && now.Sub(told) >= collectLogEvery {
			told = now
			s.log.Warn("value files could not be reclaimed, will be tried again", "error", err.Error())
		}
	}
}

// collect looks for garbage and removes files. One call does so at a time. Close waits for it, so the context must end
// when the store is closed. Errors: ErrNoSpace, ErrUnavailable, ErrClosed, the context's.
func (v *valueLog) collect(ctx context.Context, e effort) error {
	switch {
	case !v.on():
		return nil
	case v.s.space.blocked.Load() > 0:
		return errNoRoomForMemory // what waits for space may hold what is needed here
	}
	select {
	case v.collecting <- struct{}{}:
		defer func() { <-v.collecting }()
	case <-ctx.Done():
		return ctx.Err()
	case <-v.s.stop:
		return engine.ErrClosed
	}
	if err := v.look(ctx, v.restful(e), e.values); err != nil {
		return err
	}
	if filled, err := v.settle(e); err != nil {
		return err
	} else if filled != nil {
		if err := v.look(ctx, filled, 0); err != nil {
			return err
		}
	}
	if err := v.removeDead(ctx); err != nil {
		return err
	}
	for _, f := range v.candidates(e) {
		if err := v.rewrite(ctx, f); err != nil {
			return err
		}
		if err := v.look(ctx, []*valueFile{f}, 0); err != nil {
			return err
		}
		if err := v.removeDead(ctx); err != nil {
			return err
		}
		v.reap()
	}
	v.reap()
	if e.asked {
		v.awaitRemoval(ctx)
	}
	return nil
}

// restful returns the files that no transaction under way has put values into that rows do not refer to yet: those that
// the collector knows least of first.
func (v *valueLog) restful(e effort) []*valueFile {
	v.mu.Lock()
	defer v.mu.Unlock()
	var files []*valueFile
	for _, f := range v.files {
		if f.flying == 0 && (!f.broken || e.asked) {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b *valueFile) int {
		return cmp.Or(cmp.Compare(a.scanned, b.scanned), cmp.Compare(a.number, b.number))
	})
	return files
}

// settle fills the active file if so much of it is garbage that it is to be rewritten or removed. What was found out
// about it is outdated then; it is returned, unless a transaction is about to refer to values in it.
func (v *valueLog) settle(e effort) ([]*valueFile, error) {
	v.appending.Lock()
	defer v.appending.Unlock()
	f := v.active
	if f == nil || v.closed {
		return nil, nil
	}
	size := f.size.Load()
	v.mu.Lock()
	garbage := f.garbage(f.scannedSize)
	worth := f.scanned > 0 && garbage >= e.least(size) &&
		(e.asked || e.merge && garbage >= garbageMin || size >= int64(v.s.space.valueFile/smallFilePart))
	v.mu.Unlock()
	if !worth {
		return nil, nil
	}
	if err := v.fill(); err != nil {
		return nil, v.failed(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	f.scanned = 0
	if f.flying > 0 {
		return nil, nil
	}
	return []*valueFile{f}, nil
}

// garbage is how much of the first size bytes is known not to be live. valueLog.mu is held.
func (f *valueFile) garbage(size int64) int64 { return size - int64(valueHeadLen) - f.live }

// known reports whether at most what was found live in the file is live: it gets no more pointers, and has got none
// since it was looked at; it may have been filled meanwhile. valueLog.mu is held.
func (f *valueFile) known() bool {
	return f.filled && f.flying == 0 && !f.broken && f.scanned > 0 && f.scannedSize == f.size.Load()
}

// least is the garbage from which on a file of so many bytes is rewritten.
func (e effort) least(size int64) int64 { return max(1, (size*e.garbage+99)/100) }

// look finds out how much of some restful files is live, one after the other, until it has looked at so many values; 0:
// at all. It must be called right after restful. A file that is not filled may get more meanwhile.
func (v *valueLog) look(ctx context.Context, files []*valueFile, most int) error {
	var sizes []int64
	v.mu.Lock()
	files = slices.DeleteFunc(slices.Clone(files), func(f *valueFile) bool {
		if f.flying == 0 {
			sizes = append(sizes, f.size.Load())
		}
		return f.flying > 0
	})
	v.mu.Unlock()
	seq, at := v.users() // after the sizes: it has all that refers to the first so many bytes of these files
	if at == nil {
		return engine.ErrClosed
	}
	defer at.unref()
	if err := at.commit.wait(ctx); err != nil { // what a crash takes back is not garbage
		return err
	}
	seen := 0
	for i, f := range files {
		if f.scanned == seq+1 && f.scannedSize == sizes[i] {
			continue
		}
		if most > 0 && seen >= most {
			return nil
		}
		live := int64(0)
		n, err := v.eachLive(ctx, at, f.number, func(b back, _ []byte) error {
			live += int64(b.length)
			return nil
		})
		seen += n
		broken := errors.Is(err, engine.ErrDamaged)
		if err != nil && !broken {
			return err
		}
		v.mu.Lock()
		f.live, f.scanned, f.scannedSize, f.broken = live, seq+1, sizes[i], broken
		if broken { // anything may be live
			f.live = sizes[i]
		}
		v.mu.Unlock()
	}
	return nil
}

// eachLive calls do for each value of a file that is live at a view, with its row's bytes, which are valid meanwhile.
// It returns how many values it has looked at. A row or back row that cannot be read is an error: whether a value is
// live is not known then.
func (v *valueLog) eachLive(
	ctx context.Context, at *view, file uint64, do func(b back, raw []byte) error,
) (int, error) {
	rows, err := at.newIter(userSpan)
	if err != nil {
		return 0, v.s.readError(err)
	}
	defer at.putIter(rows)
	sp := backSpan(file)
	it, err := at.snap.NewIter(&pdb.IterOptions{LowerBound: sp.begin, UpperBound: sp.end})
	if err != nil {
		return 0, v.s.readError(err)
	}
	defer func() { _ = it.Close() }()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%ctxEvery == 0 && ctx.Err() != nil {
			return n, ctx.Err()
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return n, v.s.readError(err)
		}
		b, ok := parseBack(it.Key(), value)
		if !ok {
			return n, v.s.readError(pdb.ErrCorruption)
		}
		raw, found, err := rows.find(b.row)
		if err != nil {
			return n, v.s.readError(err)
		}
		if !found || !v.pointsTo(raw, b.file, b.offset) {
			continue
		}
		if err := do(b, raw); err != nil {
			return n, err
		}
	}
	if err := it.Error(); err != nil {
		return n, v.s.readError(err)
	}
	return n, nil
}

// pointsTo reports whether a row's bytes are a pointer to a place.
func (v *valueLog) pointsTo(raw []byte, file uint64, offset int64) bool {
	if !v.tagged(raw) || raw[tagLen] != kindPointer {
		return false
	}
	p, ok := parsePointer(raw[refLen:])
	return ok && p.file == file && p.offset == offset
}

// candidates returns the files that are to be rewritten, those with most garbage first.
func (v *valueLog) candidates(e effort) []*valueFile {
	v.mu.Lock()
	defer v.mu.Unlock()
	small := int64(v.s.space.valueFile / smallFilePart)
	var files, smalls, others []*valueFile
	for _, f := range v.files {
		switch size := f.size.Load(); {
		case !f.known(), f.stuck && !e.asked:
		case f.garbage(size) >= e.least(size):
			files = append(files, f)
		case e.spare > 0 && f.garbage(size) >= effort{garbage: rewriteIdle}.least(size):
			others = append(others, f)
		case size < small:
			smalls = append(smalls, f)
		}
	}
	if e.merge && len(smalls) > smallFilesMax {
		files = append(files, smalls...)
	}
	files = append(files, v.crowding(others, files, e.spare)...)
	byGarbage(files)
	return files
}

// rewrite puts what is live in a file into the active one. Then nothing is live in it but values that cannot be read.
func (v *valueLog) rewrite(ctx context.Context, f *valueFile) error {
	_, at := v.users()
	if at == nil {
		return engine.ErrClosed
	}
	defer at.unref()
	var batch []moved
	var bytesIn int64
	flush := func() error {
		err := v.rewriteSome(ctx, f, batch)
		batch, bytesIn = batch[:0], 0
		return err
	}
	_, err := v.eachLive(ctx, at, f.number, func(b back, raw []byte) error {
		b.row = bytes.Clone(b.row)
		batch = append(batch, moved{was: bytes.Clone(raw), old: b})
		if bytesIn += int64(b.length); bytesIn < moveBytes && len(batch) < moveValues {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	f.scanned = 0 // to be looked at again, although the store's users have changed nothing
	return err
}

// rewriteSome writes some values once more and lets their rows point there.
func (v *valueLog) rewriteSome(ctx context.Context, f *valueFile, values []moved) error {
	if len(values) == 0 {
		return nil
	}
	if err := v.s.space.mayCompact(); err != nil {
		return err
	}
	var into []*valueFile
	defer func() { v.landed(into) }()
	good := values[:0]
	var buf []byte
	for _, m := range values {
		p, _ := parsePointer(m.was[refLen:])
		value, err := v.read(p, buf)
		if errors.Is(err, engine.ErrDamaged) {
			v.mu.Lock()
			f.stuck = true // the value stays where it is, and the file with it
			v.mu.Unlock()
			continue
		}
		if err != nil {
			return err
		}
		if m.now, err = v.append(value, &into); err != nil {
			return err
		}
		buf = value
		good = append(good, m)
	}
	if err := v.syncAll(into); err != nil {
		return err
	}
	for _, m := range good {
		v.movedBytes.Add(int64(m.now.length))
	}
	return v.move(ctx, good)
}

// doomed is a file that has no live values, and that readers of earlier states may still read.
type doomed struct {
	file *valueFile
	seq  uint64 // Pebble's, of the commit from which on nothing refers to the file
}

// removeDead gives up the files without live values: it removes their back rows. The files go when the readers do that
// see what was there before.
func (v *valueLog) removeDead(ctx context.Context) error {
	for _, f := range v.dead() {
		sp := backSpan(f.number)
		c, seq, err := v.s.commitOwn(ctx, func(b *pdb.Batch) error { return b.DeleteRange(sp.begin, sp.end, nil) })
		if err != nil {
			return err
		}
		if err := c.wait(ctx); err != nil { // not before that is durable
			return err
		}
		v.mu.Lock()
		delete(v.files, f.number)
		v.doomed = append(v.doomed, doomed{f, seq})
		v.mu.Unlock()
	}
	return nil
}

// dead returns the files in which nothing is live.
func (v *valueLog) dead() []*valueFile {
	v.mu.Lock()
	defer v.mu.Unlock()
	var files []*valueFile
	for _, f := range v.files {
		if f.known() && f.live == 0 {
			files = append(files, f)
		}
	}
	return files
}
