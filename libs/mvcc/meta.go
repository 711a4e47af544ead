package mvcc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revision"
)

// The formats of a keyspace's row in meta; docs/formats.md describes them.
const (
	formatBare     = 1 // no features
	formatFeatures = 2 // the features follow
)

// neverCompacted is the compact revision of a new keyspace (etcd: -1, so that Compact(0) succeeds once).
const neverCompacted = -1

// Names of meta rows.
const (
	metaKeyspace  = "keyspace"  // stamp of creation, format, shift, chunk bytes, cluster id
	metaCompact   = "compact"   // compact revision
	metaCompacted = "compacted" // how far the removal of compacted rows has come: a revision
	metaPart      = "part"      // an entry of which some events have been removed, and how many
	metaOwner     = "owner"     // ballot of the owner of lease shard 0; "owner/<n>" of shard n
	metaAlarm     = "alarm/"    // one row per alarm
	metaPush      = "push"      // never written
	metaLive      = "live"      // counter of the live bytes; FeatureSizes
	metaAuth      = "auth"      // number of the users and roles, ids of their last changes; FeatureAuth
	metaBuckets   = "buckets"   // number of the last change of the boundaries; FeatureCounts
)

// Meta is what was fixed when a keyspace was created.
type Meta struct {
	ClusterID  uint64 // random, non-zero
	Space      revision.Space
	ChunkBytes int
	Features   Features // at the time of opening; see Store.Features
}

// metaLen is the length of a keyspace's row of formatBare: stamp, format (1), shift (1), chunk bytes (4), cluster id
// (8). featuresLen is what formatFeatures adds.
const (
	metaLen     = engine.StampLen + 1 + 1 + 4 + 8
	featuresLen = 8
)

// metaWith returns a keyspace's row with other features.
func metaWith(b []byte, f Features) ([]byte, error) {
	if _, err := parseMeta(b); err != nil {
		return nil, err
	}
	out := append([]byte{}, b[:metaLen]...)
	out[engine.StampLen] = formatFeatures
	return binary.BigEndian.AppendUint64(out, uint64(f)), nil
}

// parseFeatures checks the format of a keyspace's row and returns its features.
func parseFeatures(b []byte) (f Features, err error) {
	if len(b) < engine.StampLen+1 {
		return 0, ErrCorrupt
	}
	switch format := b[engine.StampLen]; {
	case format == formatBare && len(b) == metaLen:
		return 0, nil
	case format == formatFeatures && len(b) == metaLen+featuresLen:
		f = Features(binary.BigEndian.Uint64(b[metaLen:]))
		return f, f.known()
	case format > formatFeatures:
		return 0, fmt.Errorf("%w: the keyspace has format %d, this version knows %d",
			ErrNewerFormat, format, formatFeatures)
	}
	return 0, ErrCorrupt
}

func parseMeta(b []byte) (Meta, error) {
	features, err := parseFeatures(b)
	if err != nil {
		return Meta{}, err
	}
	st, err := engine.ParseStamp(b)
	if err != nil {
		return Meta{}, ErrCorrupt
	}
	b = b[engine.StampLen+1:]
	// The creation itself is the keyspace's first revision: 1 where stamps are dense, otherwise 2^shift.
	space, err := revision.New(int64(st.Version)-1, uint(b[0]))
	if err != nil {
		return Meta{}, errors.Join(ErrCorrupt, err)
	}
	m := Meta{
		Space:      space,
		Features:   features,
		ChunkBytes: int(binary.BigEndian.Uint32(b[1:])),
		ClusterID:  binary.BigEndian.Uint64(b[5:]),
	}
	if m.ChunkBytes <= 0 || m.ClusterID == 0 {
		return Meta{}, ErrCorrupt
	}
	return m, nil
}

// openMeta reads the keyspace's row, or creates the keyspace. If two processes create it at once, their transactions
// conflict, and the second finds the row of the first.
func openMeta(ctx context.Context, eng engine.Store, r rows, o *Options) (Meta, error) {
	var m Meta
	again := func(err error) bool { return engine.ClassOf(err).RerunIdempotent() }
	err := updates.Do(ctx, again, func() (err error) {
		m, err = tryOpenMeta(ctx, eng, r, o)
		return err
	})
	return m, err
}

func tryOpenMeta(ctx context.Context, eng engine.Store, r rows, o *Options) (Meta, error) {
	txn, err := eng.Begin(ctx)
	if err != nil {
		return Meta{}, err
	}
	defer txn.Discard()
	b, err := txn.Get(ctx, r.meta(metaKeyspace))
	if err != nil {
		return Meta{}, err
	}
	if b != nil {
		return parseMeta(b)
	}
	if err := refuseRows(ctx, txn, r); err != nil {
		return Meta{}, err
	}
	v := make([]byte, engine.StampLen, metaLen+featuresLen)
	v = append(v, formatBare, byte(o.Shift))
	v = binary.BigEndian.AppendUint32(v, uint32(o.ChunkBytes))
	var id [8]byte
	rand.Read(id[:])
	id[0] &= 0x7f // also positive as an int64, in which some clients keep it
	id[7] |= 1
	v = append(v, id[:]...)
	if o.Features != 0 {
		v[engine.StampLen] = formatFeatures
		v = binary.BigEndian.AppendUint64(v, uint64(o.Features))
	}
	txn.UseStamps(1)
	txn.SetStampedValue(r.meta(metaKeyspace), v, 0)
	head, at := headRow(o.Features, engine.Stamp{})
	txn.SetStampedValue(r.head(), head, at)
	if o.Features.Has(FeatureCounts) {
		newBuckets(txn, r, bucketSettled)
	}
	p, err := txn.Commit(ctx)
	if err != nil {
		return Meta{}, err
	}
	if _, err := p.Wait(ctx); err != nil {
		return Meta{}, err
	}
	return tryOpenMeta(ctx, eng, r, o)
}

// refuseRows returns an error if rows of a keyspace exist: the row that describes it has been lost, so none may be
// created in its place.
func refuseRows(ctx context.Context, txn engine.Txn, r rows) error {
	begin, end := r.span()
	it := txn.Scan(ctx, engine.Range{Begin: begin, End: end, Limit: 1, KeysOnly: true})
	defer it.Close()
	if it.Next() {
		return fmt.Errorf(
			"%w: the row that describes the keyspace is missing, but others exist; restore the store from a backup",
			ErrCorrupt,
		)
	}
	return it.Err()
}

func appendRev(b []byte, rev int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(rev)) }

func parseRev(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, ErrCorrupt
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}
