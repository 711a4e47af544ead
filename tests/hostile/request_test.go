package hostile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/tests/internal/hw"
)

// besideRequests runs f while another client writes, and fails the test if a write fails.
func besideRequests(t *testing.T, c *clientv3.Client, f func()) {
	t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := c.Put(t.Context(), "beside", fmt.Sprint(i)); err != nil {
				t.Errorf("another client's put: %v", err)
				return
			}
		}
	})
	f()
	close(stop)
	wg.Wait()
}

// TestLargeRequests: the server refuses transactions that would keep it busy, goes on serving other clients, and does
// not refuse what clients need.
func TestLargeRequests(t *testing.T) {
	s := hw.Run(t, hw.Headwater(t), t.TempDir())
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const keys, each = 40_000, 100
	for i := 0; i < keys; i += each {
		var ops []clientv3.Op
		for j := range each {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("c/%05d", i+j), "v"))
		}
		if _, err := c.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	compares := func(n int) (*clientv3.TxnResponse, error) {
		var cs []clientv3.Cmp
		for i := range n {
			cs = append(cs, clientv3.Compare(clientv3.Version("c/").WithRange(fmt.Sprint("c0", i)), ">", 0))
		}
		return c.Txn(t.Context()).If(cs...).Then(clientv3.OpPut("won", "")).Commit()
	}
	besideRequests(t, c, func() {
		if _, err := compares(128); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
			t.Errorf("128 compares of %d keys: %v", keys, err)
		}
		if r, err := compares(20); err != nil || !r.Succeeded {
			t.Errorf("20 compares of %d keys: %v", keys, err)
		}
	})
	besideRequests(t, c, func() {
		if _, err := c.Do(context.WithoutCancel(t.Context()),
			nestedPutsAndDeletes(26)); !errors.Is(err, rpctypes.ErrTooManyOps) {
			t.Errorf("nested puts and deletes: %v", err)
		}
		if r, err := c.Txn(t.Context()).Then(clientv3.OpGet("c/", clientv3.WithPrefix()),
			clientv3.OpPut("x", "")).Commit(); err != nil ||
			len(r.Responses[0].GetResponseRange().GetKvs()) != keys {
			t.Errorf("a list of %d keys in a transaction: %v", keys, err)
		}
		if r, err := c.Delete(t.Context(), "c/", clientv3.WithPrefix()); err != nil || r.Deleted != keys {
			t.Errorf("delete of a prefix: %v", err)
		}
	})
}

// nestedPutsAndDeletes is a transaction of width³ operations, with the puts before the deletes.
func nestedPutsAndDeletes(width int) clientv3.Op {
	n := 0
	var top []clientv3.Op
	for i := range width {
		var middle []clientv3.Op
		for range width {
			var leaf []clientv3.Op
			for range width {
				n++
				if i < width/2 {
					leaf = append(leaf, clientv3.OpPut(fmt.Sprintf("p%x", n), ""))
				} else {
					leaf = append(leaf, clientv3.OpDelete(fmt.Sprintf("d%x", n)))
				}
			}
			middle = append(middle, clientv3.OpTxn(nil, leaf, nil))
		}
		top = append(top, clientv3.OpTxn(nil, middle, nil))
	}
	return clientv3.OpTxn(nil, top, nil)
}
