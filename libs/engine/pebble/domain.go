package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
)

// domainsCached bounds the domains whose counters are in memory; those of others are read when they are needed.
const domainsCached = 1024

// domainRow is the row with the last version that a domain has given out, 8 bytes big-endian.
func domainRow(domain string) []byte {
	if domain == "" {
		return versionRow
	}
	return append([]byte{metaPrefix, 'd'}, domain...)
}

// counters are the last versions of domains. The writer lock guards them.
type counters struct {
	last map[string]uint64
}

func (c *counters) set(domain string, v uint64) {
	if c.last == nil {
		c.last = make(map[string]uint64)
	}
	if _, there := c.last[domain]; !there && len(c.last) >= domainsCached {
		for one := range c.last { // any one: it is read again when it is needed
			delete(c.last, one)
			break
		}
	}
	c.last[domain] = v
}

// lastVersion returns the last version that a domain has given out. The writer lock is held, so that the newest state
// is the one before this commit.
func (s *Store) lastVersion(domain string) (uint64, error) {
	if domain == "" {
		return s.version, nil
	}
	if v, ok := s.domains.last[domain]; ok {
		return v, nil
	}
	b, err := s.meta(domainRow(domain))
	switch {
	case err != nil:
		return 0, s.readError(err)
	case b == nil:
		return 0, nil
	case len(b) != 8:
		return 0, s.readError(fmt.Errorf("%w: version row of %d bytes", pdb.ErrCorruption, len(b)))
	}
	return binary.BigEndian.Uint64(b), nil
}

// stampBatch gives out the stamps of a transaction and writes them into its batch, with the last version of each of its
// domains. The writer lock is held; the caller calls keepVersions when the commit is applied.
func (s *Store) stampBatch(t *txn, batch *pdb.Batch) error {
	if !s.limits.Dense {
		if t.usesStamps() {
			s.stampSparse(t, batch)
		}
		return nil
	}
	return t.eachStamping(func(st *stamping) error {
		if st.use == 0 && st.skip == 0 {
			return nil
		}
		last, err := s.lastVersion(st.domain)
		if err != nil {
			return err
		}
		last = max(last, st.skip)
		st.first, st.last = engine.Stamp{Version: last + 1}, last+uint64(st.use)
		patch(batch.Repr(), st.offsets, st.first, true)
		return batch.Set(domainRow(st.domain), binary.BigEndian.AppendUint64(nil, st.last), nil)
	})
}

// stampSparse gives all parts of a transaction one version, as FoundationDB does.
func (s *Store) stampSparse(t *txn, batch *pdb.Batch) {
	v := s.version + 1 + s.jumps.Uint64N(sparseJumpMax)
	_ = t.eachStamping(func(st *stamping) error {
		if st.use > 0 {
			st.first, st.last = engine.Stamp{Version: v}, v
			patch(batch.Repr(), st.offsets, st.first, false)
		}
		return nil
	})
	_ = batch.Set(versionRow, binary.BigEndian.AppendUint64(nil, v), nil) // fails on indexed batches only
}

// keepVersions notes the last versions after a commit that has been applied. The writer lock is held.
func (s *Store) keepVersions(t *txn) {
	_ = t.eachStamping(func(st *stamping) error {
		switch {
		case st.use == 0 && st.skip == 0:
		case st.domain == "" || !s.limits.Dense:
			s.version = st.last
		default:
			s.domains.set(st.domain, st.last)
		}
		return nil
	})
}

// patch completes the stamps in a batch, whose indexes are in place.
func patch(repr []byte, offsets []int, first engine.Stamp, dense bool) {
	for _, at := range offsets {
		b := repr[at : at+engine.StampLen]
		i := binary.BigEndian.Uint16(b[engine.StampLen-2:])
		st := engine.Stamp{Version: first.Version, Index: i}
		if dense {
			st = engine.Stamp{Version: first.Version + uint64(i)}
		}
		st.Append(b[:0])
	}
}

// stamping is what a transaction does with the stamps of one domain.
type stamping struct {
	domain  string
	offsets []int  // of stamps in the batch
	indexes int    // one more than the largest index used
	use     int    // UseStamps
	skip    uint64 // SkipStamps

	first engine.Stamp // of index 0, and
	last  uint64       // the last version: set by the commit
}

// fits checks the indexes that have been used.
func (st *stamping) fits(most int) error {
	switch {
	case st.use > most:
		return fmt.Errorf("pebble: %d stamps of at most %d: %w", st.use, most, engine.ErrTooLarge)
	case st.indexes > st.use:
		return fmt.Errorf("pebble: stamp index %d, but UseStamps(%d)", st.indexes-1, st.use)
	}
	return nil
}

// eachStamping calls f for each domain of the transaction until it fails.
func (t *txn) eachStamping(f func(*stamping) error) error {
	if err := f(&t.stamps); err != nil {
		return err
	}
	for _, p := range t.parts {
		if err := f(&p.stamping); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) usesStamps() bool {
	uses := t.stamps.use > 0
	for _, p := range t.parts {
		uses = uses || p.use > 0
	}
	return uses
}

// UseStamps implements engine.Txn.
func (t *txn) UseStamps(n int) { t.stamps.use = max(t.stamps.use, n) }

// SkipStamps implements engine.StampSkipper.
func (t *txn) SkipStamps(version uint64) { t.stamps.skip = max(t.stamps.skip, version) }

// SetStampedKey implements engine.Txn.
func (t *txn) SetStampedKey(key []byte, at int, value []byte) {
	t.setStampedKey(&t.stamps, key, at, value)
}

// SetStampedValue implements engine.Txn.
func (t *txn) SetStampedValue(key, value []byte, at int) {
	t.setStampedValue(&t.stamps, key, value, at)
}

func (t *txn) setStampedKey(st *stamping, key []byte, at int, value []byte) {
	t.size.StampedKey(len(key), len(value))
	if !t.admit(key, value, t.v.s.limits.StampBytes) || !t.stampAt(st, key, at) {
		return
	}
	begin, large := t.writable().Len(), len(t.large)
	t.set(key, value)
	// The row begins with its kind, the length of its key, and the key's prefix.
	st.offsets = append(st.offsets, begin+1+varintLen(len(key)+1)+1+at)
	if len(t.large) > large { // the back row, which is the last one, ends with the key
		st.offsets = append(st.offsets, t.batch.batch.Len()-len(key)+at)
	}
}

func (t *txn) setStampedValue(st *stamping, key, value []byte, at int) {
	t.size.StampedValue(len(key), len(value))
	if !t.admit(key, value, t.v.s.limits.StampBytes) || !t.stampAt(st, value, at) {
		return
	}
	if t.v.s.values.needsMark(value, at) {
		t.setMarked(key, value)
	} else {
		t.setPlain(key, nil, value) // it is complete when the batch is applied, which is too late for a value file
	}
	st.offsets = append(st.offsets, len(t.batch.batch.Repr())-len(value)+at)
}

// stampAt checks that b has room for a stamp at offset at and notes its index.
func (t *txn) stampAt(st *stamping, b []byte, at int) bool {
	if at < 0 || at+engine.StampLen > len(b) {
		t.err = fmt.Errorf("pebble: a stamp at offset %d of %d bytes", at, len(b))
		return false
	}
	st.indexes = max(st.indexes, int(binary.BigEndian.Uint16(b[at+engine.StampLen-2:]))+1)
	return true
}

// varintLen is the length of n as a varint.
func varintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// Part implements engine.Parts.
func (t *txn) Part(prefix []byte) engine.Txn {
	if string(prefix) == t.stamps.domain {
		return t
	}
	for _, p := range t.parts {
		if string(prefix) == p.domain {
			return p
		}
	}
	p := &part{t, stamping{domain: string(prefix)}}
	t.parts = append(t.parts, p)
	return p
}

// part is a transaction as one of its domains sees it.
type part struct {
	*txn
	stamping
}

// UseStamps implements engine.Txn.
func (p *part) UseStamps(n int) { p.use = max(p.use, n) }

// SetStampedKey implements engine.Txn.
func (p *part) SetStampedKey(key []byte, at int, value []byte) {
	p.setStampedKey(&p.stamping, key, at, value)
}

// SetStampedValue implements engine.Txn.
func (p *part) SetStampedValue(key, value []byte, at int) {
	p.setStampedValue(&p.stamping, key, value, at)
}

// Commit implements engine.Txn.
func (p *part) Commit(ctx context.Context) (engine.Pending, error) { return p.commit(ctx, &p.stamping) }

// First implements engine.PartStamps.
func (p *pending) First(prefix []byte) (first engine.Stamp) {
	_ = p.t.eachStamping(func(st *stamping) error {
		if st.domain == string(prefix) {
			first = st.first
		}
		return nil
	})
	return first
}

// Domain implements engine.Domains.
func (s *Store) Domain(prefix []byte) engine.Store {
	if len(prefix) == 0 {
		return s
	}
	return &domain{s, string(prefix)}
}

// domain is the store as one of its domains sees it. It has none of the methods that tell of the whole store.
type domain struct {
	s      *Store
	prefix string
}

var (
	_ engine.Domains    = (*Store)(nil)
	_ engine.Domains    = (*domain)(nil)
	_ engine.Parts      = (*txn)(nil)
	_ engine.Txn        = (*part)(nil)
	_ engine.PartStamps = (*pending)(nil)

	_ engine.StampSkipper = (*txn)(nil)
)

// Domain implements engine.Domains.
func (d *domain) Domain(prefix []byte) engine.Store { return d.s.Domain(prefix) }

// Snapshot implements engine.Store.
func (d *domain) Snapshot(ctx context.Context) (engine.Snapshot, error) { return d.s.Snapshot(ctx) }

// Begin implements engine.Store.
func (d *domain) Begin(ctx context.Context) (engine.Txn, error) {
	t, err := d.s.begin(ctx)
	if err != nil {
		return nil, err
	}
	t.stamps.domain = d.prefix
	return t, nil
}

// WaitChange implements engine.Store.
func (d *domain) WaitChange(ctx context.Context, key, old []byte) error {
	return d.s.WaitChange(ctx, key, old)
}

// Limits implements engine.Store.
func (d *domain) Limits() engine.Limits { return d.s.limits }

// Close implements engine.Store: it does nothing.
func (d *domain) Close() error { return nil }

// RangeSize estimates the bytes on disk of the rows k, begin <= k < end; a nil end means to the end of the store.
// Rows that have not been written out of memory yet do not count. Errors: ErrUnavailable, ErrClosed, the context's.
func (d *domain) RangeSize(ctx context.Context, begin, end []byte) (int64, error) {
	return d.s.rangeSize(ctx, begin, end)
}

// Defragment is Store.Defragment for the rows that begin with the domain's prefix.
func (d *domain) Defragment(ctx context.Context) error {
	return d.s.defragment(ctx, prefixSpan(d.prefix))
}

// prefixSpan is the rows of keys with a prefix.
func prefixSpan(prefix string) span {
	begin := append([]byte{userPrefix}, prefix...)
	end := append([]byte(nil), begin...)
	for i := len(end) - 1; ; i-- { // ends at userPrefix at the latest
		if end[i]++; end[i] != 0 {
			return span{begin, end[:i+1]}
		}
	}
}

func (s *Store) rangeSize(ctx context.Context, begin, end []byte) (n int64, err error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	s.swapping.RLock()
	defer s.swapping.RUnlock()
	sp, _ := spanOf(nil, begin, end)
	if string(sp.begin) >= string(sp.end) {
		return 0, nil
	}
	size := make(chan uint64, 1)
	err = s.run(func() error {
		n, err := s.db.EstimateDiskUsage(sp.begin, sp.end)
		size <- n
		return err
	})
	if err != nil {
		return 0, s.readError(err)
	}
	return int64(<-size), nil
}
