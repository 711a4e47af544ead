package mvcc

import (
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// podPrefix is how long the prefix of a keyspace of pods may be that follows the root: a kind, a length and an id.
const podPrefix = 1 + 1 + 8

// PodFit tells what a new keyspace of pods can hold, without a database. It may be used from any goroutine.
type PodFit struct{ s *Store }

// NewPodFit returns what keyspaces can hold below a root (the pods' --fdb-root).
func NewPodFit(root string) PodFit {
	limits := engine.Limits{
		KeyBytes: txnsize.KeyBytesMax - len(root), ValueBytes: txnsize.ValueBytesMax, TxnBytes: txnsize.TxnBytesMax,
		Structures: true, RootBytes: len(root), StampBytes: txnsize.StampBytes,
	}
	o := Options{Prefix: make([]byte, podPrefix)}
	o.ensureDefaults(limits)
	s := &Store{o: o, limits: limits, rows: rows{prefix: o.Prefix}}
	s.room = s.rows.roomOf(limits)
	s.meta.ChunkBytes = o.ChunkBytes
	s.sawFeatures(FeaturesAll)
	return PodFit{s}
}

// Refuse returns why a put could not be held: what it makes could not be replaced, put on a lease or deleted later.
// Errors: ErrTooLarge.
func (f PodFit) Refuse(key, value []byte) error {
	return f.s.storable(&revlog.Event{KV: KV{Key: key, Value: value}})
}
