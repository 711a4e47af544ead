package feed

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
)

// frames collects what is published.
type frames struct {
	mu  sync.Mutex
	all []*bus.Frame
}

func collectFrames(t *testing.T, b bus.Bus) *frames {
	t.Helper()
	fs := &frames{}
	cancel, err := b.Subscribe(keyspace, func(f *bus.Frame) {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.all = append(fs.all, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	return fs
}

func (fs *frames) take() []*bus.Frame {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	all := fs.all
	fs.all = nil
	return all
}

// checkChain checks that frames chain from prev on, and returns where they end and how many entries they have.
func checkChain(t *testing.T, all []*bus.Frame, prev int64) (upto int64, entries int) {
	t.Helper()
	for _, f := range all {
		if !f.Valid() || f.Prev != prev {
			t.Errorf("(%d, %d] with %d entries after %d", f.Prev, f.Upto, len(f.Entries), prev)
		}
		prev = f.Upto
		entries += len(f.Entries)
	}
	return prev, entries
}

// TestTailerFrames: frames chain from the start on, in bounded steps, and hold everything.
func TestTailerFrames(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		log.commit(dense(10)...)
		fs := collectFrames(t, b)
		g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace, From: 5, Ballot: 9}).Run)
		synctest.Wait()
		at, n := checkChain(t, fs.take(), 5)
		if at != 11 || n != 6 {
			t.Errorf("at %d after %d entries", at, n)
		}
		for i := range 50 {
			time.Sleep(paceMax) // since the last read
			head := log.commit(dense(1 + i*100)...)
			synctest.Wait()
			all := fs.take()
			for _, f := range all {
				if len(f.Entries) > ReadEntries || f.Ballot != 9 {
					t.Errorf("%d entries, ballot %d", len(f.Entries), f.Ballot)
				}
			}
			if at, n = checkChain(t, all, at); at != head || n != 1+i*100 {
				t.Errorf("at %d of %d after %d entries", at, head, n)
			}
		}
		time.Sleep((heartbeatsSoon + heartbeatIdleFactor) * DefaultHeartbeat)
		if all := fs.take(); len(all) < heartbeatsSoon || len(all) > heartbeatsSoon+2 {
			t.Errorf("%d heartbeats", len(all))
		} else if end, n := checkChain(t, all, at); end != at || n != 0 {
			t.Errorf("at %d after %d entries", end, n)
		}
	})
}

// TestTailerPaces: many commits are read together, one that comes alone is read at once.
func TestTailerPaces(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		tailer := NewTailer(log, b, TailerOptions{Keyspace: keyspace})
		g.run(tailer.Run)
		commit := func(every time.Duration, n int) (reads int64) {
			before := tailer.Stats().Reads
			for range int(time.Second / every) {
				time.Sleep(every)
				log.commit(dense(n)...)
				b.Nudge(keyspace)
				synctest.Wait()
			}
			return tailer.Stats().Reads - before
		}
		if reads, most := commit(time.Millisecond, 32), int64(time.Second/paceMax); reads < most/2 ||
			reads > most+most/10 {
			t.Errorf("%d reads of 1,000 commits of 32 entries, want about %d", reads, most)
		}
		time.Sleep(paceMax)
		if reads := commit(2*time.Millisecond, 1); reads < 490 {
			t.Errorf("%d reads of 500 commits of one entry", reads)
		}
	})
}

// TestTailerStartsAtTheHead and says at once that it is there.
func TestTailerStartsAtTheHead(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		head := log.commit(dense(10)...)
		fs := collectFrames(t, b)
		g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace}).Run)
		synctest.Wait()
		if all := fs.take(); len(all) != 1 || all[0].Prev != head || all[0].Upto != head {
			t.Errorf("%d frames", len(all))
		}
	})
}

// TestTailerLosesLog: as long as reads fail or hang there are no heartbeats; afterwards nothing is left out.
func TestTailerLosesLog(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		fs := collectFrames(t, b)
		tailer := NewTailer(log, b, TailerOptions{Keyspace: keyspace})
		g.run(tailer.Run)
		time.Sleep(time.Second)
		at, _ := checkChain(t, fs.take(), 1)
		for _, fail := range []func(context.Context, string) error{
			func(context.Context, string) error { return errDown },
			func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() },
		} {
			log.setFail(fail)
			head := log.commit(1, 1, 1)
			b.Nudge(keyspace)
			time.Sleep(DefaultTailerPoll)
			fs.take()
			time.Sleep(time.Minute)
			if n := len(fs.take()); n != 0 {
				t.Errorf("%d frames", n)
			}
			log.setFail(nil)
			time.Sleep(ReadTimeout + retryMax)
			var n int
			if at, n = checkChain(t, fs.take(), at); at != head || n != 3 {
				t.Errorf("at %d of %d after %d entries", at, head, n)
			}
		}
	})
}

// TestTailerRemoved: the tailer skips entries that were removed before it published them, which followers see as a gap.
func TestTailerRemoved(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		fs := collectFrames(t, b)
		head := log.commit(dense(50)...)
		log.remove(30)
		tailer := NewTailer(log, b, TailerOptions{Keyspace: keyspace, From: 1})
		g.run(tailer.Run)
		synctest.Wait()
		if at, n := checkChain(t, fs.take(), head); at != head || n != 0 || tailer.Stats().Jumps != 1 {
			t.Errorf("at %d after %d entries, %+v", at, n, tailer.Stats())
		}
		head = log.commit(1)
		synctest.Wait()
		if at, n := checkChain(t, fs.take(), head-1); at != head || n != 1 {
			t.Errorf("at %d after %d entries", at, n)
		}
	})
}

// TestTailerNoFaster: a nudge and the change of the head that it announces cause one read.
func TestTailerNoFaster(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		tailer := NewTailer(log, b, TailerOptions{Keyspace: keyspace, Poll: time.Hour})
		g.run(tailer.Run)
		synctest.Wait()
		before := tailer.Stats().Reads
		const commits = 1000
		for range commits {
			log.commit(1)
			b.Nudge(keyspace)
			synctest.Wait()
		}
		if n := tailer.Stats().Reads - before; n > commits+10 {
			t.Errorf("%d reads for %d commits", n, commits)
		}
	})
}
