package feed

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestStall: a follower that cannot get what was committed says so after StallAfter and not before, and takes it back.
func TestStall(t *testing.T) {
	for _, down := range []string{"ReadPayloads", "Head"} {
		bubble(t, func(t *testing.T, g *group) {
			log := newFakeLog()
			f, h := start(t, g, log, nil, nil)
			time.Sleep(time.Minute)
			if f.Stalled() || f.Lag() > 2*DefaultCheck {
				t.Errorf("lag %v", f.Lag())
			}
			log.setFail(func(ctx context.Context, call string) error {
				if call == down {
					return errDown
				}
				return nil
			})
			log.commit(1)
			time.Sleep(DefaultStallAfter - DefaultCheck)
			if f.Stalled() {
				t.Errorf("%s: stalled after %v", down, f.Lag())
			}
			time.Sleep(3 * DefaultCheck)
			if !f.Stalled() {
				t.Errorf("%s: lag %v", down, f.Lag())
			}
			log.setFail(nil)
			time.Sleep(3 * DefaultCheck)
			if got := h.stallings(); f.Stalled() || !slices.Equal(got, []bool{true, false}) {
				t.Errorf("%s: lag %v, %v", down, f.Lag(), got)
			}
			h.check(log)
		})
	}
}

// TestFreshness: Lag counts from the start of the read of the head that proves it.
func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f freshness
		f.init()
		sleep := func() (began time.Time) { began = time.Now(); time.Sleep(time.Second); return began }
		lag := func(want time.Duration) {
			t.Helper()
			if got := f.lag(); got != want {
				t.Errorf("lag %v, want %v", got, want)
			}
		}
		f.compare(10, 10, 10, sleep())
		lag(time.Second)
		first := sleep()
		f.compare(20, 10, 19, first) // behind
		lag(2 * time.Second)
		second := sleep()
		f.compare(30, 19, 19, second)
		f.reached(19)
		lag(3 * time.Second)
		f.reached(20) // where the head was when first began
		lag(time.Since(first))
		f.compare(30, 20, 30, sleep()) // it has come there meanwhile
		lag(time.Second)
		if len(f.behind) != 1 || len(f.ahead) != 0 {
			t.Error("behind once, for two checks")
		}
		f.compare(29, 30, 30, sleep())
		if len(f.ahead) != 1 {
			t.Error("ahead")
		}
	})
}

// TestHungLog: the follower gives up calls that do not return.
func TestHungLog(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		f, h := start(t, g, log, nil, nil)
		hang := func(ctx context.Context, call string) error {
			if call == "WaitHead" {
				return nil // at once, for nothing
			}
			<-ctx.Done()
			return ctx.Err()
		}
		log.setFail(hang)
		log.commit(1)
		time.Sleep(DefaultStallAfter + ReadTimeout + DefaultCheck)
		if !f.Stalled() {
			t.Errorf("lag %v", f.Lag())
		}
		log.setFail(nil)
		time.Sleep(ReadTimeout + 3*DefaultCheck)
		if f.Stalled() {
			t.Errorf("lag %v", f.Lag())
		}
		h.check(log)
	})
}

// TestHungRead: entries that have arrived do not wait for a read of missing ones.
func TestHungRead(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		f, h := start(t, g, log, b, nil)
		log.commit(1, 1)
		log.setFail(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
		must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: 1, Upto: 3, Entries: []revlog.Payload{payload(2), {Rev: 3}}}))
		synctest.Wait()
		if f.Position() != 2 {
			t.Errorf("at %d", f.Position())
		}
		log.setFail(nil)
		time.Sleep(ReadTimeout + retryMax)
		h.check(log)
	})
}

// TestStuckTailer: a tailer whose view of the log has stopped goes on sending heartbeats. The follower notices by the
// head.
func TestStuckTailer(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		f, h := start(t, g, log, b, nil)
		g.run(func(ctx context.Context) error {
			for ctx.Err() == nil {
				must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: 1, Upto: 1}))
				time.Sleep(DefaultHeartbeat)
			}
			return nil
		})
		time.Sleep(time.Second)
		head := log.commit(1)
		time.Sleep(3 * DefaultCheck)
		if f.Position() != head {
			t.Errorf("at %d, the head is %d", f.Position(), head)
		}
		h.check(log)
	})
}
