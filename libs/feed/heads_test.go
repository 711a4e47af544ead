package feed

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

// headRows is one shard of heads in a store.
type headRows struct {
	t   *testing.T
	eng *faults.Store
}

var shardRows = ShardRows{Heads: engine.Range{Begin: []byte("h"), End: []byte("i")}, Bell: []byte("b")}

func newHeadRows(t *testing.T) headRows {
	return headRows{t, faults.New(testengine.OpenInBubble(t, 0), faults.Options{Remote: &faults.Remote{}})}
}

// set makes rev the head of a keyspace.
func (r headRows) set(row string, rev uint64) {
	r.t.Helper()
	txn, err := r.eng.Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	v := engine.Stamp{Version: rev}.Append(nil)
	v = append(binary.BigEndian.AppendUint64(v, 0), 0)
	txn.Set([]byte(row), v)
	txn.Add(shardRows.Bell, 1)
	p, err := txn.Commit(r.t.Context())
	if err == nil {
		_, err = p.Wait(r.t.Context())
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestHeads: many who wait for their heads in one shard cost one wait and one read for each ring of its bell; each is
// told of his own only, or by a nudge.
func TestHeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		rows := newHeadRows(t)
		h := NewHeads(rows.eng, []ShardRows{shardRows})
		defer h.Close()
		done := make([]chan error, n)
		logs := make([]*SharedLog, n)
		name := func(i int) string { return "h" + string(rune('A'+i)) }
		for i := range n {
			rows.set(name(i), 1)
			done[i], logs[i] = make(chan error, 1), h.Log(newFakeLog(), 0, []byte(name(i)))
			go func() { done[i] <- logs[i].WaitHead(t.Context(), 2) }()
		}
		synctest.Wait()
		before := rows.eng.Trips()
		rows.set(name(3), 2)
		if err := <-done[3]; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		logs[5].Nudge()
		if err := <-done[5]; err != nil {
			t.Error(err)
		}
		logs[5].Nudge() // while nobody waits
		if err := logs[5].WaitHead(t.Context(), 100); err != nil {
			t.Error(err)
		}
		trips := rows.eng.Trips().Since(before)
		if trips.Total() > 12 { // not 50
			t.Errorf("%v", trips)
		}
		for i := range n {
			if i == 3 || i == 5 {
				continue
			}
			select {
			case err := <-done[i]:
				t.Error(i, err)
			default:
				logs[i].Nudge()
				<-done[i]
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := logs[0].WaitHead(ended, 100); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		rows.set(name(0), 3) // whoever watches goes
		synctest.Wait()
	})
}

// TestHeadsLook: who asks for heads shares reads that begin later than his question, so that none is older; one whose
// row is not there is read where it is.
func TestHeadsLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		rows := newHeadRows(t)
		h := NewHeads(rows.eng, []ShardRows{shardRows})
		defer h.Close()
		own := newFakeLog()
		l, bare := h.Log(own, 0, []byte("hx")), h.Log(own, 0, []byte("hy"))
		head := func(l *SharedLog, want int64) {
			t.Helper()
			if got, err := l.Head(t.Context()); err != nil || got != want {
				t.Errorf("head %d, %v, want %d", got, err, want)
			}
		}
		head(l, 1) // the log's own
		for rev := range uint64(5) {
			rows.set("hx", rev+2)
			head(l, int64(rev+2))
		}
		head(bare, 1)
		head(bare, 1)
		var wg sync.WaitGroup
		before := rows.eng.Trips()
		for range n {
			wg.Go(func() { head(l, 6) })
		}
		wg.Wait()
		if trips := rows.eng.Trips().Since(before); trips.Total() > 4 {
			t.Errorf("%v", trips)
		}
	})
}
