package mvcc_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

func budgets() []budget {
	var b []budget
	for _, part := range [][]budget{
		putBudgets(), txnBudgets(), deleteBudgets(), leaseBudgets(),
		readBudgets(), listBudgets(), oldListBudgets(), countBudgets(), logBudgets(), authBudgets(),
	} {
		b = append(b, part...)
	}
	return b
}

// sizes are both kinds of value.
var sizes = []struct {
	name  string
	bytes int
}{{"small", small}, {"large", large}}

func putBudgets() (b []budget) {
	k := key("a", 0)
	b = append(b,
		budget{
			"Put of a new key", 5, 3, nil,
			func(f *far) { f.put(mvcc.PutRequest{Key: k, Value: make([]byte, large)}) },
		},
		budget{
			"Put with a lease", 5, 3, func(f *far) { f.grant(1) },
			func(f *far) { f.put(mvcc.PutRequest{Key: k, Lease: 1}) },
		},
	)
	for _, size := range sizes {
		one := func(f *far) { f.fill("a", 1, size.bytes, 0) }
		extra := int64(0) // the old value's
		if size.bytes == large {
			extra = 1
		}
		b = append(b,
			budget{"Put over a " + size.name + " value", 5, 3, one, func(f *far) { f.put(mvcc.PutRequest{Key: k}) }},
			budget{
				"Put over a " + size.name + " value, prev_kv", 5 + extra, 3 + extra, one,
				func(f *far) { f.put(mvcc.PutRequest{Key: k, PrevKV: true}) },
			},
			budget{
				"Put over a " + size.name + " value, ignore_value", 5 + extra, 3 + extra, one,
				func(f *far) { f.put(mvcc.PutRequest{Key: k, IgnoreValue: true}) },
			},
		)
	}
	return b
}

// authBudgets are operations of clients in a keyspace with users and roles: the row that says how new these are is read
// beside what is read anyway.
func authBudgets() []budget {
	k := key("a", 0)
	prepare := func(f *far) {
		f.fill("a", 1, small, 0)
		f.grant(1)
		bump(f, f.Store, mvcc.AuthRow{Key: []byte("rr"), Value: []byte{}})
	}
	root := func(f *far) *mvcc.Access { return &mvcc.Access{Number: f.AuthNumber()} }
	other := func(f *far) *mvcc.Access {
		return &mvcc.Access{Number: f.AuthNumber(), MayWrite: func([]byte) bool { return true }}
	}
	return []budget{
		{"with users: Put", 5, 3, prepare, func(f *far) { f.put(mvcc.PutRequest{Key: k, Access: other(f)}) }},
		{
			"with users: Put with a lease, root's", 5, 3, prepare,
			func(f *far) { f.put(mvcc.PutRequest{Key: k, Lease: 1, Access: root(f)}) },
		},
		{
			"with users: Put with a lease", 6, 4, prepare,
			func(f *far) { f.put(mvcc.PutRequest{Key: k, Lease: 1, Access: other(f)}) },
		},
		{
			"with users: Range of one key", 4, 2, prepare,
			func(f *far) { f.list(1, mvcc.RangeRequest{Key: k, Access: other(f)}) },
		},
		{
			"with users: Range of many keys", 4, 4, prepare,
			func(f *far) { f.list(2, mvcc.RangeRequest{Key: k, End: []byte{0}, Access: other(f)}) },
		},
		{"with users: Head (watch create, progress)", 4, 2, prepare, func(f *far) { f.head() }},
		{
			"a change of users and roles", 5, 5, prepare,
			func(f *far) { bump(f, f.Store, mvcc.AuthRow{Key: []byte("rr"), Value: []byte{}}) },
		},
	}
}

func txnBudgets() (b []budget) {
	const n = 100
	k := key("a", 0)
	createOp := &mvcc.TxnRequest{
		Compares: []mvcc.Compare{modIs(k, 0)},
		Success:  []mvcc.Op{putOp(k, large)}, Failure: []mvcc.Op{getOp(k)},
	}
	b = append(b, budget{"Txn: create", 5, 3, nil, func(f *far) { f.txn(createOp) }})
	begin, end := all("a")
	for _, size := range sizes {
		extra := int64(0)
		if size.bytes == large {
			extra = 1
		}
		fill := func(f *far) { f.fill("a", n, size.bytes, 0) }
		add := func(name string, trips, serial int64, do func(f *far)) {
			b = append(b, budget{"Txn, " + size.name + " values: " + name, trips, serial, fill, do})
		}
		add("compare holds, put", 5, 3, func(f *far) {
			t := &mvcc.TxnRequest{Compares: []mvcc.Compare{valueIs(k, size.bytes)}, Success: []mvcc.Op{putOp(k, large)}}
			t.Compares[0].Target, t.Compares[0].Int = mvcc.CompareVersion, 1
			f.txn(t)
		})
		add("compare fails, get", 4+extra, 2+extra, func(f *far) { f.txn(createOp) })
		add("100 compares of values, 100 puts", 5+extra, 3+extra, func(f *far) {
			t := &mvcc.TxnRequest{Success: many(n, func(i int) mvcc.Op { return putOp(key("a", i), large) })}
			for i := range n {
				t.Compares = append(t.Compares, valueIs(key("a", i), size.bytes))
			}
			if !f.txn(t).Succeeded {
				f.Error("the compares do not hold")
			}
		})
		add("a compare of the values of 100 keys, put", 8, 6, func(f *far) {
			t := &mvcc.TxnRequest{
				Compares: []mvcc.Compare{valueIs(begin, size.bytes)}, Success: []mvcc.Op{putOp(k, large)},
			}
			t.Compares[0].End = end
			if !f.txn(t).Succeeded {
				f.Error("the compare does not hold")
			}
		})
		add("100 gets, put", 5+extra, 3+extra, func(f *far) {
			f.txn(&mvcc.TxnRequest{Success: append(many(n, func(i int) mvcc.Op {
				return getOp(key("a", i))
			}), putOp(k, 1))})
		})
		add("100 puts with prev_kv", 5+extra, 3+extra, func(f *far) {
			f.txn(&mvcc.TxnRequest{Success: many(n, func(i int) mvcc.Op {
				return mvcc.Op{Put: &mvcc.PutRequest{Key: key("a", i), PrevKV: true}}
			})})
		})
		add("100 deletes with prev_kv", 5+extra, 3+extra, func(f *far) {
			f.txn(&mvcc.TxnRequest{Success: many(n, func(i int) mvcc.Op {
				return mvcc.Op{Delete: &mvcc.DeleteRequest{Key: key("a", i), PrevKV: true}}
			})})
		})
		add("a range of 100 keys, put", 8, 6, func(f *far) {
			f.txn(&mvcc.TxnRequest{Success: []mvcc.Op{
				{Range: &mvcc.RangeRequest{Key: begin, End: end}}, putOp(key("b", 0), 1),
			}})
		})
		add("100 nested compares of a value, gets and puts", 5+extra, 3+extra, func(f *far) {
			f.txn(&mvcc.TxnRequest{Success: many(n, func(i int) mvcc.Op {
				in := key("a", i)
				return mvcc.Op{Txn: &mvcc.TxnRequest{
					Compares: []mvcc.Compare{valueIs(in, size.bytes)}, Success: []mvcc.Op{getOp(in), putOp(in, large)},
				}}
			})})
		})
		add("reads only: 100 compares of values, 100 gets", 3+extra, 3+extra, func(f *far) {
			t := &mvcc.TxnRequest{Success: many(n, func(i int) mvcc.Op { return getOp(key("a", i)) })}
			for i := range n {
				t.Compares = append(t.Compares, valueIs(key("a", i), size.bytes))
			}
			f.txn(t)
		})
	}
	b = append(b, budget{"Txn: 100 puts with 100 leases", 5, 3, func(f *far) {
		for i := range n {
			f.grant(int64(i + 1))
		}
	}, func(f *far) {
		f.txn(&mvcc.TxnRequest{Success: many(n, func(i int) mvcc.Op {
			return mvcc.Op{Put: &mvcc.PutRequest{Key: key("a", i), Lease: int64(i + 1)}}
		})})
	}})
	return b
}

func deleteBudgets() (b []budget) {
	for _, size := range sizes {
		for _, n := range []int{1, 1000, 10_000} {
			begin, end := all("a")
			fill := func(f *far) { f.fill("a", n, size.bytes, 0) }
			pages := map[int]int64{1: 1, 1000: 6, 10_000: 12}[n] // of the rows, whose values lie elsewhere
			if size.bytes == small {
				pages = map[int]int64{1: 1, 1000: 8, 10_000: 20}[n]
			}
			name := fmt.Sprintf("DeleteRange of %d %s values", n, size.name)
			b = append(b, budget{name, 4 + pages, 3 + pages, fill, func(f *far) {
				f.del(int64(n), mvcc.DeleteRequest{Key: begin, End: end})
			}})
			if n <= 1000 {
				extra := int64(0)
				if size.bytes == large {
					extra = 1
				}
				b = append(b, budget{name + ", prev_kv", 4 + pages + extra, 3 + pages + extra, fill, func(f *far) {
					f.del(int64(n), mvcc.DeleteRequest{Key: begin, End: end, PrevKV: true})
				}})
			}
		}
		b = append(b, budget{
			"DeleteRange of one key, " + size.name, 5, 3, func(f *far) { f.fill("a", 1, size.bytes, 0) },
			func(f *far) { f.del(1, mvcc.DeleteRequest{Key: key("a", 0)}) },
		})
	}
	return b
}

func leaseBudgets() (b []budget) {
	b = append(b, budget{"LeaseGrant", 5, 3, nil, func(f *far) { f.grant(7) }})
	for _, size := range sizes {
		all, serial := int64(55), int64(16) // the values lie in the rows that are read beside each other
		if size.bytes == large {
			all, serial = 36, 15
		}
		b = append(b, budget{"LeaseRevoke with 10,000 " + size.name + " values", all, serial, func(f *far) {
			f.grant(7)
			f.fill("a", 10_000, size.bytes, 7)
		}, func(f *far) { f.revoke(7) }})
	}
	leased := func(f *far) {
		f.grant(7)
		f.fill("a", 10_000, small, 7)
	}
	b = append(b,
		budget{"LeaseRevoke without keys", 6, 4, func(f *far) { f.grant(7) }, func(f *far) { f.revoke(7) }},
		budget{"LeaseTimeToLive with 10,000 keys", 13, 13, leased, func(f *far) {
			keys, _, err := f.LeaseKeys(context.Background(), 7)
			f.must(err)
			if len(keys) != 10_000 {
				f.Errorf("%d keys", len(keys))
			}
		}},
		budget{"Head (watch create, progress)", 3, 2, nil, func(f *far) { f.head() }},
	)
	return b
}

func readBudgets() (b []budget) {
	k := key("a", 0)
	b = append(b, budget{"Range of a key that is not there", 3, 2, nil, func(f *far) {
		f.list(0, mvcc.RangeRequest{Key: k})
	}})
	for _, size := range sizes {
		extra := int64(0)
		if size.bytes == large {
			extra = 1
		}
		one := func(f *far) { f.fill("a", 1, size.bytes, 0) }
		var rev int64
		replaced := func(f *far) {
			one(f)
			rev = f.head()
			f.put(mvcc.PutRequest{Key: k})
		}
		b = append(b,
			budget{"Range of one key, " + size.name, 3 + extra, 2 + extra, one, func(f *far) { f.list(1, mvcc.RangeRequest{Key: k}) }},
			budget{
				"Range of one key at an old revision, " + size.name, 5, 5, replaced,
				func(f *far) { f.list(1, mvcc.RangeRequest{Key: k, Rev: rev}) },
			},
		)
	}
	return b
}

func listBudgets() (b []budget) {
	begin, end := all("a")
	for _, size := range sizes {
		fill := func(f *far) { f.fill("a", 10_000, size.bytes, 0) }
		whole, serial, further := int64(22), int64(22), int64(10) // the values lie in the rows
		counted, countSerial, first500, firstSerial := int64(16), int64(13), int64(22), int64(19)
		if size.bytes == large { // fewer pages of rows, and one of values for 256 keys
			whole, serial, further = 54, 45, 10
			counted, countSerial, first500, firstSerial = 13, 10, 20, 16
		}
		var next []byte
		first := func(f *far) {
			kvs := f.list(500, mvcc.RangeRequest{Key: begin, End: end, Limit: 500})
			next = append(slices.Clip(kvs[499].Key), 0)
		}
		b = append(b,
			budget{"Range of 10,000 keys, " + size.name, whole, serial, fill, func(f *far) { f.list(10_000, mvcc.RangeRequest{Key: begin, End: end}) }},
			budget{
				"Range of 10,000 keys, count_only, " + size.name, counted, countSerial, fill,
				func(f *far) { f.list(0, mvcc.RangeRequest{Key: begin, End: end, CountOnly: true}) },
			},
			budget{"Range of 10,000 keys, sorted by value, " + size.name, whole, serial, fill, func(f *far) {
				f.list(10, mvcc.RangeRequest{
					Key: begin, End: end, Limit: 10, Target: mvcc.SortByValue, Order: mvcc.SortDescend,
				})
			}},
			budget{"the first page of 500 of 10,000 keys, " + size.name, first500, firstSerial, fill, first},
		)
		var rev int64
		b = append(b, budget{"a further page of 500, " + size.name, further, further, func(f *far) {
			fill(f)
			rev = f.head()
			first(f)
		}, func(f *far) { f.list(500, mvcc.RangeRequest{Key: next, End: end, Limit: 500, Rev: rev}) }})
	}
	return b
}

// countBudgets are those of counts where the count index is kept: they do not grow with the keys.
func countBudgets() (b []budget) {
	begin, end := all("a")
	for _, size := range sizes {
		var rev int64
		kept := func(f *far) {
			f.fill("a", 10_000, size.bytes, 0)
			f.keepBuckets()
			rev = f.head()
			for i := range 100 {
				f.put(mvcc.PutRequest{Key: key("a", 10_000+i), Value: make([]byte, size.bytes)})
			}
		}
		count := func(n int64, r mvcc.RangeRequest) func(f *far) {
			return func(f *far) {
				r.Key, r.End = begin, end
				if r.Rev != 0 {
					r.Rev = rev
				}
				if _, info := collect(f, f.Store, &r); info.Count != n {
					f.Errorf("%d keys, want %d", info.Count, n)
				}
			}
		}
		pages := map[string]int64{"small": 4, "large": 0}[size.name] // of two buckets' keys beside each other
		b = append(b,
			budget{
				"Range of 10,100 keys, count_only, counted, " + size.name, 13 + pages, 7 + pages/2, kept,
				count(10_100, mvcc.RangeRequest{CountOnly: true}),
			},
			budget{
				"the first page of 500 of 10,100 keys, counted, " + size.name, 13, 10, kept,
				count(10_100, mvcc.RangeRequest{Limit: 500}),
			},
			budget{
				"Range of 10,000 keys at an old revision, count_only, counted, " + size.name, 15 + pages,
				9 + pages/2, kept,
				count(10_000, mvcc.RangeRequest{CountOnly: true, Rev: 1}),
			},
			budget{"Txn: a count of 10,100 keys, put, " + size.name, 16 + pages, 8 + pages/2, kept, func(f *far) {
				n := f.txn(&mvcc.TxnRequest{Success: []mvcc.Op{
					{Range: &mvcc.RangeRequest{Key: begin, End: end, CountOnly: true}}, putOp(key("b", 0), 1),
				}}).Ops[0].Count
				if n != 10_100 {
					f.Errorf("%d keys", n)
				}
			}},
		)
	}
	return b
}

// oldListBudgets are those of lists at a revision that has been left behind: everything in it has been changed since,
// by as many requests.
func oldListBudgets() (b []budget) {
	begin, end := all("a")
	const n = 1000
	for _, size := range sizes {
		var rev int64
		changed := func(f *far) {
			f.fill("a", n, size.bytes, 0)
			rev = f.head()
		}
		for _, by := range []struct {
			name   string
			change func(f *far)
		}{
			{"1,000 puts", func(f *far) {
				for i := range n {
					f.put(mvcc.PutRequest{Key: key("a", i)})
				}
			}},
			{"one delete", func(f *far) { f.del(n, mvcc.DeleteRequest{Key: begin, End: end}) }},
		} {
			b = append(b, budget{
				fmt.Sprintf("Range of 1,000 keys before %s, %s", by.name, size.name), 21, 12,
				func(f *far) {
					changed(f)
					by.change(f)
				}, func(f *far) { f.list(n, mvcc.RangeRequest{Key: begin, End: end, Rev: rev}) },
			})
		}
		// The one operation whose budget grows with its parts: each get at an old revision reads for itself, as it
		// does outside a transaction.
		b = append(b, budget{"Txn: 100 gets at an old revision, " + size.name, 203, 203, func(f *far) {
			changed(f)
			f.fill("a", n, size.bytes, 0)
		}, func(f *far) {
			f.txn(&mvcc.TxnRequest{Success: many(100, func(i int) mvcc.Op {
				return mvcc.Op{Range: &mvcc.RangeRequest{Key: key("a", i), Rev: rev}}
			})})
		}})
	}
	return b
}

func logBudgets() (b []budget) {
	var rev int64
	history := func(f *far) {
		rev = f.head()
		for i := range 1000 {
			f.put(mvcc.PutRequest{Key: key("a", i), Value: make([]byte, large)})
		}
	}
	return append(b,
		budget{"Compact", 7, 3, func(f *far) { rev = f.head() }, func(f *far) {
			_, err := f.Compact(context.Background(), rev, false)
			f.must(err)
		}},
		budget{"a watch that begins 1,000 revisions back, with values of 600 bytes", 11, 11, history, func(f *far) {
			entries, _, err := f.ReadLog(context.Background(), rev+1, 1000, 1<<30)
			f.must(err)
			f.must(f.Fill(context.Background(), entries))
		}},
	)
}
