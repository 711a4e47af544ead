package mvcc_test

import (
	"bytes"
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestListBesideVersions lists values of one and of several chunks between few and many other versions of their keys,
// at every revision that there was, before and after a compaction of half of them.
func TestListBesideVersions(t *testing.T) {
	for _, v := range []variant{
		{"dense", pebble.Options{}, mvcc.Options{InlineBytes: 8, ChunkBytes: 64}},
		{"format 1", pebble.Options{}, mvcc.Options{InlineBytes: 8, ChunkBytes: 64, NoFeatures: true}},
		{"fdb", fdb, mvcc.Options{InlineBytes: 8, ChunkBytes: 64}},
	} {
		t.Run(v.name, func(t *testing.T) {
			s := open(t, openEngine(t, v.engine), v.store)
			states := map[int64]map[string]string{}
			now := map[string]string{}
			var revs []int64
			for i := range 12 { // from twelve versions of a key to one
				for k := i; k < 12; k++ {
					key := fmt.Sprintf("key%02d", 11-k)
					size := []int{4, 40, 64, 65, 200}[(i+k)%5]
					now[key] = string(bytes.Repeat([]byte{byte('a' + i)}, size))
					revs = append(revs, put(t, s, key, now[key]))
					states[revs[len(revs)-1]] = maps.Clone(now)
				}
			}
			list := func(rev int64) map[string]string {
				got := map[string]string{}
				_, err := s.Range(t.Context(), &mvcc.RangeRequest{Key: []byte("key"), End: []byte("kez"), Rev: rev},
					func(kv *mvcc.KV) error {
						got[string(kv.Key)] = string(kv.Value)
						return nil
					})
				if err != nil {
					t.Fatalf("revision %d: %v", rev, err)
				}
				return got
			}
			half := revs[len(revs)/2]
			for _, rev := range revs {
				if d := cmp.Diff(states[rev], list(rev)); d != "" {
					t.Fatalf("revision %d: %s", rev, d)
				}
			}
			if _, err := s.Compact(t.Context(), half, true); err != nil {
				t.Fatal(err)
			}
			for _, rev := range revs {
				if rev < half {
					continue
				}
				if d := cmp.Diff(states[rev], list(rev)); d != "" {
					t.Fatalf("revision %d after the compaction: %s", rev, d)
				}
			}
		})
	}
}
