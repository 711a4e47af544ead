package lease

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// isClosed says that nobody who waits for a channel waits any longer.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestEndsOfStates: whoever waits for the end of a lease's state is woken by each way in which it ends, and what was
// replaced or revoked is gone.
func TestEndsOfStates(t *testing.T) {
	const now = instant(100)
	for name, c := range map[string]struct {
		end  func(table *table, e *entry)
		gone bool
	}{
		"release": {func(table *table, e *entry) { table.release(e, now+1) }, false},
		"revoke":  {func(table *table, e *entry) { table.release(e, gone) }, true},
		"replace": {func(table *table, e *entry) { table.replace(e, 20, now+1) }, true},
		"shelve":  {func(table *table, e *entry) { table.shelve(e, now+1) }, false},
	} {
		table := newTable(fullBits)
		table.load([]*entry{newEntry(7, 10)}, 0, 0)
		e, prior, _ := table.latch(7, 10)
		if e == nil || prior == gone {
			t.Fatal("the lease is not there")
		}
		waited, ended, first := table.wait(7, now)
		if waited != e || ended == nil || first {
			t.Fatalf("%s: %p, %v, %v: another one's operation is under way, and the queue is as it was",
				name, waited, ended, first)
		}
		c.end(table, e)
		if !isClosed(ended) {
			t.Errorf("%s: who waited for the end still waits", name)
		}
		if e.gone() != c.gone {
			t.Errorf("%s: gone is %v", name, e.gone())
		}
	}
}

// TestNothingToWaitFor: of a lease that is not there, or is good, no end is to be waited for.
func TestNothingToWaitFor(t *testing.T) {
	table := newTable(fullBits)
	table.load([]*entry{newEntry(7, 10)}, 0, 0)
	for _, id := range []int64{7, 8} {
		if e, ended, first := table.wait(id, 1); e != nil || ended != nil || first {
			t.Errorf("lease %d: %v, %v, %v", id, e, ended, first)
		}
	}
}

// TestPoppedWhileLatched: a lease that an operation latches between its being popped and its being looked at is that
// operation's.
func TestPoppedWhileLatched(t *testing.T) {
	table := newTable(fullBits)
	table.load([]*entry{newEntry(7, 10)}, 0, 0)
	late := instant(11 * time.Second)
	popped, _ := table.queue.pop(late)
	e, _, _ := table.latch(7, 10)
	if popped == nil || e != popped {
		t.Fatal("not popped")
	}
	if table.due(popped, late) {
		t.Error("it expires in the middle of another operation")
	}
	table.release(e, gone)
}

// TestRetriesBackOff: a lease that cannot be revoked is tried again after pauses that double, and each is counted.
func TestRetriesBackOff(t *testing.T) {
	bubble(t, func(t *testing.T, s *fakeStore, k *Keeper) {
		var tries []time.Time
		s.setFail(func(op string, _ int64) (error, bool) {
			if op == "revoke" {
				tries = append(tries, time.Now())
				return fmt.Errorf("%w", errDown), false
			}
			return nil, true
		})
		grant(t, k, 1, 10)
		time.Sleep(time.Minute)
		s.setFail(nil)
		time.Sleep(2 * retryMax)
		synctest.Wait()
		if len(tries) < 12 {
			t.Fatalf("%d tries in a minute", len(tries))
		}
		for i := range tries[1:] {
			// A pause of the whole loop may come on top.
			pause, d := tries[i+1].Sub(tries[i]), min(retryMin<<i, retryMax)
			if pause < d/2 || pause > d+pauseMax {
				t.Errorf("pause %d is %v, want %v or somewhat less", i, pause, d)
			}
		}
		if st := k.Stats(); st.Retries != uint64(len(tries)) || s.has(1) {
			t.Errorf("%d retries are counted of %d; the lease is there: %v", st.Retries, len(tries), s.has(1))
		}
	})
}

// TestDamageIsCounted: a lease that cannot be revoked because of damage counts as tried in vain each time.
func TestDamageIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T, s *fakeStore, k *Keeper) {
		s.setFail(func(op string, _ int64) (error, bool) {
			if op == "revoke" {
				return mvcc.ErrCorrupt, false
			}
			return nil, true
		})
		grant(t, k, 1, 10)
		time.Sleep(11*time.Second + damagedRetry)
		synctest.Wait()
		if n := k.Stats().Retries; n != 2 {
			t.Errorf("%d tries are counted, want 2", n)
		}
	})
}

// TestShelvedIsListed: the state of a lease that is shelved is known: it has expired.
func TestShelvedIsListed(t *testing.T) {
	table := newTable(fullBits)
	table.load([]*entry{newEntry(7, 10)}, 0, 0)
	e, _, _ := table.latch(7, 10)
	if known, busy := table.list(); len(known) != 0 || len(busy) != 1 {
		t.Errorf("%v, %v: an operation is under way", known, busy)
	}
	table.shelve(e, 100)
	if known, busy := table.list(); len(known) != 1 || known[0].deadline != shelved || len(busy) != 0 {
		t.Errorf("%v, %v: it is shelved", known, busy)
	}
}

// TestQueueMoves: an entry that is queued again moves, to the front and to the back.
func TestQueueMoves(t *testing.T) {
	var q queue
	entries := make([]*entry, 3)
	for i := range entries {
		entries[i] = newEntry(int64(i), 1)
		q.put(entries[i], instant(10*(i+1)))
	}
	if !q.put(entries[2], 5) {
		t.Error("it is due before all others, and not the first")
	}
	if q.put(entries[2], 15) {
		t.Error("it is due after another, and the first")
	}
	var order []int64
	for e, _ := q.pop(100); e != nil; e, _ = q.pop(100) {
		order = append(order, e.id)
	}
	if diff := cmp.Diff([]int64{0, 2, 1}, order); diff != "" {
		t.Error(diff)
	}
}
