package mvcc_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Keys that one request replaced have their values side by side in its log entry: a list below it must not read a
// chunk of the log again for each of them, since a chunk is up to 1 MiB.
func TestOldListReadsChunkOnce(t *testing.T) {
	var gets atomic.Int64
	e := faults.New(openEngine(t, pebble.Options{}),
		faults.Options{KeepPipelined: true, Delay: func(_ context.Context, op faults.Op) {
			if op == faults.Get {
				gets.Add(1)
			}
		}})
	s := open(t, e, mvcc.Options{})
	const keys = 100
	var rev int64
	for i := range keys {
		rev = put(t, s, fmt.Sprintf("k%02d", i), fmt.Sprintf("%0100d", i))
	}
	res, err := s.DeleteRange(context.Background(), &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")})
	if err != nil || res.Deleted != keys {
		t.Fatalf("%+v, %v", res, err)
	}
	gets.Store(0)
	kvs, _ := collect(t, s, &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), Rev: rev})
	if len(kvs) != keys {
		t.Fatalf("%d keys", len(kvs))
	}
	for i, kv := range kvs {
		if want := fmt.Appendf(nil, "%0100d", i); !bytes.Equal(kv.Value, want) {
			t.Fatalf("%q = %q, want %q", kv.Key, kv.Value, want)
		}
	}
	if n := gets.Load(); n > 5 {
		t.Fatalf("%d reads of rows for a list of %d keys that one request deleted", n, keys)
	}
}
