package mvcc_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestLargeOldList reads a list at an old revision whose replaced values are more than one reader may gather.
func TestLargeOldList(t *testing.T) {
	s := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	const keys, size = 50, 1 << 20
	old := make([]byte, size)
	for i := range keys {
		put(t, s, fmt.Sprintf("k%03d", i), string(old))
	}
	rev, err := s.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		put(t, s, fmt.Sprintf("k%03d", i), "new")
	}
	kvs, info := collect(t, s, &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), Rev: rev})
	if len(kvs) != keys || info.Count != keys || info.Rev != rev+keys {
		t.Fatalf("%d keys, %+v", len(kvs), info)
	}
	for i, kv := range kvs {
		if string(kv.Key) != fmt.Sprintf("k%03d", i) || len(kv.Value) != size || kv.Mod > rev {
			t.Fatalf("key %d is %q with %d bytes at %d", i, kv.Key, len(kv.Value), kv.Mod)
		}
	}
}
