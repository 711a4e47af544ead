package join

import (
	"bytes"
	"encoding/binary"

	"github.com/headwaterdb/headwater/libs/engine"
)

// What is small enough to be joined: the bytes of its keys and values, its read conflicts, and its mutations.
const (
	memberBytes = 32 << 10
	memberReads = 512
	memberOps   = 512
)

// kind is that of a mutation.
type kind uint8

const (
	set kind = iota
	clearKey
	clearRange
	stampedKey
	stampedValue
	add
)

// op is a mutation whose key and value are in the record's bytes, one behind the other.
type op struct {
	kind       kind
	at         int // where the key begins
	key, value int // their lengths
	noEnd      bool
	n          int64 // the stamp's place, or what is to be added
}

// span is a read conflict in the record's bytes.
type span struct {
	at, begin, end int
	point, noEnd   bool
}

// record is what a transaction has read and is to change, kept until it is known how that is committed.
type record struct {
	buf     []byte
	ops     []op
	reads   []span
	indexes int // the largest index of a stamp, plus 1
	use     int // UseStamps
	odd     bool
}

// small says that the transaction may still be joined.
func (r *record) small() bool {
	return !r.odd && len(r.buf) <= memberBytes && len(r.reads) <= memberReads && len(r.ops) <= memberOps
}

func (r *record) keep(a, b []byte) (at int) {
	at = len(r.buf)
	r.buf = append(append(r.buf, a...), b...)
	return at
}

func (r *record) read(key []byte) {
	r.reads = append(r.reads, span{at: r.keep(key, nil), begin: len(key), point: true})
}

func (r *record) readRange(begin, end []byte) {
	r.reads = append(r.reads, span{at: r.keep(begin, end), begin: len(begin), end: len(end), noEnd: end == nil})
}

func (r *record) change(k kind, key, value []byte, n int64) {
	r.ops = append(r.ops, op{kind: k, at: r.keep(key, value), key: len(key), value: len(value), n: n})
}

func (r *record) clearRange(begin, end []byte) {
	r.change(clearRange, begin, end, 0)
	r.ops[len(r.ops)-1].noEnd = end == nil
}

// stamp notes a mutation with a stamp at offset at of b. What is wrong with it the engine says, to the transaction
// alone.
func (r *record) stamp(k kind, key, value, b []byte, at int) {
	if at < 0 || at+engine.StampLen > len(b) {
		r.odd = true
	} else {
		r.indexes = max(r.indexes, int(binary.BigEndian.Uint16(b[at+engine.StampLen-2:]))+1)
	}
	r.change(k, key, value, int64(at))
}

// conflicts adds what has been read to another transaction.
func (r *record) conflicts(t engine.Txn) {
	for _, s := range r.reads {
		begin := r.buf[s.at : s.at+s.begin : s.at+s.begin]
		end := r.buf[s.at+s.begin : s.at+s.begin+s.end]
		switch {
		case s.point:
			end = append(bytes.Clone(begin), 0)
		case s.noEnd:
			end = nil
		}
		t.AddReadConflict(begin, end)
	}
}

// replay makes the mutations in another transaction, or in that which they are of.
func (r *record) replay(t engine.Txn) {
	if r.use > 0 {
		t.UseStamps(r.use)
	}
	for i := range r.ops {
		o := &r.ops[i]
		key := r.buf[o.at : o.at+o.key : o.at+o.key]
		value := r.buf[o.at+o.key : o.at+o.key+o.value : o.at+o.key+o.value]
		switch o.kind {
		case set:
			t.Set(key, value)
		case clearKey:
			t.Clear(key)
		case clearRange:
			if o.noEnd {
				value = nil
			}
			t.ClearRange(key, value)
		case stampedKey:
			t.SetStampedKey(key, int(o.n), value)
		case stampedValue:
			t.SetStampedValue(key, value, int(o.n))
		case add:
			t.Add(key, o.n)
		}
	}
}
