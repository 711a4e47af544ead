package migrate

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// spilling is a tail with small limits, whose watch is the test.
func spilling(dir string) *tail {
	t := &tail{memory: 4 << 10, more: make(chan struct{}, 1), stop: func() {}, ended: make(chan struct{})}
	close(t.ended)
	t.disk = newSpill(dir)
	t.disk.segment, t.disk.max = 16<<10, 256<<10
	return t
}

// show is what a watch shows of one revision with values of a size.
func show(rev int64, events, size int) *clientv3.WatchResponse {
	r := &clientv3.WatchResponse{}
	for i := range events {
		value := make([]byte, size)
		value[0] = byte(rev)
		kv := &mvccpb.KeyValue{Key: []byte{'k', byte(i)}, Value: value, ModRevision: rev, Version: 3, Lease: 7}
		r.Events = append(r.Events, &clientv3.Event{Kv: kv})
	}
	return r
}

// TestTailSpills: of a log that is taken slowly, memory holds little, and the directory the rest. It comes out as it
// went in, and nothing is left.
func TestTailSpills(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	tail := spilling(dir)
	const last = 400
	events := make([]int, last+1)
	shown, taken, spilled, filled := 0, 0, false, 0
	for taken < last {
		if shown < last && r.IntN(3) > 0 {
			shown++
			events[shown] = 1 + r.IntN(3)
			if err := tail.take(show(int64(shown), events[shown], 1+r.IntN(3000))); errors.Is(err, errOverflow) {
				shown-- // the test takes too slowly
				filled++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		spilled = spilled || !tail.disk.empty()
		if filled == 0 && shown < last && r.IntN(2) > 0 || taken == shown {
			continue
		}
		filled = 0
		entries, err := tail.next(t.Context(), int64(taken))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if taken++; e.GetRevision() != int64(taken) || len(e.GetEvents()) != events[taken] {
				t.Fatalf("revision %d with %d events, want %d with %d", e.GetRevision(), len(e.GetEvents()), taken,
					events[taken])
			}
			v := e.GetEvents()[0].GetVersion()
			if v.GetValue()[0] != byte(taken) || v.GetVersion() != 3 || v.GetLease() != 7 {
				t.Fatalf("revision %d: %v", taken, v)
			}
		}
	}
	if !spilled || tail.bytes != 0 || tail.disk.bytes != 0 {
		t.Errorf("spilled %t, %d bytes of memory and %d of disk are left", spilled, tail.bytes, tail.disk.bytes)
	}
	tail.close()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestSpillFull: a log that does not fit on disk ends, and what has been held is still there.
func TestSpillFull(t *testing.T) {
	tail := spilling(t.TempDir())
	defer tail.close()
	held := int64(0)
	for err := error(nil); err == nil; {
		if err = tail.take(show(held+1, 1, 8<<10)); err == nil {
			held++
		} else if !errors.Is(err, errOverflow) {
			t.Fatal(err)
		} else {
			tail.fail(err)
		}
	}
	if held < 20 {
		t.Fatalf("%d revisions are held", held)
	}
	for taken := int64(0); taken < held; {
		entries, err := tail.next(t.Context(), taken)
		if err != nil {
			t.Fatalf("after %d of %d: %v", taken, held, err)
		}
		taken = entries[len(entries)-1].GetRevision()
	}
	if _, err := tail.next(t.Context(), held); !errors.Is(err, errOverflow) {
		t.Error(err)
	}
}

// TestSpillNowhere: if the directory takes nothing, memory holds what it can.
func TestSpillNowhere(t *testing.T) {
	tail := spilling(filepath.Join(t.TempDir(), "gone"))
	defer tail.close()
	for rev := int64(1); rev <= 20; rev++ {
		if err := tail.take(show(rev, 1, 8<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for taken := int64(0); taken < 20; {
		entries, err := tail.next(t.Context(), taken)
		if err != nil {
			t.Fatal(err)
		}
		taken = entries[len(entries)-1].GetRevision()
	}
}
