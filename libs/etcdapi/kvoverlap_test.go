package etcdapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestOverlapAgainstPairs compares the check with the plain one below, which looks at every pair, on random
// transactions over few keys.
func TestOverlapAgainstPairs(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	refused := 0
	const txns = 60_000
	for range txns {
		g := txnGenerator{r: r, keys: 2 + r.IntN(40), width: 1 + r.IntN(5)}
		txn := g.txn(r.IntN(5))
		got, want := checkOverlap(t.Context(), txn), naiveOverlap(txn)
		if got != want {
			t.Fatalf("%v, want %v: %s", got, want, show(txn))
		}
		if want != nil {
			refused++
		}
	}
	if refused < txns/10 || refused > txns*9/10 {
		t.Errorf("%d of %d refused: the generator is of no use", refused, txns)
	}
}

type txnGenerator struct {
	r           *rand.Rand
	keys, width int
}

func (g txnGenerator) key() []byte {
	n := g.r.IntN(g.keys)
	k := fmt.Appendf(nil, "k%02d", n/2)
	if n%2 == 1 {
		k = append(k, 0) // the smallest key behind another
	}
	return k
}

func (g txnGenerator) txn(depth int) *mvcc.TxnRequest {
	return &mvcc.TxnRequest{Success: g.ops(depth), Failure: g.ops(depth)}
}

func (g txnGenerator) ops(depth int) (ops []mvcc.Op) {
	for range g.r.IntN(g.width + 1) {
		switch n := g.r.IntN(8); {
		case n < 3 && depth > 0:
			ops = append(ops, mvcc.Op{Txn: g.txn(depth - 1)})
		case n < 6:
			ops = append(ops, mvcc.Op{Put: &mvcc.PutRequest{Key: g.key()}})
		case n < 7:
			ops = append(ops, mvcc.Op{Delete: g.delete()})
		default:
			ops = append(ops, mvcc.Op{Range: &mvcc.RangeRequest{Key: g.key()}})
		}
	}
	return ops
}

func (g txnGenerator) delete() *mvcc.DeleteRequest {
	d := &mvcc.DeleteRequest{Key: g.key()}
	switch g.r.IntN(12) {
	case 0:
		d.End = []byte{0}
	case 1, 2, 3, 4:
		d.End = g.key() // may be empty or inverted
	case 5, 6:
		d.End = append(bytes.Clone(d.Key), 0)
	}
	return d
}

func show(t *mvcc.TxnRequest) string {
	return fmt.Sprintf("{%s | %s}", showOps(t.Success), showOps(t.Failure))
}

func showOps(ops []mvcc.Op) (s string) {
	for i := range ops {
		switch o := &ops[i]; {
		case o.Put != nil:
			s += fmt.Sprintf(" put %q", o.Put.Key)
		case o.Delete != nil:
			s += fmt.Sprintf(" del %q %q", o.Delete.Key, o.Delete.End)
		case o.Txn != nil:
			s += show(o.Txn)
		}
	}
	return s
}

// putsThenDeletes is a transaction whose first half puts keys in nested transactions and whose second deletes others,
// ordered so that no early key decides.
func putsThenDeletes(width, each int) *mvcc.TxnRequest {
	t := &mvcc.TxnRequest{}
	for i := range 2 * width {
		n := &mvcc.TxnRequest{}
		for j := range each {
			if i < width {
				n.Success = append(n.Success, mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "p%d.%d", i, j)}})
			} else {
				n.Success = append(n.Success, mvcc.Op{Delete: &mvcc.DeleteRequest{
					Key: fmt.Appendf(nil, "d%d.%d", i, j), End: fmt.Appendf(nil, "d%d.%d\x00", i, j),
				}})
			}
		}
		t.Success = append(t.Success, mvcc.Op{Txn: n})
	}
	return t
}

// TestOverlapSteps: the work of the check grows as the transaction, and a little more, whatever its shape; it ends
// when the client has gone.
func TestOverlapSteps(t *testing.T) {
	deep := &mvcc.TxnRequest{}
	for i, at := 0, deep; i < 200; i++ {
		next := &mvcc.TxnRequest{}
		for j := range 20 {
			at.Success = append(at.Success, mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "p%d.%d", i, j)}})
			at.Failure = append(at.Failure, mvcc.Op{Delete: &mvcc.DeleteRequest{Key: fmt.Appendf(nil, "d%d.%d", i, j)}})
		}
		at.Success = append(at.Success, mvcc.Op{Txn: next})
		at = next
	}
	for name, txn := range map[string]*mvcc.TxnRequest{"puts before deletes": putsThenDeletes(100, 100), "deep": deep} {
		c := &overlapCheck{ctx: t.Context()}
		if err := c.txn(txn); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		ops := countOps(txn)
		if c.steps > 20*ops {
			t.Errorf("%s: %d steps for %d operations", name, c.steps, ops)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := checkOverlap(ctx, txn); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, without a client: %v", name, err)
		}
	}
}

func countOps(t *mvcc.TxnRequest) int {
	n := len(t.Success) + len(t.Failure)
	for _, ops := range [2][]mvcc.Op{t.Success, t.Failure} {
		for i := range ops {
			if ops[i].Txn != nil {
				n += countOps(ops[i].Txn)
			}
		}
	}
	return n
}

// TestTxnTotal: operations are bounded over all nesting, and so is the nesting; what a path may hold is etcd's bound.
func TestTxnTotal(t *testing.T) {
	put := mvcc.Op{Put: &mvcc.PutRequest{Key: []byte("k")}}
	nest := func(n int, op mvcc.Op) mvcc.Op {
		txn := &mvcc.TxnRequest{}
		for range n {
			txn.Success = append(txn.Success, op)
		}
		return mvcc.Op{Txn: txn}
	}
	chain := func(levels int) mvcc.Op {
		op := put
		for range levels {
			op = nest(1, op)
		}
		return op
	}
	for _, c := range []struct {
		name string
		op   mvcc.Op
		max  int
		want error
	}{
		{"flat", nest(128, put), 128, nil},
		{"flat, one more", nest(129, put), 128, rpctypes.ErrGRPCTooManyOps},
		{"the widest two levels", nest(64, nest(64, put)), 128, nil},
		{"three levels", nest(40, nest(44, nest(44, put))), 128, rpctypes.ErrGRPCTooManyOps},
		{"three levels, more allowed", nest(40, nest(44, nest(44, put))), 2048, nil},
		{"a path of etcd's bound", chain(128), 128, nil},
		{"a path of one more", chain(129), 128, rpctypes.ErrGRPCTooManyOps},
		{"as deep as may be", chain(txnLevelsMax), 1 << 30, nil},
		{"deeper", chain(txnLevelsMax + 1), 1 << 30, rpctypes.ErrGRPCTooManyOps},
	} {
		if got := checkTxn(c.op.Txn, c.max); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func BenchmarkOverlap(b *testing.B) {
	for _, n := range []int{2, 8, 64} {
		txn := putsThenDeletes(n, n)
		b.Run(fmt.Sprint(2*n*n), func(b *testing.B) {
			for b.Loop() {
				if err := checkOverlap(b.Context(), txn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// naiveSet is what a list of operations may put and delete.
type naiveSet struct {
	puts map[string]struct{}
	dels []delRange
}

type delRange struct{ key, end []byte }

func (d delRange) has(key string) bool {
	switch {
	case len(d.end) == 0:
		return string(d.key) == key
	case len(d.end) == 1 && d.end[0] == 0:
		return key >= string(d.key)
	}
	return key >= string(d.key) && key < string(d.end)
}

// naiveOverlap refuses transactions that could put a key twice, or put and delete it, in one branch: with it a key
// changes at most once per revision.
func naiveOverlap(t *mvcc.TxnRequest) error {
	for _, ops := range [2][]mvcc.Op{t.Success, t.Failure} {
		if _, ok := naiveWrites(ops); !ok {
			return rpctypes.ErrGRPCDuplicateKey
		}
	}
	return nil
}

// naiveWrites returns the write set of a list of operations, or false if two of them overlap. The branches of one
// nested transaction exclude each other and may touch the same keys.
func naiveWrites(ops []mvcc.Op) (w naiveSet, ok bool) {
	w.puts = make(map[string]struct{})
	for i := range ops {
		if d := ops[i].Delete; d != nil && (len(d.End) == 0 || len(d.End) == 1 && d.End[0] == 0 ||
			bytes.Compare(d.Key, d.End) < 0) {
			w.dels = append(w.dels, delRange{d.Key, d.End})
		}
	}
	for i := range ops {
		if t := ops[i].Txn; t != nil && !w.addNested(t) {
			return w, false
		}
	}
	for i := range ops {
		if p := ops[i].Put; p != nil {
			if !w.add(string(p.Key), nil) {
				return w, false
			}
		}
	}
	return w, true
}

func (w *naiveSet) addNested(t *mvcc.TxnRequest) bool {
	then, ok := naiveWrites(t.Success)
	if !ok {
		return false
	}
	otherwise, ok := naiveWrites(t.Failure)
	if !ok {
		return false
	}
	// Deletes of keys that an earlier sibling puts: etcd looks the other way round only (v3rpc/key.go checkIntervals)
	// and lets such a key change twice in one revision.
	if w.putWithin(then.dels) || w.putWithin(otherwise.dels) {
		return false
	}
	for k := range then.puts {
		if !w.add(k, nil) {
			return false
		}
	}
	for k := range otherwise.puts {
		if !w.add(k, then.puts) {
			return false
		}
	}
	w.dels = append(append(w.dels, then.dels...), otherwise.dels...)
	return true
}

// putWithin says that one of the puts lies in one of the ranges.
func (w *naiveSet) putWithin(dels []delRange) bool {
	for _, d := range dels {
		for k := range w.puts {
			if d.has(k) {
				return true
			}
		}
	}
	return false
}

// add adds a put; a key that is there already is allowed if it is in except.
func (w *naiveSet) add(key string, except map[string]struct{}) bool {
	if _, dup := w.puts[key]; dup {
		if _, ok := except[key]; !ok {
			return false
		}
	}
	for _, d := range w.dels {
		if d.has(key) {
			return false
		}
	}
	w.puts[key] = struct{}{}
	return true
}
