package mvcc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// damagedStore is a Store whose engine's rows can be damaged.
type damagedStore struct {
	*mvcc.Store
	e       *faults.Store
	prefix  []byte
	reports atomic.Int64
	begins  atomic.Int64
	hold    atomic.Pointer[chan struct{}] // Begin waits for it
}

func openDamaged(t *testing.T, v variant) *damagedStore {
	t.Helper()
	d := &damagedStore{prefix: v.store.Prefix}
	d.e = faults.New(openEngine(t, v.engine),
		faults.Options{KeepPipelined: true, Delay: func(ctx context.Context, op faults.Op) {
			if op != faults.Begin {
				return
			}
			d.begins.Add(1)
			if c := d.hold.Load(); c != nil {
				<-*c
			}
		}})
	v.store.OnDamage = func(err error) {
		if !errors.Is(err, mvcc.ErrCorrupt) {
			t.Errorf("reported: %v", err)
		}
		d.reports.Add(1)
	}
	d.Store = open(t, d.e, v.store)
	return d
}

// damage makes all rows of a table unreadable that begin with rest.
func (d *damagedStore) damage(table byte, rest string) {
	begin := append(append(bytes.Clone(d.prefix), table), rest...)
	end := bytes.Clone(begin)
	end[len(end)-1]++
	d.e.Damage(begin, end)
}

// request is one operation of the data model.
type operation struct {
	name string
	run  func(ctx context.Context, s *mvcc.Store) error
}

func put1(key string) operation {
	return operation{"put " + key, func(ctx context.Context, s *mvcc.Store) error {
		_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Value: []byte("new")})
		return err
	}}
}

func range1(name string, r mvcc.RangeRequest) operation {
	return operation{name, func(ctx context.Context, s *mvcc.Store) error {
		_, err := s.Range(ctx, &r, func(*mvcc.KV) error { return nil })
		return err
	}}
}

func txn1(name string, r mvcc.TxnRequest) operation {
	return operation{name, func(ctx context.Context, s *mvcc.Store) error { _, err := s.Txn(ctx, &r); return err }}
}

func delete1(name, key, end string) operation {
	return operation{name, func(ctx context.Context, s *mvcc.Store) error {
		_, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte(key), End: []byte(end), PrevKV: true})
		return err
	}}
}

// Keys of the test: d is the one that is damaged, a and z lie about it, b is put by transactions that meet the damage.
const (
	damagedKey = "d"
	bigValue   = "a value that does not fit into the idx row of any variant: 0123456789 0123456789 0123456789"
	oldLease   = 7
)

// touching are the requests that need the row of key d, changed those of them that have changed something before they
// find out.
func touching() (all []operation) {
	d := []byte(damagedKey)
	putB := mvcc.Op{Put: &mvcc.PutRequest{Key: []byte("b"), Value: []byte("wrong")}}
	return []operation{
		range1("get", mvcc.RangeRequest{Key: d}),
		range1("list", mvcc.RangeRequest{Key: []byte("a"), End: []byte("z")}),
		range1("list backwards", mvcc.RangeRequest{Key: []byte("a"), End: []byte{0}, Order: mvcc.SortDescend}),
		range1("count", mvcc.RangeRequest{Key: []byte("a"), End: []byte("z"), CountOnly: true}),
		range1("page", mvcc.RangeRequest{Key: []byte("a"), End: []byte{0}, Limit: 1}),
		put1(damagedKey),
		delete1("delete", damagedKey, ""),
		delete1("delete range", "a", "z"),
		txn1("compare", mvcc.TxnRequest{Compares: []mvcc.Compare{{Key: d, Target: mvcc.CompareVersion, Result: mvcc.Greater}}, Success: []mvcc.Op{putB}, Failure: []mvcc.Op{putB}}),
		txn1("compare of a range", mvcc.TxnRequest{Compares: []mvcc.Compare{{Key: []byte("c"), End: []byte("e"), Target: mvcc.CompareMod, Result: mvcc.Greater}}, Success: []mvcc.Op{putB}, Failure: []mvcc.Op{putB}}),
		txn1("put in a transaction",
			mvcc.TxnRequest{Success: []mvcc.Op{putB, {Put: &mvcc.PutRequest{Key: d, Value: []byte("v")}}}}),
		txn1("delete in a transaction", mvcc.TxnRequest{Success: []mvcc.Op{putB, {Delete: &mvcc.DeleteRequest{Key: []byte("c"), End: []byte("e")}}}}),
		txn1("range after a put", mvcc.TxnRequest{Success: []mvcc.Op{putB, {Range: &mvcc.RangeRequest{Key: []byte("c"), End: []byte("e")}}}}),
		txn1("nested", mvcc.TxnRequest{Success: []mvcc.Op{putB, {Txn: &mvcc.TxnRequest{Success: []mvcc.Op{{Range: &mvcc.RangeRequest{Key: d}}}}}}}),
		txn1("transaction of reads", mvcc.TxnRequest{Success: []mvcc.Op{{Range: &mvcc.RangeRequest{Key: d}}}}),
		{"revoke", func(ctx context.Context, s *mvcc.Store) error {
			_, err := s.LeaseRevoke(ctx, oldLease, nil)
			return err
		}},
		{"hash", func(ctx context.Context, s *mvcc.Store) error { _, _, _, _, err := s.HashKV(ctx, 0); return err }},
	}
}

// sound are requests that have nothing to do with it.
func sound(i int) []operation {
	return []operation{
		put1("a"), put1(fmt.Sprintf("z%d", i)), delete1("delete of z", "z", ""),
		range1("get a", mvcc.RangeRequest{Key: []byte("a")}),
		range1("list from z", mvcc.RangeRequest{Key: []byte("z"), End: []byte{0}}),
		txn1("transaction on a and z", mvcc.TxnRequest{
			Compares: []mvcc.Compare{{Key: []byte("a"), Target: mvcc.CompareVersion, Result: mvcc.Greater}},
			Success:  []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("y"), Value: []byte("v")}}},
		}),
		{"grant", func(ctx context.Context, s *mvcc.Store) error {
			_, err := s.LeaseGrant(ctx, int64(1000+i), 60, nil)
			return err
		}},
		{"head", func(ctx context.Context, s *mvcc.Store) error { _, err := s.Head(ctx); return err }},
	}
}

// fillDamaged puts keys, one of them with a lease, and one version of each before.
func fillDamaged(t *testing.T, s *mvcc.Store) (before int64) {
	t.Helper()
	if _, err := s.LeaseGrant(t.Context(), oldLease, 60, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		before, _ = s.Head(t.Context())
		for _, key := range []string{"a", "b", damagedKey, "z"} {
			p := &mvcc.PutRequest{Key: []byte(key), Value: []byte(bigValue)}
			if key == damagedKey {
				p.Lease = oldLease
			}
			if _, err := s.Put(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	return before
}

func wantDamage(t *testing.T, what string, err error) {
	t.Helper()
	var d *mvcc.Damage
	if !errors.Is(err, mvcc.ErrCorrupt) || !errors.As(err, &d) || d.What == "" || errors.Is(err, mvcc.ErrUnavailable) {
		t.Errorf("%s: %v", what, err)
	}
}

// TestDamagedRow: a request that needs a damaged row fails with ErrCorrupt at once, whatever it is, and changes
// nothing; all others succeed.
func TestDamagedRow(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) {
			s := openDamaged(t, v)
			fillDamaged(t, s.Store)
			_, info := collect(t, s.Store, &mvcc.RangeRequest{Key: []byte("b")})
			s.damage('i', damagedKey)
			for i, op := range touching() {
				reports, begins := s.reports.Load(), s.begins.Load()
				wantDamage(t, op.name, op.run(t.Context(), s.Store))
				if s.reports.Load() == reports {
					t.Errorf("%s: nobody was told", op.name)
				}
				// One transaction, one more where it has changed its group, one where the first began
				// on a recent state, and one where it went to the heavy lane.
				if n := s.begins.Load() - begins; n > 4 {
					t.Errorf("%s took %d transactions", op.name, n)
				}
				for _, op := range sound(i) {
					if err := op.run(t.Context(), s.Store); err != nil {
						t.Errorf("%s: %v", op.name, err)
					}
				}
			}
			if kvs, _ := collect(t, s.Store, &mvcc.RangeRequest{Key: []byte("b")}); len(kvs) != 1 ||
				kvs[0].Mod > info.Rev {
				t.Errorf("a request that failed has put %v", kvs)
			}
			if _, err := s.LeaseGrant(t.Context(), oldLease, 60, nil); !errors.Is(err, mvcc.ErrLeaseExists) {
				t.Errorf("the lease that could not be revoked: %v", err)
			}
			s.e.Mend()
			if kvs := everything(t, s.Store); len(kvs) == 0 {
				t.Error("nothing is left")
			}
			check(t, s.e, s.Store, v.store.Prefix, false)
		})
	}
}

// TestDamageInGroup: in a group with sound requests those that are hit are left out, and the others carried out, with
// a bounded number of further transactions.
func TestDamageInGroup(t *testing.T) {
	for _, v := range []variant{
		{"dense", pebble.Options{}, mvcc.Options{}},
		{"fdb", pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true}, mvcc.Options{Shift: 5, InlineBytes: 8, ChunkBytes: 64}},
	} {
		t.Run(v.name, func(t *testing.T) {
			s := openDamaged(t, v)
			fillDamaged(t, s.Store)
			s.damage('i', damagedKey)
			gate := make(chan struct{})
			s.hold.Store(&gate)
			begun := s.begins.Load()
			var wg sync.WaitGroup
			wg.Go(func() { _ = put1("first").run(t.Context(), s.Store) }) // keeps the lane busy
			for s.begins.Load() == begun {
				runtime.Gosched()
			}
			var poison []operation
			for _, op := range touching() {
				if op.name != "hash" && op.name != "transaction of reads" && !strings.HasPrefix(op.name, "list") &&
					op.name != "get" && op.name != "count" && op.name != "page" {
					poison = append(poison, op)
				}
			}
			queued := 0
			enqueue := func(f func()) {
				queued++
				wg.Go(f)
				for s.Waiting() < queued {
					runtime.Gosched()
				}
			}
			for i, op := range poison {
				enqueue(func() { wantDamage(t, op.name, op.run(t.Context(), s.Store)) })
				enqueue(func() {
					if err := put1(fmt.Sprintf("good%d", i)).run(t.Context(), s.Store); err != nil {
						t.Errorf("put %d: %v", i, err)
					}
				})
			}
			before := s.begins.Load()
			s.hold.Store(nil)
			close(gate)
			wg.Wait()
			if n := s.begins.Load() - before; n > int64(2*len(poison)+8) {
				t.Errorf("%d requests that were hit took %d transactions", len(poison), n)
			} else {
				t.Logf("%d hit, %d transactions", len(poison), n)
			}
			s.e.Mend()
			kvs, _ := collect(t, s.Store, &mvcc.RangeRequest{Key: []byte("good"), End: []byte("gooe")})
			if len(kvs) != len(poison) {
				t.Errorf("%d of %d puts are there", len(kvs), len(poison))
			}
			check(t, s.e, s.Store, v.store.Prefix, false)
		})
	}
}

// TestDamagedTables: what each other kind of row is needed for, and nothing else, fails.
func TestDamagedTables(t *testing.T) {
	d := []byte(damagedKey)
	lease := string(binary.BigEndian.AppendUint64(nil, oldLease))
	leaseKeys := operation{"keys of the lease", func(ctx context.Context, s *mvcc.Store) error {
		_, _, err := s.LeaseKeys(ctx, oldLease)
		return err
	}}
	revoke := operation{"revoke", func(ctx context.Context, s *mvcc.Store) error {
		_, err := s.LeaseRevoke(ctx, oldLease, nil)
		return err
	}}
	for _, v := range variants() {
		for _, c := range []struct {
			table byte
			rest  string
			fails func(before int64) []operation
			fine  func(before int64) []operation
		}{
			{'v', damagedKey, func(int64) []operation {
				return []operation{
					range1("get", mvcc.RangeRequest{Key: d}),
					range1("list", mvcc.RangeRequest{Key: []byte("a"), End: []byte("z")}),
				}
			}, func(int64) []operation {
				return []operation{range1("keys",
					mvcc.RangeRequest{Key: []byte("a"), End: []byte("z"), KeysOnly: true})}
			}},
			{'h', damagedKey, func(before int64) []operation {
				return []operation{
					range1("old get", mvcc.RangeRequest{Key: d, Rev: before}),
					range1("old list", mvcc.RangeRequest{Key: []byte("a"), End: []byte("z"), Rev: before}),
				}
			}, func(before int64) []operation {
				return []operation{
					range1("get", mvcc.RangeRequest{Key: d}),
					range1("old get of a", mvcc.RangeRequest{Key: []byte("a"), Rev: before}),
				}
			}},
			{'k', lease, func(int64) []operation { return []operation{leaseKeys, revoke} }, func(int64) []operation { return []operation{put1(damagedKey)} }},
			{'e', lease, func(int64) []operation {
				return []operation{revoke, {"leases", func(ctx context.Context, s *mvcc.Store) error {
					return s.Leases(ctx, func(int64, int64) error { return nil })
				}}, {"put with the lease", func(ctx context.Context, s *mvcc.Store) error {
					_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte("a"), Lease: oldLease})
					return err
				}}}
			}, func(int64) []operation { return []operation{leaseKeys} }},
		} {
			t.Run(fmt.Sprintf("%s/%c", v.name, c.table), func(t *testing.T) {
				if c.table == 'v' && v.store.InlineBytes == 0 {
					v.store.InlineBytes = 8
				}
				s := openDamaged(t, v)
				before := fillDamaged(t, s.Store)
				s.damage(c.table, c.rest)
				for _, op := range c.fails(before) {
					wantDamage(t, op.name, op.run(t.Context(), s.Store))
				}
				if s.reports.Load() == 0 {
					t.Error("nobody was told")
				}
				for _, op := range append(sound(1), c.fine(before)...) {
					if err := op.run(t.Context(), s.Store); err != nil {
						t.Errorf("%s: %v", op.name, err)
					}
				}
			})
		}
	}
}

// TestDamagedLog: history up to the damage is read; at the damage ReadLog fails; behind it history is read again. A
// removal that meets it says so to who waits for it, and stops nobody.
func TestDamagedLog(t *testing.T) {
	v := variants()[0]
	s := openDamaged(t, v)
	fillDamaged(t, s.Store)
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := head - 3
	s.damage('l', string(engine.Stamp{Version: uint64(at)}.Append(nil)))
	entries, next, err := s.ReadLog(t.Context(), 2, 100, 1<<20)
	if err != nil || next != at || len(entries) != int(at-2) {
		t.Errorf("before: %d entries, next %d: %v", len(entries), next, err)
	}
	_, _, err = s.ReadLog(t.Context(), at, 100, 1<<20)
	wantDamage(t, "at the damage", err)
	if entries, _, err = s.ReadLog(t.Context(), at+1, 100, 1<<20); err != nil || len(entries) != 3 {
		t.Errorf("behind: %d entries: %v", len(entries), err)
	}
	_, err = s.Compact(t.Context(), head, true)
	wantDamage(t, "physical compaction", err)
	if s.CompactRevision() != head {
		t.Errorf("compacted at %d", s.CompactRevision())
	}
	for _, op := range sound(1) {
		if err := op.run(t.Context(), s.Store); err != nil {
			t.Errorf("%s: %v", op.name, err)
		}
	}
}

// TestDamageText: the error names what was asked for and the file.
func TestDamageText(t *testing.T) {
	s := openDamaged(t, variants()[0])
	fillDamaged(t, s.Store)
	s.damage('i', damagedKey)
	err := put1(damagedKey).run(t.Context(), s.Store)
	var d *mvcc.Damage
	if !errors.As(err, &d) || d.What != `key "d"` || d.File() != faults.DamagedFile {
		t.Errorf("%v: %+v", err, d)
	}
}
