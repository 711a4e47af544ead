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

// formatVersion is the layout that this code reads and writes; docs/formats.md describes it.
const formatVersion = 1

// neverCompacted is the compact revision of a new keyspace (etcd: -1, so that Compact(0) succeeds once).
const neverCompacted = -1

// Names of meta rows.
const (
	metaKeyspace  = "keyspace"  // stamp of creation, format, shift, chunk bytes, cluster id
	metaCompact   = "compact"   // compact revision
	metaCompacted = "compacted" // how far the removal of compacted rows has come: a revision
	metaOwner     = "owner"     // ballot of the owner of lease shard 0; "owner/<n>" of shard n
	metaAlarm     = "alarm/"    // one row per alarm
)

// Meta is what never changes about a keyspace.
type Meta struct {
	ClusterID  uint64 // random, non-zero
	Space      revision.Space
	ChunkBytes int
}

// metaLen is the keyspace row: stamp, format (1), shift (1), chunk bytes (4), cluster id (8).
const metaLen = engine.StampLen + 1 + 1 + 4 + 8

func parseMeta(b []byte) (Meta, error) {
	if len(b) < engine.StampLen+1 {
		return Meta{}, ErrCorrupt
	}
	if f := b[engine.StampLen]; f != formatVersion {
		return Meta{}, fmt.Errorf("mvcc: the keyspace has format %d, this version knows %d", f, formatVersion)
	}
	if len(b) != metaLen {
		return Meta{}, ErrCorrupt
	}
	st, err := engine.ParseStamp(b)
	if err != nil {
		return Meta{}, ErrCorrupt
	}
	b = b[engine.StampLen+1:]
	// The creation itself is the keyspace's first revision: 1 where stamps are dense, 2^shift else.
	space, err := revision.New(int64(st.Version)-1, uint(b[0]))
	if err != nil {
		return Meta{}, errors.Join(ErrCorrupt, err)
	}
	m := Meta{Space: space, ChunkBytes: int(binary.BigEndian.Uint32(b[1:])), ClusterID: binary.BigEndian.Uint64(b[5:])}
	if m.ChunkBytes <= 0 || m.ClusterID == 0 {
		return Meta{}, ErrCorrupt
	}
	return m, nil
}

// openMeta reads the keyspace's row, or creates the keyspace. Two creators conflict, and the second finds the first's.
func openMeta(ctx context.Context, eng engine.Store, r rows, o *Options) (Meta, error) {
	for range attemptsMax {
		m, err := tryOpenMeta(ctx, eng, r, o)
		if err == nil || !errors.Is(err, engine.ErrConflict) && !errors.Is(err, engine.ErrUnknownOutcome) && !errors.Is(err, engine.ErrTooOld) {
			return m, err
		}
	}
	return Meta{}, ErrUnavailable
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
	v := make([]byte, engine.StampLen, metaLen)
	v = append(v, formatVersion, byte(o.Shift))
	v = binary.BigEndian.AppendUint32(v, uint32(o.ChunkBytes))
	var id [8]byte
	rand.Read(id[:])
	id[0] &= 0x7f // a positive int64 too: some clients keep it in one
	id[7] |= 1
	v = append(v, id[:]...)
	txn.UseStamps(1)
	txn.SetStampedValue(r.meta(metaKeyspace), v, 0)
	txn.SetStampedValue(r.head(), make([]byte, engine.StampLen), 0)
	p, err := txn.Commit(ctx)
	if err != nil {
		return Meta{}, err
	}
	if _, err := p.Wait(ctx); err != nil {
		return Meta{}, err
	}
	return tryOpenMeta(ctx, eng, r, o)
}

func appendRev(b []byte, rev int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(rev)) }

func parseRev(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, ErrCorrupt
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}
