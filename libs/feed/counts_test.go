package feed

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headwaterdb/headwater/libs/bus"
)

// TestTailerCounts: what the tailer says that it has published is what came.
func TestTailerCounts(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		got := collectFrames(t, b)
		tailer := NewTailer(log, b, TailerOptions{Keyspace: keyspace})
		g.run(tailer.Run)
		synctest.Wait()
		log.commit(dense(10)...)
		log.commitLarge(1000)
		time.Sleep(3 * DefaultTailerPoll)
		synctest.Wait()
		all := got.take()
		entries, bytes := 0, 0
		for _, f := range all {
			entries += len(f.Entries)
			for _, p := range f.Entries {
				bytes += len(p.Bytes)
			}
		}
		s := tailer.Stats()
		if entries != 11 || bytes < 1000 ||
			s.Entries != int64(entries) || s.Bytes != int64(bytes) || s.Frames != int64(len(all)) {
			t.Errorf("%d frames with %d entries of %d bytes came; counted: %+v", len(all), entries, bytes, s)
		}
	})
}

// TestDuplicatesAreCounted: frames with entries that are known, but not heartbeats.
func TestDuplicatesAreCounted(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		head := log.commit(dense(10)...)
		f, h := start(t, g, log, b, nil)
		again := &bus.Frame{Keyspace: keyspace, Prev: head - 2, Upto: head, Entries: log.entries[len(log.entries)-2:]}
		beat := &bus.Frame{Keyspace: keyspace, Prev: head, Upto: head}
		for _, frame := range []*bus.Frame{again, beat, again, beat, beat} {
			must(t, b.Publish(frame))
			synctest.Wait()
		}
		if s := f.Stats(); s.Frames != 5 || s.Duplicates != 2 {
			t.Errorf("%+v, want 5 frames and 2 duplicates", s)
		}
		h.check(log)
	})
}

// TestStalledIsShown: the metric says what Stalled does.
func TestStalledIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		f, _ := start(t, g, log, nil, nil)
		shows := func(want string) {
			t.Helper()
			text := strings.NewReader("# HELP headwater_feed_stalled Whether this hub is so far behind the log " +
				"that its streams should end.\n# TYPE headwater_feed_stalled gauge\n" +
				"headwater_feed_stalled{keyspace=\"" + keyspace + "\"} " + want + "\n")
			if err := testutil.CollectAndCompare(f, text, "headwater_feed_stalled"); err != nil {
				t.Error(err)
			}
		}
		shows("0")
		log.setFail(func(context.Context, string) error { return errDown })
		time.Sleep(time.Hour)
		shows("1")
		log.setFail(nil)
	})
}

// TestWindowAtItsBound: as many entries as the bound allows are in the window, and a log that is whole in it is not
// read again from before its beginning.
func TestWindowAtItsBound(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		log.commit(dense(9)...) // ten, with the first
		_, h := start(t, g, log, nil, func(o *FollowerOptions) { o.WindowEntries = 10 })
		if n := len(h.applied()); n != 10 {
			t.Errorf("%d entries in a window of 10, and the log has 10", n)
		}
		if n := log.readCount(); n > 4 {
			t.Errorf("%d reads", n)
		}
	})
}

// TestWindowCannotBeRead: a start waits for a log that fails while the window is read, and counts its age from the
// read of the head that succeeded.
func TestWindowCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		log.commit(dense(10)...)
		log.setFail(func(_ context.Context, call string) error {
			if call == "ReadPayloads" {
				return errDown
			}
			return nil
		})
		h := &hub{t: t}
		f := NewFollower(log, nil, h.options())
		g.run(f.Run)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(h.resets()) > 0 {
			t.Fatal("it has begun")
		}
		log.setFail(nil)
		<-f.Ready()
		if lag := f.Lag(); lag > time.Second {
			t.Errorf("its state is %v old, and has just been read", lag)
		}
		h.check(log)
	})
}

// TestCompactionAtThePosition: a compact revision that the position has just reached is passed on at once.
func TestCompactionAtThePosition(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		head := log.commit(dense(10)...)
		_, h := start(t, g, log, b, nil)
		must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: head, Upto: head, Compact: head}))
		synctest.Wait()
		if got := h.compactions(); len(got) != 1 || got[0] != head {
			t.Errorf("compact revisions %v, want %d", got, head)
		}
	})
}
