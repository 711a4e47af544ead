package pebble

import (
	"bytes"
	"slices"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// span is the keys k with begin <= k < end, as rows of Pebble (with prefix).
type span struct{ begin, end []byte }

// within returns the part of s that lies in o, or all of s if o has no end. It may be empty.
func (s span) within(o span) span {
	if o.end == nil {
		return s
	}
	if bytes.Compare(s.begin, o.begin) < 0 {
		s.begin = o.begin
	}
	if bytes.Compare(s.end, o.end) > 0 {
		s.end = o.end
	}
	return s
}

// readSet is what a transaction has read: single rows and ranges. The slices are its own.
type readSet struct {
	points [][]byte
	ranges []span
}

func (r *readSet) empty() bool { return len(r.points) == 0 && len(r.ranges) == 0 }

// writeSet is the set of rows that one commit wrote. Its index is built on first use, because most sets are never
// compared.
type writeSet struct {
	seq   uint64
	repr  []byte // the batch
	free  func() // returns the batch; called when the set is dropped
	built bool
	rows  [][]byte // sorted; slices of repr
	spans []span
}

// build indexes the set. Only the holder of the writer lock may call it.
func (w *writeSet) build() {
	if w.built {
		return
	}
	w.built = true
	for r := batchrepr.Read(w.repr); ; {
		kind, key, value, ok, err := r.Next()
		if !ok || err != nil {
			break // err: impossible, the batch was made by this process
		}
		switch kind {
		case pdb.InternalKeyKindLogData: // the mark
		case pdb.InternalKeyKindRangeDelete:
			w.spans = append(w.spans, span{key, value})
		default:
			w.rows = append(w.rows, key)
		}
	}
	slices.SortFunc(w.rows, bytes.Compare)
}

// hits reports whether w wrote something that r has read.
func (w *writeSet) hits(r *readSet) bool {
	w.build()
	for _, p := range r.points {
		if _, found := slices.BinarySearchFunc(w.rows, p, bytes.Compare); found {
			return true
		}
		for _, s := range w.spans {
			if bytes.Compare(s.begin, p) <= 0 && bytes.Compare(p, s.end) < 0 {
				return true
			}
		}
	}
	for _, q := range r.ranges {
		if bytes.Compare(q.begin, q.end) >= 0 {
			continue
		}
		i, _ := slices.BinarySearchFunc(w.rows, q.begin, bytes.Compare)
		if i < len(w.rows) && bytes.Compare(w.rows[i], q.end) < 0 {
			return true
		}
		for _, s := range w.spans {
			if bytes.Compare(s.begin, q.end) < 0 && bytes.Compare(q.begin, s.end) < 0 {
				return true
			}
		}
	}
	return false
}

// window holds the write sets of the newest commits, oldest first. Transactions that read at a commit before floor can
// no longer be checked. Store.mu guards it. The holder of the writer lock may use the sets that an open transaction
// needs without Store.mu: only older sets are dropped meanwhile.
type window struct {
	sets  []*writeSet
	bytes int64
	floor uint64

	commitsMax int
	bytesMax   int64
}

// add appends w and drops the oldest sets beyond the bounds.
func (n *window) add(w *writeSet) {
	n.sets = append(n.sets, w)
	n.bytes += int64(len(w.repr))
	for len(n.sets) > n.commitsMax || n.bytes > n.bytesMax && len(n.sets) > 1 {
		n.drop()
	}
}

// skip records that commit seq is not kept, because no transaction can need it.
func (n *window) skip(seq uint64) {
	n.prune(seq)
	n.floor = seq
}

// prune drops the sets of the commits up to seq, which no open transaction needs.
func (n *window) prune(seq uint64) {
	for len(n.sets) > 0 && n.sets[0].seq <= seq {
		n.drop()
	}
}

func (n *window) drop() {
	w := n.sets[0]
	n.sets[0] = nil
	n.sets = n.sets[1:]
	n.bytes -= int64(len(w.repr))
	n.floor = w.seq
	w.free()
}

// since returns the sets after commit seq, and false if some of them are gone.
func (n *window) since(seq uint64) ([]*writeSet, bool) {
	if seq < n.floor {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(n.sets, seq+1, func(w *writeSet, seq uint64) int {
		switch {
		case w.seq < seq:
			return -1
		case w.seq > seq:
			return 1
		}
		return 0
	})
	return n.sets[i:], true
}

// shared counts the users of a batch. The last one returns it to Pebble's pool.
type shared struct {
	batch *pdb.Batch
	refs  atomic.Int32
}

func (s *shared) release() {
	if s.refs.Add(-1) == 0 {
		_ = s.batch.Close()
	}
}
