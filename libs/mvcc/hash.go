package mvcc

import (
	"context"
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// HashKV hashes the state of the keyspace at rev (0: the head; a negative one is before all keys, as in etcd): key, value, revisions, version and lease of every key in key
// order. Two servers with the same contents give the same hash; etcd's own HashKV hashes its bucket instead and differs. Errors:
// ErrCompacted, ErrFutureRevision, ErrUnavailable, the context's. hashRev is the revision hashed, compactRev the compact
// revision at that moment.
func (s *Store) HashKV(ctx context.Context, rev int64) (hash uint32, hashRev, compactRev, head int64, err error) {
	h := crc32.New(castagnoli)
	var buf []byte
	if rev < 0 {
		head, err = s.Head(ctx)
		return h.Sum32(), rev, s.compact.Load(), head, err
	}
	info, err := s.Range(ctx, &RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: rev}, func(kv *KV) error {
		buf = binary.AppendUvarint(buf[:0], uint64(len(kv.Key)))
		buf = append(buf, kv.Key...)
		for _, v := range [...]int64{kv.Create, kv.Mod, kv.Version, kv.Lease} {
			buf = binary.AppendVarint(buf, v)
		}
		h.Write(buf)
		h.Write(kv.Value)
		return nil
	})
	if err != nil {
		return 0, 0, 0, 0, err
	}
	if rev == 0 {
		rev = info.Rev
	}
	return h.Sum32(), rev, s.compact.Load(), info.Rev, nil
}
