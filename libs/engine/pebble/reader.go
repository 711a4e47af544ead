package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Prefix bytes of rows. End bounds the user's rows.
const (
	metaPrefix = 0x00
	userPrefix = 0x01
	userEnd    = 0x02
)

// userSpan is all rows of the user.
var userSpan = span{[]byte{userPrefix}, []byte{userEnd}}

// reader reads at one view.
type reader struct {
	v     *view
	mem   arena
	key   []byte // scratch space for prefix and key
	begun time.Time
	done  bool
	first [96]byte // first buffer of key
}

func (r *reader) init(v *view) {
	r.v, r.key = v, r.first[:0]
	r.mem.scribble = v.s.opts.Scribble
	if v.s.opts.FDBLimits {
		r.begun = time.Now()
	}
}

// Version implements engine.Reader: the number of the commit since the store was opened.
func (r *reader) Version() uint64 { return r.v.commit.seq }

// row returns key's row in r's scratch space.
func (r *reader) row(key []byte) []byte {
	r.key = append(append(r.key[:0], userPrefix), key...)
	return r.key
}

// check returns an error if r may not be read now.
func (r *reader) check(ctx context.Context) error {
	if r.done {
		return fmt.Errorf("pebble: read after the reader's end: %w", engine.ErrClosed)
	}
	if err := r.v.s.err(); err != nil {
		return err
	}
	if err := r.tooOld(); err != nil {
		return err
	}
	return ctx.Err()
}

func (r *reader) tooOld() error {
	if r.v.s.opts.FDBLimits && time.Since(r.begun) > r.v.s.opts.TxnAge {
		return engine.ErrTooOld
	}
	return nil
}

// Get implements engine.Reader.
func (r *reader) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := r.check(ctx); err != nil {
		return nil, err
	}
	return r.get(r.row(key))
}

func (r *reader) get(row []byte) ([]byte, error) {
	it, err := r.v.getIter()
	if err != nil {
		return nil, r.v.s.readError(err)
	}
	if it != nil {
		defer r.v.putIter(it)
		return r.seek(it, row, &r.mem)
	}
	return r.lookup(row, &r.mem)
}

// lookup looks up a row without an iterator.
func (r *reader) lookup(row []byte, mem *arena) ([]byte, error) {
	value, closer, err := r.v.snap.Get(row)
	if err != nil {
		if errors.Is(err, pdb.ErrNotFound) {
			return nil, nil
		}
		return nil, r.v.s.readError(err)
	}
	out, taken := r.v.s.taken(value, mem)
	if err := closer.Close(); err != nil {
		return nil, r.v.s.readError(err)
	}
	return out, taken
}

// manyKeys is the number of keys from which GetMany opens an iterator.
const manyKeys = 8

// GetMany implements engine.Reader.
func (r *reader) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	if err := r.check(ctx); err != nil {
		return nil, err
	}
	return r.getRows(rowsOf(keys))
}

// rowsOf returns the rows of keys, in memory of their own.
func rowsOf(keys [][]byte) [][]byte {
	size := len(keys)
	for _, key := range keys {
		size += len(key)
	}
	buf := make([]byte, 0, size)
	rows := make([][]byte, len(keys))
	for i, key := range keys {
		n := len(buf)
		buf = append(append(buf, userPrefix), key...)
		rows[i] = buf[n:len(buf):len(buf)]
	}
	return rows
}

func (r *reader) getRows(rows [][]byte) (values [][]byte, err error) {
	values = make([][]byte, len(rows))
	if len(rows) >= manyKeys {
		return values, r.seekRows(rows, values)
	}
	for i, row := range rows {
		if values[i], err = r.get(row); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// GetMany counts as reading from the disk if lookups of a sample take slowSeek on average. The other lookups are then
// spread over seekers goroutines.
const (
	sampleSeeks = 16
	slowSeek    = 50 * time.Microsecond
	seekersMax  = 8
)

// seekRows looks up rows in their order with one iterator, which finds much of what it needs for a row where it left
// the previous one. If that turns out to wait for the disk, it continues with several iterators.
func (r *reader) seekRows(rows, values [][]byte) error {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(rows[a], rows[b]) })
	sample := order[:min(len(order), sampleSeeks)]
	rest := order[len(sample):]
	start := time.Now()
	if err := r.seekSome(rows, values, sample, &r.mem); err != nil || len(rest) == 0 {
		return err
	}
	if time.Since(start) < slowSeek*time.Duration(len(sample)) || len(rest) < seekersMax {
		return r.seekSome(rows, values, rest, &r.mem)
	}
	return r.seekParallel(rows, values, rest)
}

// seekParallel looks up the rows that order names with several goroutines.
func (r *reader) seekParallel(rows, values [][]byte, order []int) error {
	var wg sync.WaitGroup
	var errs [seekersMax]error
	part := (len(order) + seekersMax - 1) / seekersMax
	for i := range seekersMax {
		some := order[min(i*part, len(order)):min((i+1)*part, len(order))]
		wg.Go(func() {
			var mem arena // not pooled: its chunks belong to the reader's caller
			errs[i] = r.seekSome(rows, values, some, &mem)
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// seekSome looks up the rows that order names with one iterator.
func (r *reader) seekSome(rows, values [][]byte, order []int, mem *arena) error {
	it, err := r.v.newIter(userSpan)
	if err != nil {
		return r.v.s.readError(err)
	}
	defer func() { r.v.putIter(it) }()
	for _, i := range order {
		if values[i], err = r.seek(it, rows[i], mem); err != nil {
			return err
		}
	}
	return nil
}

// seek looks up a row with the iterator and copies its value into mem. On its way to the row the iterator may have met
// damage that does not concern the row.
func (r *reader) seek(it *iter, row []byte, mem *arena) ([]byte, error) {
	v, found, err := it.find(row)
	switch {
	case err != nil && isDamage(err):
		return r.lookup(row, mem)
	case err != nil:
		return nil, r.v.s.readError(err)
	case !found:
		return nil, nil
	}
	return r.v.s.taken(v, mem)
}

// spanOf returns the rows of begin … end (nil: to the end), written over buf, and the buffer used.
func spanOf(buf, begin, end []byte) (span, []byte) {
	b := append(append(buf[:0], userPrefix), begin...)
	n := len(b)
	if end == nil {
		b = append(b, userEnd)
	} else {
		b = append(append(b, userPrefix), end...)
	}
	return span{b[:n:n], b[n:]}, b
}

// Scan implements engine.Reader.
func (r *reader) Scan(ctx context.Context, q engine.Range) engine.Iterator {
	var sp span
	sp, r.key = spanOf(r.key, q.Begin, q.End)
	return r.scan(ctx, q, sp)
}

func (r *reader) scan(ctx context.Context, q engine.Range, sp span) *iterator {
	it := &iterator{r: r, ctx: ctx, left: q.Limit, reverse: q.Reverse, keysOnly: q.KeysOnly}
	if it.left <= 0 {
		it.left = -1
	}
	if it.err = r.check(ctx); it.err != nil {
		return it
	}
	if string(sp.begin) >= string(sp.end) {
		it.left = 0 // Pebble wants ordered bounds
		return it
	}
	var err error
	if it.p, err = r.v.newIter(sp); err != nil {
		it.err = r.v.s.readError(err)
	}
	return it
}

// ctxEvery is how many rows an iterator steps over before it checks its context and age again.
const ctxEvery = 256

// iterator walks the rows of a Range.
type iterator struct {
	r        *reader
	p        *iter
	ctx      context.Context
	left     int // rows that may still be returned; negative: no bound
	steps    int
	reverse  bool
	keysOnly bool
	end      bool // the range has been walked to its end
	value    []byte
	buf      []byte // for values out of value files
	err      error
	onClose  func(*iterator)
}

// Next implements engine.Iterator.
func (it *iterator) Next() bool {
	if it.err != nil || it.p == nil || it.left == 0 || it.end {
		return false
	}
	if it.err = it.look(); it.err != nil {
		return false
	}
	it.left--
	it.steps++
	ok := it.step()
	if !ok && it.steps == 1 && isDamage(it.p.Error()) {
		ok = it.restart()
	}
	if ok && it.load() {
		return true
	}
	if err := it.p.Error(); err != nil && it.err == nil {
		it.err = it.r.v.s.readError(err)
	}
	it.end = true
	return false
}

// restart begins again with a fresh iterator: a used one may have met damage on its way to the range.
func (it *iterator) restart() bool {
	fresh, err := it.p.Clone(pdb.CloneOptions{})
	if err != nil {
		it.err = it.r.v.s.readError(err)
		return false
	}
	old := *it.p
	it.p = &iter{Iterator: fresh, shape: old.shape}
	_ = old.Close()
	return it.step()
}

func (it *iterator) look() error {
	if err := it.r.tooOld(); err != nil {
		return err
	}
	if it.steps%ctxEvery == 0 {
		return it.ctx.Err()
	}
	return nil
}

func (it *iterator) step() bool {
	switch {
	case it.steps == 1 && it.reverse:
		return it.p.Last()
	case it.steps == 1:
		return it.p.First()
	case it.reverse:
		return it.p.Prev()
	}
	return it.p.Next()
}

func (it *iterator) load() bool {
	if it.keysOnly {
		return true
	}
	var err error
	if it.value, err = it.p.ValueAndErr(); err != nil {
		it.err = it.r.v.s.readError(err)
		return false
	}
	if it.value == nil {
		it.value = emptyValue
		return true
	}
	if !it.r.v.s.values.tagged(it.value) {
		return true
	}
	return it.resolve()
}

// resolve replaces the bytes of a row, which are no plain value, by what they stand for.
func (it *iterator) resolve() bool {
	far := it.value[tagLen] == kindPointer
	if it.value, it.err = it.r.v.s.plain(it.value, it.buf); it.err != nil {
		return false
	}
	if far {
		it.buf = it.value
	}
	return true
}

// Key implements engine.Iterator.
func (it *iterator) Key() []byte { return it.p.Key()[1:] }

// Value implements engine.Iterator. It is nil if the Range was KeysOnly.
func (it *iterator) Value() []byte { return it.value }

// Err implements engine.Iterator.
func (it *iterator) Err() error { return it.err }

// Close implements engine.Iterator.
func (it *iterator) Close() error {
	if it.onClose != nil {
		it.onClose(it)
		it.onClose = nil
	}
	if it.p != nil {
		it.r.v.putIter(it.p)
		it.p = nil
	}
	it.left = 0
	return it.err
}

// snapshot is an engine.Snapshot.
type snapshot struct{ reader }

// Close implements engine.Snapshot. Closing twice is allowed.
func (r *snapshot) Close() {
	if r.done {
		return
	}
	r.done = true
	r.mem.release()
	r.v.unref()
}
