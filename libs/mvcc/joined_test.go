package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/join"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestJoinedKeyspaces: groups of several keyspaces that are one transaction of the engine are to each keyspace what
// they are alone, under conflicts, unknown outcomes and all other faults: what has been acknowledged is there, once,
// at the revision that was told, and the rows agree.
func TestJoinedKeyspaces(t *testing.T) {
	const keyspaces, clients, puts = 6, 3, 30
	e := openEngine(t, fdb)
	f := faults.New(e, faults.Options{
		Seed: seed(t), Conflict: 0.04, UnknownLost: 0.03, UnknownCommitted: 0.03, TooOld: 0.01, Unavailable: 0.01,
		Recent: true, Remote: &faults.Remote{Latency: faults.Everywhere(faults.Delay{Random: time.Millisecond})},
	})
	f.Pause(true)
	j := join.New(f)
	t.Cleanup(func() {
		_ = j.Close()
		f.Crash() // the engine is closed after it
	})
	prefix := func(i int) []byte { return fmt.Appendf(nil, "\xff\x01%cd", i+1) }
	var stores []*mvcc.Store
	for i := range keyspaces {
		stores = append(stores, open(t, j, mvcc.Options{Prefix: prefix(i), Lanes: 2, Shift: 5}))
	}
	// Another pod writes the same key as everybody in the first keyspace, which conflicts all the time.
	other := open(t, e, mvcc.Options{Prefix: prefix(0), Shift: 5})
	f.Pause(false)

	var mu sync.Mutex
	told := make([]map[string]int64, keyspaces)
	var wg sync.WaitGroup
	put := func(s *mvcc.Store, i int, key string) {
		shared := fmt.Appendf(nil, "shared")
		res, err := s.Txn(context.Background(), &mvcc.TxnRequest{Success: []mvcc.Op{
			{Put: &mvcc.PutRequest{Key: []byte(key), Value: []byte(key)}},
			{Put: &mvcc.PutRequest{Key: shared, Value: []byte(key)}},
		}})
		switch {
		case errors.Is(err, mvcc.ErrUnavailable), errors.Is(err, mvcc.ErrTooManyRequests): // unknown, or refused
		case err != nil:
			t.Error(err)
		default:
			mu.Lock()
			defer mu.Unlock()
			told[i][key] = res.Rev
		}
	}
	for i, s := range stores {
		told[i] = map[string]int64{}
		for c := range clients {
			wg.Go(func() {
				for n := range puts {
					put(s, i, fmt.Sprintf("%d-%d", c, n))
				}
			})
		}
	}
	wg.Go(func() {
		for n := range puts {
			put(other, 0, fmt.Sprint("other-", n))
		}
	})
	wg.Wait()
	f.Pause(true)

	for i, s := range stores {
		revs := map[int64]string{}
		for _, kv := range everything(t, s) {
			if string(kv.Key) == "shared" {
				continue
			}
			if kv.Version != 1 {
				t.Errorf("keyspace %d: %s was put %d times", i, kv.Key, kv.Version)
			}
			if other, there := revs[kv.Mod]; there {
				t.Errorf("keyspace %d: %s and %s have the revision %d", i, other, kv.Key, kv.Mod)
			}
			revs[kv.Mod] = string(kv.Key)
		}
		for key, rev := range told[i] {
			if revs[rev] != key {
				t.Errorf("keyspace %d: %s was acknowledged at %d, where %q is", i, key, rev, revs[rev])
			}
		}
		if len(told[i]) < clients*puts/2 {
			t.Errorf("keyspace %d: only %d writes were acknowledged", i, len(told[i]))
		}
		check(t, e, s, prefix(i), false)
	}
	st := j.Stats()
	t.Logf("%d transactions carried %d groups, %d were refused", st.Joined.Load(), st.Members.Load(), st.Apart.Load())
	if st.Joined.Load() == 0 || st.Apart.Load() == 0 {
		t.Error("nothing was joined, or nothing that was joined was refused")
	}
}
