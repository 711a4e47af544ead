package mvcc_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// sameBytes compares large values at once rather than byte by byte.
var sameBytes = cmp.Comparer(bytes.Equal)

// checked is a keyspace whose rows have been checked.
type checked struct {
	*fsck.Report
	t testing.TB
}

// checkPage is how many rows the checker reads at a time: few, so that pages end in the middle of keys. On a cluster,
// where each page is some round trips, it reads clusterPage.
const checkPage, clusterPage = 23, 500

// check checks the rows of the keyspace whose prefix is given. No writer may be under way. If removed, the compaction
// is said to have run to its end.
func check(t testing.TB, e engine.Store, _ *mvcc.Store, prefix []byte, removed bool) checked {
	t.Helper()
	if openCluster != nil {
		return checkPages(t, e, prefix, removed, clusterPage)
	}
	return checkPages(t, e, prefix, removed, checkPage)
}

// checkPages is check in pages of so many rows: an entry of the log that names thousands of keys is read once a page.
func checkPages(t testing.TB, e engine.Store, prefix []byte, removed bool, page int) checked {
	t.Helper()
	r, err := fsck.Check(context.Background(), e, fsck.Options{Prefix: prefix, PageRows: page})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		t.Error(f)
	}
	if at := removedUpTo(t, e, prefix); removed && at != r.Compact {
		t.Errorf("compacted at %d, removed up to %d", r.Compact, at)
	}
	return checked{r, t}
}

// readsAtOnce is how many revisions checkReads reads at the same time. On a remote engine a read mostly waits.
const readsAtOnce = 16

// checkReads undoes the log from the head backwards and compares every readable revision with what a range answers.
// step > 1 looks at every so manieth revision only.
func (c checked) checkReads(s *mvcc.Store, step int) {
	c.t.Helper()
	state := map[string]mvcc.KV{}
	kvs, _ := collect(c.t, s, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}})
	for _, kv := range kvs {
		state[string(kv.Key)] = kv
	}
	log, _, err := s.ReadLog(context.Background(), max(c.Compact, 0), 1<<30, 1<<40)
	if err != nil {
		c.t.Fatal(err)
	}
	log = whole(s, log)
	var reads errgroup.Group
	reads.SetLimit(readsAtOnce)
	for i := len(log) - 1; i >= 0; i-- {
		if rev := log[i].Rev; i%step == 0 {
			want := []mvcc.KV{}
			for _, k := range slices.Sorted(maps.Keys(state)) {
				want = append(want, state[k])
			}
			reads.Go(func() error { return c.checkRead(s, rev, want) })
		}
		for _, ev := range log[i].Events {
			if ev.HasPrev {
				state[string(ev.KV.Key)] = ev.Prev
			} else {
				delete(state, string(ev.KV.Key))
			}
		}
	}
	if err := reads.Wait(); err != nil {
		c.t.Fatal(err)
	}
}

// checkRead compares a list at a revision, and counts, with the keys that it has.
func (c checked) checkRead(s *mvcc.Store, rev int64, want []mvcc.KV) error {
	got, at, err := read(s, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: rev})
	if err != nil {
		return fmt.Errorf("at %d of %d: %w", rev, c.Revision, err)
	}
	if diff := cmp.Diff(want, append([]mvcc.KV{}, got...), sameBytes); diff != "" || at.Count != int64(len(want)) {
		return fmt.Errorf("at %d of %d, count %d (-want +got):\n%s", rev, c.Revision, at.Count, diff)
	}
	return c.checkCounts(s, rev, want)
}
