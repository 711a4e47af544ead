package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// openCluster, if not nil, opens a store on a real cluster (foundationdb_test.go), which then stands for all the
// engines that behave like one.
var openCluster func(t testing.TB) engine.Store

func openEngine(t testing.TB, o pebble.Options) engine.Store {
	t.Helper()
	if openCluster != nil && o.FDBLimits && o.Sparse && o.NotPipelined {
		return openCluster(t)
	}
	return openPebble(t, o)
}

// openPebble opens a store that is never on a cluster: what is in a bubble of testing/synctest, and depends on its
// time.
func openPebble(t testing.TB, o pebble.Options) engine.Store {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	o.ReserveBytes, o.BallastBytes, o.CloseWithin = -1, -1, time.Minute
	e, err := pebble.Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	var s engine.Store = e
	if !e.Limits().Pipelined {
		s = faults.New(e, faults.Options{Recent: true}) // groups begin on states that may be outdated
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func open(t testing.TB, e engine.Store, o mvcc.Options) *mvcc.Store {
	t.Helper()
	s, err := mvcc.Open(context.Background(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func collect(t testing.TB, s *mvcc.Store, r *mvcc.RangeRequest) ([]mvcc.KV, mvcc.RangeInfo) {
	t.Helper()
	kvs, info, err := read(s, r)
	if err != nil {
		t.Fatal(err)
	}
	return kvs, info
}

// read returns what a range visits.
func read(s *mvcc.Store, r *mvcc.RangeRequest) (kvs []mvcc.KV, info mvcc.RangeInfo, err error) {
	info, err = s.Range(context.Background(), r, func(kv *mvcc.KV) error {
		c := *kv
		c.Key, c.Value = append([]byte(nil), kv.Key...), append([]byte(nil), kv.Value...)
		kvs = append(kvs, c)
		return nil
	})
	return kvs, info, err
}

func put(t testing.TB, s *mvcc.Store, key, value string) int64 {
	t.Helper()
	res, err := s.Put(context.Background(), &mvcc.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return res.Rev
}

func TestFirstRevisions(t *testing.T) {
	var fed []revlog.Entry
	s := open(t, openEngine(t, pebble.Options{}), mvcc.Options{Feed: func(e []revlog.Entry) {
		fed = append(fed, e...)
	}})
	if h, err := s.Head(context.Background()); err != nil || h != 1 {
		t.Fatalf("head of an empty store = %d, %v", h, err)
	}
	for i := range 5 {
		if rev := put(t, s, fmt.Sprintf("k%d", i%2), fmt.Sprint("v", i)); rev != int64(i+2) {
			t.Fatalf("put %d has revision %d", i, rev)
		}
	}
	kvs, info := collect(t, s, &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l")})
	if len(kvs) != 2 || info.Rev != 6 || info.Count != 2 || string(kvs[0].Value) != "v4" || kvs[0].Version != 3 ||
		kvs[0].Create != 2 || kvs[0].Mod != 6 {
		t.Fatalf("%+v %+v", kvs, info)
	}
	for rev := int64(2); rev <= 6; rev++ {
		kvs, _ := collect(t, s, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: rev})
		t.Log(rev, len(kvs))
		for _, kv := range kvs {
			one, _ := collect(t, s, &mvcc.RangeRequest{Key: kv.Key, Rev: rev})
			if len(one) != 1 || string(one[0].Value) != string(kv.Value) || one[0].Mod != kv.Mod {
				t.Fatalf("at %d: %+v but %+v", rev, kv, one)
			}
		}
	}
	if len(fed) != 5 || fed[4].Rev != 6 || string(fed[4].Events[0].Prev.Value) != "v2" {
		t.Fatalf("%+v", fed)
	}
	log, next, err := s.ReadLog(context.Background(), 2, 100, 1<<20)
	if err != nil || next != 7 || len(log) != 5 {
		t.Fatal(len(log), next, err)
	}
	if _, err := s.Compact(context.Background(), 5, true); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ReadLog(context.Background(), 4, 100, 1<<20); !errors.Is(err, mvcc.ErrCompacted) {
		t.Fatal(err)
	}
	if log, _, err = s.ReadLog(context.Background(), 5, 100, 1<<20); err != nil || len(log) != 2 {
		t.Fatal(len(log), err)
	}
	kvs, _ = collect(t, s, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: 5})
	if len(kvs) != 2 || string(kvs[0].Value) != "v2" {
		t.Fatalf("%+v", kvs)
	}
}
