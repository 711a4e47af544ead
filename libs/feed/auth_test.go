package feed

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestAuthBeforeEntries: the follower is told of other users and roles before it applies the first entries that may
// have been made under them, whether they come in a frame or are read from the log, and by what there really is: a
// frame that says too much hides nothing later.
func TestAuthBeforeEntries(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		h := &hub{t: t}
		o := h.options()
		var told []uint64
		o.Auth = func(uint64) uint64 {
			h.mu.Lock()
			defer h.mu.Unlock()
			told = append(told, uint64(len(h.revs)), log.AuthNumber())
			return log.AuthNumber()
		}
		f := NewFollower(log, b, o)
		g.run(f.Run)
		<-f.Ready()
		synctest.Wait() // it has compared itself with the head
		before := len(get(h, &told))
		// A frame with two entries: told before either.
		log.commit(1, 1)
		log.authNumber.Store(5)
		must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: 1, Upto: 3, Auth: 5, Entries: []revlog.Payload{payload(2), payload(3)}}))
		synctest.Wait()
		// The same again, and an older one: nothing to tell.
		must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: 3, Upto: 3, Auth: 5}))
		must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: 3, Upto: 3, Auth: 4}))
		synctest.Wait()
		// One that says too much.
		must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: 3, Upto: 3, Auth: 1 << 60}))
		synctest.Wait()
		// One that is lost: the log tells.
		log.authNumber.Store(9)
		log.commit(1)
		time.Sleep(2 * DefaultPoll)
		h.check(log)
		if got, want := get(h, &told)[before:], []uint64{1, 5, 3, 5, 3, 9}; !slices.Equal(got, want) {
			t.Errorf("told (entries applied before, number): %v, want %v", got, want)
		}
	})
}

// TestTailerAuth: frames carry the number of users and roles, heartbeats too.
func TestTailerAuth(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		var frames []bus.Frame
		h := &hub{t: t}
		cancel, err := b.Subscribe(keyspace, func(f *bus.Frame) {
			h.mu.Lock()
			defer h.mu.Unlock()
			frames = append(frames, *f)
		})
		must(t, err)
		defer cancel()
		log.authNumber.Store(7)
		g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace}).Run)
		synctest.Wait()
		log.commit(1)
		time.Sleep(2 * DefaultHeartbeat)
		entries, beats := 0, 0
		for _, f := range get(h, &frames) {
			if f.Auth != 7 {
				t.Errorf("frame %+v", f)
			}
			if len(f.Entries) > 0 {
				entries++
			} else {
				beats++
			}
		}
		if entries == 0 || beats == 0 {
			t.Errorf("%d frames with entries, %d heartbeats", entries, beats)
		}
	})
}
