package mvcc

import (
	"sync"
	"testing"
	"testing/synctest"
)

// TestLastRequestEndsAllLanes: lanes that wait when a queue closes end when another takes the last request.
func TestLastRequestEndsAllLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(10, 3)
		for range 2 {
			r := newRequest(&PutRequest{Key: []byte("hot")}, 1)
			r.ctx = t.Context()
			if err := q.put(r); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(q.take(0, 1, 1)); n != 1 {
			t.Fatal(n)
		}
		var lanes sync.WaitGroup
		var got [2][]*request
		for i := range got {
			lanes.Go(func() { got[i] = q.take(i+1, 1, 1) })
		}
		synctest.Wait()
		q.close()
		synctest.Wait()
		q.landed(0) // wakes one of them
		lanes.Wait()
		if n := len(got[0]) + len(got[1]); n != 1 {
			t.Errorf("%d requests were taken, want 1", n)
		}
	})
}

// TestTxnSize: all that a transaction holds counts, on both branches and nested.
func TestTxnSize(t *testing.T) {
	op := func(k, v string) Op { return Op{Put: &PutRequest{Key: []byte(k), Value: []byte(v)}} }
	txn := &TxnRequest{
		Compares: []Compare{{Key: []byte("a"), End: []byte("bb"), Value: []byte("ccc")}},
		Success:  []Op{op("k", "value"), {Delete: &DeleteRequest{Key: []byte("d"), End: []byte("e")}}},
		Failure: []Op{
			{Range: &RangeRequest{Key: []byte("rr"), End: []byte("ss")}},
			{Txn: &TxnRequest{Success: []Op{op("n", "v")}}},
		},
	}
	if got, want := txn.size(), 6+6+2+4+2; got != want {
		t.Errorf("size %d, want %d", got, want)
	}
}
