package mvcc

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"math"
	"slices"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Bounds of a hash.
const (
	// hashRecords is how many versions are sorted in memory at the same time, 24 bytes each, twice. If there are more,
	// the keys are read again for the next ones.
	hashRecords = 1 << 20
	// hashPageKeys is how many keys are compared at a time with their state at the compact revision.
	hashPageKeys = 1024
	// hashTries is how often a hash that a removal has overtaken starts again.
	hashTries = 4
)

// HashKV hashes the history from the compact revision up to rev (0: the head; a negative one is before everything, as
// in etcd), by etcd's rule and over what etcd would have. With the same content, compact revision and rev, the hash is
// etcd's. Only the order of events within a revision at or below the compact revision can differ, because it is not
// kept: they count in the order of their keys. hashRev is the revision of the hash, and compactRev its compact
// revision. For a revision that was compacted at it may be the hash from before that compaction, with the compact
// revision of then (hashkept.go). Errors: ErrCompacted, ErrFutureRevision, ErrUnavailable, ErrCorrupt, the context's.
//
// Of the versions up to the compact revision, etcd hashes those that are live at rev (or all that it has, if none is),
// and then all later versions and tombstones. It hashes them together in the order of revisions, which is that of its
// rows. Here versions come in the order of keys. So each is hashed by itself, and the hashes are joined in the order of
// revisions.
func (s *Store) HashKV(ctx context.Context, rev int64) (hash uint32, hashRev, compactRev, head int64, err error) {
	if rev < 0 {
		head, err = s.Head(ctx)
		return newHash(), rev, s.compact.Load(), head, err
	}
	if k, ok := s.kept.of(rev); ok {
		head, err = s.Head(ctx)
		return k.sum, k.rev, k.compact, head, err
	}
	for try := 1; ; try++ {
		h := hasher{s: s}
		err = h.run(ctx, rev)
		if errors.Is(err, ErrHoldLost) && try < hashTries {
			continue
		}
		if errors.Is(err, ErrHoldLost) {
			err = errors.Join(ErrUnavailable, err)
		}
		if err != nil {
			return 0, 0, 0, 0, wanted("a hash of the keyspace", err)
		}
		return h.sum, h.d.Rev, h.d.Compact, h.head, nil
	}
}

// newHash returns the hash of no version. etcd's begins with the name of the bucket.
func newHash() uint32 { return crc32.Checksum([]byte("key"), castagnoli) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hasher computes one hash.
type hasher struct {
	s    *Store
	d    Dump // without a hold: a removal that overtakes it is noticed
	head int64
	sum  uint32
	// compacts says that it is the hash that etcd takes while it compacts at the revision. Then a tombstone of that
	// revision counts as something that is there, so that etcd leaves out what is not live. kept says that there is
	// one.
	compacts, kept bool

	recs []hashed // of the present pass
	// from and to bound the revisions of the pass: from <= mod < to.
	from, to int64
	buf      []byte
}

// hashed is one version at or below the compact revision.
type hashed struct {
	mod  int64
	sum  uint32 // of its row's value
	size uint32
	live bool // it counts in the hash
}

func (h *hasher) run(ctx context.Context, rev int64) error {
	h.d = Dump{s: h.s}
	return h.s.view(ctx, func(snap engine.Snapshot) (err error) {
		h.sum, h.recs = newHash(), nil
		if h.s.limits.Dense { // a dense engine keeps a state as long as it is needed
			h.d.snap = snap
		}
		if h.head, err = h.s.headOf(ctx, snap); err != nil {
			return err
		}
		if h.d.Compact, err = h.s.compactOf(ctx, snap); err != nil {
			return err
		}
		switch h.d.Rev = rev; {
		case rev == 0:
			h.d.Rev = h.head
		case rev > h.head:
			return ErrFutureRevision
		case rev < h.d.Compact:
			return ErrCompacted
		}
		if h.compacts {
			if h.kept, err = h.deletes(ctx); err != nil {
				return err
			}
		}
		if err := h.base(ctx); err != nil {
			return err
		}
		return h.events(ctx)
	})
}

// deletes says whether something was deleted at the revision of the hash.
func (h *hasher) deletes(ctx context.Context) (some bool, err error) {
	err = h.d.EventsFrom(ctx, h.d.Rev, func(e *revlog.Entry) error {
		for i := range e.Events {
			some = some || e.Events[i].Delete
		}
		return nil
	})
	return some, err
}

// base hashes the versions below the compact revision, in passes of as many as fit into memory.
func (h *hasher) base(ctx context.Context) error {
	some := h.kept
	for h.from, h.to = 0, math.MaxInt64; ; h.from, h.to = h.to, math.MaxInt64 {
		found, err := h.pass(ctx)
		if err != nil {
			return err
		}
		if some = some || found; !some && h.d.Compact > 0 { // in this case etcd leaves nothing out
			h.recs = h.recs[:0]
			err := h.d.live(ctx, h.d.Compact, needValue, h.add)
			if err != nil {
				return err
			}
		}
		h.flush()
		if h.to == math.MaxInt64 {
			return nil
		}
	}
}

// pass reads the keys at the revision of the hash, and their state at the compact revision. It says whether there are
// any.
func (h *hasher) pass(ctx context.Context) (some bool, err error) {
	from := []byte{}
	page := make([]pageKey, 0, hashPageKeys)
	then := Dump{s: h.s, Rev: h.d.Rev, Compact: h.d.Compact, snap: h.d.snap}
	compare := func(end []byte) error {
		err := then.span(ctx, h.d.Compact, needMeta, from, end, h.matcher(page))
		page, from = page[:0], end
		return final(err)
	}
	err = h.d.live(ctx, h.d.Rev, needValue, func(kv *KV) error {
		some = true
		if h.d.Compact <= 0 {
			return nil
		}
		page = append(page, h.pageKey(kv))
		if len(page) < hashPageKeys {
			return nil
		}
		return compare(append(bytes.Clone(kv.Key), 0))
	})
	if err == nil && h.d.Compact > 0 {
		err = compare([]byte{0})
	}
	return some, err
}

// pageKey is a key as it is at the revision of the hash.
type pageKey struct {
	key []byte
	hashed
}

func (h *hasher) pageKey(kv *KV) pageKey {
	k := pageKey{key: bytes.Clone(kv.Key), hashed: hashed{mod: kv.Mod}}
	if kv.Mod < h.d.Compact && kv.Mod >= h.from && kv.Mod < h.to {
		h.value(kv, &k.hashed)
	}
	return k
}

// value hashes the value of etcd's row of a version.
func (h *hasher) value(kv *KV, into *hashed) {
	h.buf = revlog.AppendKeyValue(h.buf[:0], kv)
	into.sum, into.size = crc32.Checksum(h.buf, castagnoli), uint32(len(h.buf))
}

// matcher takes the versions that were live at the compact revision and whose keys are in a page.
func (h *hasher) matcher(page []pageKey) Visit {
	i := 0
	return func(kv *KV) error {
		for i < len(page) && bytes.Compare(page[i].key, kv.Key) < 0 {
			i++
		}
		rec := hashed{mod: kv.Mod}
		if i < len(page) && bytes.Equal(page[i].key, kv.Key) && page[i].mod == kv.Mod {
			rec = page[i].hashed
			rec.live = true
		}
		return h.keep(rec)
	}
}

// add takes a version that counts.
func (h *hasher) add(kv *KV) error {
	rec := hashed{mod: kv.Mod, live: true}
	h.value(kv, &rec)
	return h.keep(rec)
}

// keep keeps a version for the pass that it belongs to. The one at the compact revision comes with the events.
func (h *hasher) keep(rec hashed) error {
	if rec.mod < h.from || rec.mod >= h.to || rec.mod >= h.d.Compact {
		return nil
	}
	if h.recs = append(h.recs, rec); len(h.recs) < 2*hashRecords {
		return nil
	}
	h.sort()
	cut := hashRecords
	for cut > 0 && h.recs[cut-1].mod == h.recs[cut].mod { // those of one revision stay together
		cut--
	}
	if cut > 0 {
		h.to = h.recs[cut].mod
		h.recs = h.recs[:cut]
	}
	return nil
}

func (h *hasher) sort() {
	slices.SortStableFunc(h.recs, func(a, b hashed) int {
		switch {
		case a.mod < b.mod:
			return -1
		case a.mod > b.mod:
			return 1
		}
		return 0
	})
}

// flush joins the hashes of a pass. Each version has its place within its revision, whether it counts or not.
func (h *hasher) flush() {
	h.sort()
	last, sub := int64(-1), 0
	for i := range h.recs {
		r := &h.recs[i]
		if sub++; r.mod != last {
			last, sub = r.mod, 0
		}
		if r.live {
			h.row(r.mod, sub, false)
			h.sum = joinHash(h.sum, r.sum, r.size)
		}
	}
	h.recs = h.recs[:0]
}

// row hashes the key of etcd's row.
func (h *hasher) row(rev int64, sub int, tombstone bool) {
	h.buf = AppendRevision(h.buf[:0], rev, sub, tombstone)
	h.sum = crc32.Update(h.sum, castagnoli, h.buf)
}

// AppendRevision appends the key of etcd's row of an event: revision (8), '_', place within the revision (8), and 't'
// for a tombstone.
func AppendRevision(b []byte, rev int64, sub int, tombstone bool) []byte {
	b = append(appendRev(b, rev), '_')
	b = appendRev(b, int64(sub))
	if tombstone {
		b = append(b, 't')
	}
	return b
}

// events hashes the log from the compact revision on.
func (h *hasher) events(ctx context.Context) error {
	return h.d.Events(ctx, func(e *revlog.Entry) error {
		for i := range e.Events {
			ev := &e.Events[i]
			if e.Rev == h.d.Compact {
				if counts, err := h.counts(ctx, ev); err != nil || !counts {
					if err != nil {
						return err
					}
					continue
				}
			}
			h.row(e.Rev, i, ev.Delete)
			if ev.Delete {
				h.buf = revlog.AppendKeyValue(h.buf[:0], &KV{Key: ev.KV.Key})
			} else {
				h.buf = revlog.AppendKeyValue(h.buf[:0], &ev.KV)
			}
			h.sum = crc32.Update(h.sum, castagnoli, h.buf)
		}
		return nil
	})
}

// counts says whether an event of the compact revision counts: if its version is live at the revision of the hash, or
// none is.
func (h *hasher) counts(ctx context.Context, ev *revlog.Event) (bool, error) {
	if ev.Delete {
		return false, nil
	}
	mod, some := int64(0), false
	end := append(bytes.Clone(ev.KV.Key), 0)
	err := h.d.span(ctx, h.d.Rev, needMeta, ev.KV.Key, end, func(kv *KV) error { mod, some = kv.Mod, true; return nil })
	if err != nil || some {
		return mod == h.d.Compact, final(err)
	}
	if h.kept {
		return false, nil
	}
	err = h.d.live(ctx, h.d.Rev, needMeta, func(*KV) error { some = true; return errSome })
	if errors.Is(err, errSome) {
		err = nil
	}
	return !some, final(err)
}

// final marks an error of a read within a visit. The visitor must not be called again because its reader was too old.
func final(err error) error {
	if errors.Is(err, engine.ErrTooOld) {
		return ErrUnavailable
	}
	return err
}

// errSome ends a search for any key.
var errSome = errors.New("mvcc: there is one")

// joinHash returns the hash of a followed by b, from their hashes and the length of b. b's bytes shift a's hash by as
// many zero bytes, which is a product in the field of the polynomial.
func joinHash(a, b, size uint32) uint32 {
	for i := 0; size > 0; i, size = i+1, size>>1 {
		if size&1 == 1 {
			a = mulHash(a, shifts[i])
		}
	}
	return a ^ b
}

// shifts are the factors for 2^i zero bytes.
var shifts = func() (t [32]uint32) {
	t[0] = 1 << (31 - 8) // x^8, with the highest power in the lowest bit
	for i := 1; i < len(t); i++ {
		t[i] = mulHash(t[i-1], t[i-1])
	}
	return t
}()

// mulHash multiplies two polynomials modulo Castagnoli's.
func mulHash(a, b uint32) (p uint32) {
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			p ^= b
		}
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return p
}
