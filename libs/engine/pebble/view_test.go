package pebble

import (
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// TestViews: readers that come and go while commits replace the durable view leave nothing behind, and each of them
// sees whole commits only.
func TestViews(t *testing.T) {
	s, err := Open("data", small(Options{FS: vfs.NewMem()}))
	if err != nil {
		t.Fatal(err)
	}
	const commits, readers, rows = 300, 4, 20
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			var last uint64
			for {
				select {
				case <-done:
					return
				default:
				}
				v, err := readWhole(t, s, rows)
				if err != nil {
					t.Error(err)
					return
				}
				if v < last {
					t.Errorf("commit %d seen after %d", v, last)
				}
				last = v
			}
		})
	}
	for i := range commits {
		if err := mutate(s, func(x engine.Txn) {
			for j := range rows {
				x.Set(fmt.Appendf(nil, "k%02d", j), fmt.Appendf(nil, "%d%0*d", i, i%100*10, 0))
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
	m := s.db.Metrics()
	if m.Snapshots.Count != 1 {
		t.Errorf("%d snapshots open, want the durable one", m.Snapshots.Count)
	}
	st := s.Stats()
	if st.Commits != commits || st.Undurable != 0 || st.OpenTxns != 0 || st.DiskBytes == 0 || st.MemTableBytes == 0 ||
		st.WALBytes == 0 {
		t.Errorf("%+v", st)
	}
	if err := s.Close(); err != nil { // Pebble tells of iterators and snapshots that are left open
		t.Error(err)
	}
}

// readWhole reads the rows in three ways and checks that they are of one commit. It returns the version read.
func readWhole(t *testing.T, s *Store, rows int) (uint64, error) {
	r, err := s.Snapshot(t.Context())
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var keys [][]byte
	for j := range rows {
		keys = append(keys, fmt.Appendf(nil, "k%02d", j))
	}
	values, err := r.GetMany(t.Context(), keys)
	if err != nil {
		return 0, err
	}
	one, err := r.Get(t.Context(), keys[rows/2])
	if err != nil {
		return 0, err
	}
	it := r.Scan(t.Context(), engine.Range{})
	n := 0
	for ; it.Next(); n++ {
		if string(it.Value()) != string(values[n]) {
			return 0, fmt.Errorf("version %d: scan and GetMany differ", r.Version())
		}
	}
	if err := it.Close(); err != nil {
		return 0, err
	}
	for _, v := range values {
		if string(v) != string(one) || (v == nil) != (n == 0) {
			return 0, fmt.Errorf("version %d: rows of two commits: %q, %q; %d rows", r.Version(), v, one, n)
		}
	}
	return r.Version(), nil
}
