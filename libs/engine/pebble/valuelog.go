package pebble

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// valueBytesMin is the length from which on a value goes to the value log by default. Below it a second sync and a read
// of its own cost more than the second copy saves.
const valueBytesMin = 32 << 10

// valueLog keeps large values in files of their own, beside Pebble's: they are written there once, and the rows refer
// to them. doc.go has the invariants.
//
// A file is only appended to. One file at a time is; at sizing.valueFile bytes, and when the store is closed, it is
// filled: it never changes again. Another process never continues a file.
type valueLog struct {
	s     *Store
	tag   []byte // nil: the store has no value log; never changes after Open
	limit int    // values of at least so many bytes are put here; never changes after Open

	// appending is held while values are written and files begun and filled; it guards the next three. What waits for
	// space holds it.
	appending sync.Mutex
	active    *valueFile // values are appended to it; nil: none yet
	next      uint64     // number of the next file
	closed    bool

	mu     sync.Mutex // short; taken below appending
	files  map[uint64]*valueFile
	doomed []doomed  // files without live values that readers may still need
	told   time.Time // when a file that cannot be removed was last logged

	own                  atomic.Uint64 // commits of the collector's own
	putBytes, movedBytes atomic.Int64  // bytes of values that users have put, and that the collector has moved

	collecting chan struct{} // holds one while values are collected
	readers    valueReaders
}

// valueFile is one file.
type valueFile struct {
	number uint64
	name   string
	nonce  uint64

	// Of the active file; valueLog.appending guards them.
	file  vfs.File
	tail  []byte // the last bytes
	spent atomic.Bool

	size    atomic.Int64 // written
	synced  atomic.Int64
	syncing sync.Mutex
	lost    error // a sync has failed: what was not synced before may be anything; guarded by syncing

	// valueLog.mu guards the rest.
	filled  bool
	flying  int    // transactions that have put values here and are not committed yet
	scanned uint64 // the commit of the store's users that live is of, plus 1; 0: none
	live    int64  // bytes of live values
	broken  bool   // rows cannot be read that may refer to values here: the file stays
	stuck   bool   // live values cannot be read: the file cannot be rewritten

	scannedSize int64 // the file's size before that commit
}

// valuesExt ends the names of value files.
const valuesExt = ".values"

func valueFileName(number uint64) string { return fmt.Sprintf("%06d%s", number, valuesExt) }

func (v *valueLog) init(s *Store) {
	v.s, v.limit = s, math.MaxInt
	v.files = map[uint64]*valueFile{}
	v.collecting = make(chan struct{}, 1)
	v.readers.init(v)
}

// on reports whether the store has a value log.
func (v *valueLog) on() bool { return v.tag != nil }

// largeValue is a value that a transaction has set and that goes to a value file.
type largeValue struct {
	value   []byte
	pointer int // where the rest of the pointer, behind its tag and kind, is in the batch
	back    int // where file and offset of the back row are in the batch
}

// put appends the large values of a transaction, writes into its batch where they are, and syncs them. It is called
// before the batch is committed, so that no row is ever durable before the value that it refers to. The caller calls
// landed when the commit has been applied or given up. Errors: ErrNoSpace (only this transaction fails), ErrUnavailable
// (the store has failed).
func (v *valueLog) put(t *txn) error {
	repr := t.batch.batch.Repr()
	for i := range t.large {
		l := &t.large[i]
		p, err := v.append(l.value, &t.valueFiles)
		if err != nil {
			return err
		}
		p.append(repr[l.pointer:l.pointer])
		copy(repr[l.back:], backKey(p.file, p.offset)[2:])
		v.putBytes.Add(int64(p.length))
		l.value = nil // it is in the file
	}
	return v.syncAll(t.valueFiles)
}

// syncAll syncs files.
func (v *valueLog) syncAll(files []*valueFile) error {
	for _, f := range files {
		if err := v.sync(f); err != nil {
			return err
		}
	}
	return nil
}

// landed says that the values of a transaction are referred to, or never will be.
func (v *valueLog) landed(files []*valueFile) {
	if len(files) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range files {
		f.flying--
	}
}

// append appends one value. Its file is added to files, and not looked at by the collector before landed. What a failed
// write has left stays where it is; nothing refers to it.
func (v *valueLog) append(value []byte, files *[]*valueFile) (pointer, error) {
	p := pointer{length: uint32(len(value)), sum: crc32.Checksum(value, castagnoli)}
	v.appending.Lock()
	defer v.appending.Unlock()
	f, err := v.writable()
	if err != nil {
		return p, v.failed(err)
	}
	if !slices.Contains(*files, f) {
		v.mu.Lock()
		f.flying++
		v.mu.Unlock()
		*files = append(*files, f)
	}
	p.file, p.offset = f.number, f.size.Load()
	n, err := f.write(value)
	if err == nil && n < len(value) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return p, v.failed(fmt.Errorf("%s: %w", f.name, err))
	}
	return p, nil
}

// write appends to the file.
func (f *valueFile) write(b []byte) (int, error) {
	before := len(f.tail)
	f.tail = append(f.tail, b[max(0, len(b)-tailBytes):]...) // first: Write may change b
	n, err := f.file.Write(b)
	if n < len(b) {
		f.tail = append(f.tail[:before], b[max(0, n-tailBytes):n]...)
	}
	f.tail = append(f.tail[:0], f.tail[max(0, len(f.tail)-tailBytes):]...)
	f.size.Add(int64(n))
	return n, err
}

// failed is the error of a write that has failed. Without space it is the transaction's alone; nothing of it has been
// applied. Any other error fails the store, as one of the write-ahead log does.
func (v *valueLog) failed(err error) error {
	switch {
	case errors.Is(err, engine.ErrClosed):
		return err
	case isNoSpace(err):
		v.s.space.hit()
		v.s.space.press()
		return fmt.Errorf("%w: value file: %w", engine.ErrNoSpace, cause(err))
	}
	return v.s.fail(fmt.Errorf("value file: %w", err))
}

// sync makes what has been written to a file durable. Those who come while a sync is under way share the next.
func (v *valueLog) sync(f *valueFile) error {
	end := f.size.Load()
	if f.synced.Load() >= end {
		return nil
	}
	f.syncing.Lock()
	defer f.syncing.Unlock()
	switch {
	case f.synced.Load() >= end:
		return nil
	case f.lost != nil:
		return v.failed(f.lost)
	}
	if err := f.syncNow(); err != nil {
		return v.failed(err)
	}
	return nil
}

// syncNow syncs a file that is not filled. f.syncing is held.
func (f *valueFile) syncNow() error {
	end := f.size.Load()
	err := f.file.SyncData()
	if err == nil {
		f.synced.Store(end)
		return nil
	}
	// What the file system has done with the data is not known, and a second sync may succeed without it: nothing is
	// appended behind it, and nobody is told that it is there.
	f.lost = fmt.Errorf("%s: %w", f.name, err)
	f.spent.Store(true)
	return f.lost
}

// writable returns the file to append to. v.appending is held.
func (v *valueLog) writable() (*valueFile, error) {
	if v.closed {
		return nil, engine.ErrClosed
	}
	if f := v.active; f != nil {
		if !f.spent.Load() && f.size.Load() < int64(v.s.space.valueFile) {
			return f, nil
		}
		if err := v.fill(); err != nil {
			return nil, err
		}
	}
	f, err := v.create()
	if err != nil {
		return nil, err
	}
	v.active = f
	v.mu.Lock()
	v.files[f.number] = f
	v.mu.Unlock()
	return f, nil
}

// create makes the next file. When it returns, the file's name and head are durable, and the ledger lists it.
// v.appending is held.
func (v *valueLog) create() (*valueFile, error) {
	fs, dir := v.s.opts.FS, v.s.space.dir
	f := &valueFile{number: v.next, name: valueFileName(v.next), nonce: randomID()}
	v.next++ // not used again, whatever comes
	path := fs.PathJoin(dir, f.name)
	var err error
	if f.file, err = fs.Create(path, vfs.WriteCategoryUnspecified); err != nil {
		return nil, err
	}
	head := valueHead{f.number, f.nonce}.encode()
	if _, err = f.write(head); err == nil {
		err = f.file.Sync()
	}
	if err == nil {
		err = v.s.ledger.syncDir()
	}
	if err == nil {
		err = v.s.ledger.add(valuesItem(f.name, f.nonce))
	}
	if err != nil {
		_ = f.file.Close()
		_ = fs.Remove(path)
		return nil, err
	}
	f.synced.Store(f.size.Load())
	return f, nil
}

// fill ends the active file: it gets no more values. v.appending is held. Its error is one of those that fail the
// store.
func (v *valueLog) fill() error {
	f := v.active
	f.syncing.Lock()
	defer f.syncing.Unlock()
	if f.lost == nil && f.synced.Load() < f.size.Load() {
		_ = f.syncNow() // f.lost has it
	}
	if f.lost != nil && !isNoSpace(f.lost) {
		return f.lost
	}
	_ = f.file.Close()
	if f.lost == nil { // else its end may differ after a crash, and the ledger must not claim it
		sum := crc32.Checksum(f.tail, castagnoli)
		v.s.ledger.later(fileItem(itemFilled, f.name, extent{f.size.Load(), sum}))
	}
	v.active, f.tail = nil, nil
	v.mu.Lock()
	f.filled = true // last: from here on the collector may remove the file, and the ledger hears of that later
	v.mu.Unlock()
	return nil
}

// close fills the active file and closes all files.
func (v *valueLog) close() error {
	v.appending.Lock()
	defer v.appending.Unlock()
	v.closed = true
	v.readers.close()
	if v.active == nil {
		return nil
	}
	return v.fill()
}

// valueTotals says how much there is in value files.
type valueTotals struct {
	files          int
	bytes, garbage uint64 // garbage: as much as is known
}

// totals returns what all value files have.
func (v *valueLog) totals() (t valueTotals) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t.files = len(v.files) + len(v.doomed)
	for _, f := range v.files {
		t.bytes += uint64(f.size.Load())
		if f.scanned > 0 {
			t.garbage += uint64(max(0, f.garbage(f.scannedSize)))
		}
	}
	for _, d := range v.doomed {
		size := uint64(d.file.size.Load())
		t.bytes, t.garbage = t.bytes+size, t.garbage+size
	}
	return t
}
