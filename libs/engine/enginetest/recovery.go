package enginetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

// stampOnce commits one stamped row and returns its stamp.
func stampOnce(t *testing.T, s engine.Store) engine.Stamp {
	t.Helper()
	return write(t, s, func(x engine.Txn) {
		x.UseStamps(1)
		x.SetStampedValue([]byte("stamp"), make([]byte, engine.StampLen), 0)
	})
}

func testReopen(t *testing.T, e Engine) {
	if e.Reopen == nil {
		t.Skip("the engine cannot be reopened in a test")
	}
	s := e.Store
	var last engine.Stamp
	for i := range 4 {
		st := stampOnce(t, s)
		if st.Compare(last) <= 0 {
			t.Fatalf("stamp %v after %v", st, last)
		}
		if s.Limits().Dense && st.Version != last.Version+1 {
			t.Fatalf("dense: stamp %v after %v", st, last)
		}
		last = st
		write(t, s, func(x engine.Txn) { x.Set(fmt.Appendf(nil, "r%d", i), bytes.Repeat([]byte{byte(i)}, 1000)) })
		s = e.Reopen(i%2 == 1)
		r := snapshot(t, s)
		wantGet(t, r, "stamp", st.Append(nil))
		for j := range i + 1 {
			wantGet(t, r, fmt.Sprintf("r%d", j), bytes.Repeat([]byte{byte(j)}, 1000))
		}
		r.Close()
	}
}

// crashes is how often testCrash ends the store.
const crashes = 5

// testCrash writes from several goroutines, each transaction a pair of rows and a counter, and crashes in the middle.
func testCrash(t *testing.T, e Engine) {
	if e.Reopen == nil {
		t.Skip("the engine cannot be reopened in a test")
	}
	rnd := newRand(t)
	s := e.Store
	const writers = 4
	acked := make([]uint64, writers)
	var last engine.Stamp
	for range crashes {
		last = crashOnce(t, s, rnd, acked, last)
		s = e.Reopen(true)
		r := snapshot(t, s)
		for w := range acked {
			n := u64(get(t, r, fmt.Sprintf("n/%d", w)))
			if n < acked[w] {
				t.Fatalf("writer %d: %d acknowledged, %d there after the crash", w, acked[w], n)
			}
			wantWhole(t, r, w, n)
			acked[w] = n
		}
		r.Close()
		if st := stampOnce(t, s); st.Compare(last) <= 0 {
			t.Fatalf("stamp %v after the crash, %v before", st, last)
		} else {
			last = st
		}
	}
}

// wantWhole checks that writer w's first n transactions are there whole, and nothing of later ones.
func wantWhole(t *testing.T, r engine.Reader, w int, n uint64) {
	t.Helper()
	for _, side := range []string{"l", "r"} {
		var want []row
		for i := range n {
			want = append(want, row{fmt.Sprintf("%s/%d/%08d", side, w, i+1), payload(i + 1)})
		}
		wantScan(
			t,
			r,
			engine.Range{Begin: fmt.Appendf(nil, "%s/%d/", side, w), End: fmt.Appendf(nil, "%s/%d0", side, w)},
			want...)
	}
}

func payload(i uint64) string { return fmt.Sprintf("%0*d", 10+i%50*20, i) }

// crashOnce lets writers run until one of them has made some commits; commits may then still be under way. It returns
// the newest stamp acknowledged.
func crashOnce(t *testing.T, s engine.Store, rnd *rand.Rand, acked []uint64, last engine.Stamp) engine.Stamp {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	goal := acked[0] + 5 + rnd.Uint64N(30)
	for w := range acked {
		wg.Go(func() {
			defer cancel()
			for n := acked[w] + 1; ctx.Err() == nil && (w > 0 || n <= goal); n++ {
				st, err := writePair(ctx, s, w, n)
				if errors.Is(err, context.Canceled) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[w] = n
				if st.Compare(last) > 0 {
					last = st
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return last
}

func writePair(ctx context.Context, s engine.Store, w int, n uint64) (engine.Stamp, error) {
	x, err := s.Begin(ctx)
	if err != nil {
		return engine.Stamp{}, err
	}
	x.UseStamps(1)
	x.Set(fmt.Appendf(nil, "l/%d/%08d", w, n), []byte(payload(n)))
	x.Set(fmt.Appendf(nil, "n/%d", w), binary.BigEndian.AppendUint64(nil, n))
	x.Set(fmt.Appendf(nil, "r/%d/%08d", w, n), []byte(payload(n)))
	x.SetStampedValue(fmt.Appendf(nil, "s/%d", w), make([]byte, engine.StampLen), 0)
	p, err := x.Commit(ctx)
	if err != nil {
		return engine.Stamp{}, err
	}
	return p.Wait(ctx)
}
