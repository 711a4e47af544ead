package mvcc

import (
	"bytes"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// An engine with limits bounds what can be stored. Some of what can be stored could then never be changed: the row of a
// replaced version has a longer key than that of a new one, and a transaction that replaces a value holds more than one
// that creates it. So a put is judged by the most that any later request for the same key and value size may need, and
// is refused if that is too much. This needs no read.

// room is how long keys may be, given a keyspace's rows; zero: the engine has no limit.
type room struct {
	plain   int // for a key as it is
	escaped int // for a key of which each zero byte counts twice
}

// roomOf computes it from the limit of a row's key. The rows of a key are, after the keyspace's prefix and the byte of
// the table:
//
//	idx       the key
//	leasekey  id (8), the key
//	hist      the escaped key, which takes a byte to end it, and a stamp
//	val       the escaped key, a stamp, and the number of a chunk
//
// Every key may get each of them: hist when it is replaced or deleted, leasekey by a put with a lease, val by one of a
// larger value. A row that is set under the stamp of its own commit leaves Limits.StampBytes. Ends of ranges, which are
// a byte longer than the row or end with FF, need no room: bounds may be longer than any key.
func (r rows) roomOf(l engine.Limits) room {
	if l.KeyBytes == 0 {
		return room{}
	}
	plain := max(len(r.idx(nil, nil)), len(r.leaseKey(0, nil)))
	escaped := max(len(r.hist(nil, nil, engine.Stamp{})), len(r.valChunk(nil, nil, engine.Stamp{}, 0)))
	return room{plain: l.KeyBytes - plain, escaped: l.KeyBytes - l.StampBytes - escaped}
}

// has says whether there is room for all rows that a key may ever have.
func (r room) has(key []byte) bool {
	return r == room{} || len(key) <= r.plain && len(key)+bytes.Count(key, []byte{0}) <= r.escaped
}

// fits says whether everything that a request makes could later be replaced, deleted, attached to a lease and revoked.
// Both branches of a transaction count, as in the other checks.
func (s *Store) fits(m mutation) bool {
	switch r := m.(type) {
	case *PutRequest:
		return s.putFits(r)
	case *TxnRequest:
		return !r.any(func(o *Op) bool {
			return o.Put != nil && !s.putFits(o.Put) || o.Txn != nil && !s.fits(o.Txn)
		})
	}
	return true
}

func (s *Store) putFits(p *PutRequest) bool {
	if !s.room.has(p.Key) {
		return false
	}
	limit := s.txnBytes()
	return limit == 0 || s.replaceBytes(p.Key, len(p.Value)) <= limit
}

// txnBytes is the limit of a transaction in the count of package txnsize; 0: the engine counts in its own way.
func (s *Store) txnBytes() int {
	if !s.limits.Structures {
		return 0
	}
	return s.limits.TxnBytes
}

const (
	// recordBytes is the most that the value of an idx or hist row takes in addition to a value: stamps, references and
	// numbers.
	recordBytes = 72
	// entryMeta is the most that an event takes in a log entry in addition to its key and values: three references of
	// up to 13 bytes, two versions, two leases, three lengths, and the flags.
	entryMeta = 96
	// groupRows is what a group's transaction holds in addition to the rows of its keys: the head, the lane's row and
	// the counter, and an owner's row that is read. Each has a short key; counted once per prefix, they take less.
	groupRows     = 8
	groupRowBytes = 64
)

// replaceBytes is the most that the transaction of one put counts if it replaces a version with a value of the same
// size, and moves the key from one lease to another. The old value is read, as for prev_kv or a compare. Deletes and
// revokes of the key hold less.
func (s *Store) replaceBytes(key []byte, value int) int {
	z := txnsize.Size{Root: s.limits.RootBytes}
	prefix := len(s.rows.prefix)
	plain, escaped := prefix+len(key), prefix+len(key)+bytes.Count(key, []byte{0})
	const table, id, end = 1, 8, 1
	for range groupRows {
		z.StampedValue(prefix+groupRowBytes, groupRowBytes)
	}
	z.ReadKey(prefix + table + id) // the lease
	z.Clear(plain + table + id)    // an attachment, and another
	z.Set(plain+table+id, 0)
	z.ReadKey(plain + table)
	inline := min(value, s.o.InlineBytes)
	z.StampedValue(plain+table, recordBytes+inline)
	z.StampedKey(escaped+table+end+engine.StampLen, recordBytes)

	val, chunk := escaped+table+end+engine.StampLen+chunkLen, s.meta.ChunkBytes
	once := s.Features().Has(FeatureValues)
	logged := 2 * s.o.InlineBytes // small values, the new and the old one
	if !once {
		logged = 2 * max(value, s.o.InlineBytes)
		z.ClearRange(val, val)
	}
	for left := value; left > 0 && value > s.o.InlineBytes; left -= chunk {
		z.ReadKey(val)
		if once {
			z.StampedKey(val, min(left, chunk))
		} else {
			z.Set(val, min(left, chunk))
		}
	}
	for left := len(key) + entryMeta + logged; left > 0; left -= chunk {
		z.StampedKey(prefix+table+engine.StampLen+chunkLen, min(left, chunk)+groupRowBytes)
	}
	return z.Bytes()
}

// doom counts a key that the request under evaluation will delete. If the request deletes more than a transaction can
// hold, doom refuses it, so that the rest need not be read.
func (g *group) doom(st *keyState) error {
	limit := g.s.txnBytes()
	if limit == 0 {
		return nil
	}
	if g.budget.deletes.add(g, st); g.budget.deletes.bytes() > limit {
		return refusal{storeErr(engine.ErrTooLarge)}
	}
	return nil
}

// deletes is the least that the deletion of existing keys adds to a transaction.
type deletes struct {
	rows   txnsize.Size
	logged int // bytes of the log
}

func (d *deletes) add(g *group, st *keyState) {
	prefix, key := len(g.s.rows.prefix), len(st.key)
	d.rows.Root = g.s.limits.RootBytes
	d.rows.Clear(prefix + 1 + key)
	d.rows.StampedKey(prefix+1+key+1+engine.StampLen, 0)
	if st.rec.lease != 0 {
		d.rows.Clear(prefix + 1 + 8 + key)
	}
	d.logged += 1 + key
	if st.rec.place == revlog.PlaceInline || !g.apart() {
		d.logged += st.rec.size
	}
}

func (d *deletes) bytes() int { return d.rows.Bytes() + d.logged }
