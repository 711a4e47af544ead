package etcdapi_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestTooLarge: over an engine with limits a client is told by etcd's own error what is too large, after a few round
// trips: what could not be changed later before the first of them.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFar(t)
		ctx := t.Context()
		for i := range 60 {
			_, err := f.client.Put(ctx, "k"+string(rune('A'+i))+strings.Repeat("x", 9000), "")
			f.must(err)
		}
		for i := range 200 {
			_, err := f.client.Put(ctx, "l"+string(rune(0x100+i))+strings.Repeat("x", 9000), "")
			f.must(err)
		}
		f.grant(1)
		large := make([]clientv3.Op, 120) // each counts its key about ten times
		for i := range large {
			large[i] = clientv3.OpPut("m"+string(rune(0x100+i))+strings.Repeat("x", 9000), strings.Repeat("v", 600),
				clientv3.WithLease(1))
		}
		for _, test := range []struct {
			name  string
			trips int64
			do    func() error
		}{
			{"a long key", 0, func() error { _, err := f.client.Put(ctx, strings.Repeat("k", 9_981), ""); return err }},
			{"zero bytes", 0, func() error {
				_, err := f.client.Put(ctx, strings.Repeat("\x00", 5000), "")
				return err
			}},
			{"a delete", 25, func() error { _, err := f.client.Delete(ctx, "l", clientv3.WithPrefix()); return err }},
			{"a transaction", 8, func() error { _, err := f.client.Txn(ctx).Then(large...).Commit(); return err }},
		} {
			synctest.Wait()
			before, begin := f.e.Trips(), time.Now()
			err := test.do()
			trips, took := f.e.Trips().Since(before).Total(), time.Since(begin)
			if !errors.Is(err, rpctypes.ErrRequestTooLarge) || trips > test.trips {
				t.Errorf("%s: %v after %d round trips in %v", test.name, err, trips, took)
			}
			t.Log(test.name, trips, took)
		}
		res, err := f.client.Delete(ctx, "k", clientv3.WithPrefix())
		f.must(err)
		if res.Deleted != 60 {
			t.Errorf("%d deleted", res.Deleted)
		}
	})
}
