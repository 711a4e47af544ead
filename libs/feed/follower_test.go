package feed

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// bubble runs test in a synctest bubble with a group that has ended when the bubble does.
func bubble(t *testing.T, test func(t *testing.T, g *group)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		defer g.stop()
		test(t, g)
	})
}

func dense(n int) []int64 { return slices.Repeat([]int64{1}, n) }

// start runs a follower, in a bubble, that is ready and at rest when start returns. Its first read of the log in follow
// comes after Ready; what a test commits next must not be in that read.
func start(t *testing.T, g *group, log Log, b bus.Bus, change func(*FollowerOptions)) (*Follower, *hub) {
	t.Helper()
	f, h := startReady(t, g, log, b, change)
	synctest.Wait()
	return f, h
}

// startReady runs a follower that is ready when startReady returns.
func startReady(t *testing.T, g *group, log Log, b bus.Bus, change func(*FollowerOptions)) (*Follower, *hub) {
	t.Helper()
	h := &hub{t: t}
	o := h.options()
	if change != nil {
		change(&o)
	}
	f := NewFollower(log, b, o)
	g.run(f.Run)
	<-f.Ready()
	return f, h
}

// TestDirect: without a bus the log is followed as soon as it changes.
func TestDirect(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		log.commit(dense(10)...)
		f, h := start(t, g, log, nil, nil)
		h.check(log)
		for range 20 {
			head := log.commit(3, 1, 1)
			synctest.Wait()
			if f.Position() != head {
				t.Fatalf("at %d, the head is %d", f.Position(), head)
			}
		}
		h.check(log)
		if starts := h.resets(); len(starts) != 1 || starts[0] != 0 {
			t.Errorf("starts %v", starts)
		}
	})
}

// TestFrames: what the tailer publishes is applied at once, and the follower does not read the log for it.
func TestFrames(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		tailer := NewTailer(log, b, TailerOptions{Keyspace: keyspace, Ballot: 3})
		g.run(tailer.Run)
		f, h := start(t, g, log, b, nil)
		synctest.Wait()
		reads := f.Stats().Reads
		for i := range 100 {
			head := log.commit(dense(1 + i%7)...)
			if i%2 == 0 {
				b.Nudge(keyspace)
			} else {
				time.Sleep(2 * nudgesTrusted) // the head's change has to do, which the tailer asks for when no nudge comes any more
			}
			synctest.Wait()
			if f.Position() != head {
				t.Fatalf("at %d, the head is %d", f.Position(), head)
			}
			time.Sleep(time.Duration(i) * time.Millisecond)
		}
		h.check(log)
		time.Sleep(time.Minute)
		s := f.Stats()
		if s.Reads != reads || s.Gaps != 0 || s.Stalled || s.Lag > 2*DefaultCheck {
			t.Errorf("%d reads before: %+v", reads, s)
		}
		if ts := tailer.Stats(); ts.Position != f.Position() || ts.Heartbeats < 50 || ts.Heartbeats > 70 ||
			ts.Lost != 0 {
			t.Errorf("%+v", ts)
		}
	})
}

// TestTwoTailersOnABadBus: I6 with two tailers that come and go, on a bus that loses, repeats and reorders, while the
// log is read with errors. Every hub gets every entry once and in order, and has all of them soon after the last.
func TestTwoTailersOnABadBus(t *testing.T) {
	runs := 10
	if testing.Short() {
		runs = 3
	}
	for _, seed := range seeds(runs) {
		t.Logf("-feed.seed=%d", seed)
		bubble(t, func(t *testing.T, g *group) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			log := newFakeLog()
			failures := rand.New(rand.NewPCG(seed, 1))
			log.setFail(func(context.Context, string) error {
				log.mu.Lock()
				defer log.mu.Unlock()
				if failures.IntN(50) == 0 {
					return errDown
				}
				return nil
			})
			b := &lossy{Bus: bus.NewLocal(), rnd: rand.New(rand.NewPCG(seed, 2)), loss: rnd.IntN(60)}
			var hubs []*hub
			var followers []*Follower
			join := func() {
				f, h := start(t, g, log, b, func(o *FollowerOptions) { o.WindowEntries = 1 + rnd.IntN(100) })
				hubs, followers = append(hubs, h), append(followers, f)
			}
			join()
			var stops [2]func()
			for range 400 {
				switch rnd.IntN(20) {
				case 0:
					i := rnd.IntN(2)
					if stops[i] != nil {
						stops[i]()
					}
					stops[i] = g.run(NewTailer(log, b,
						TailerOptions{Keyspace: keyspace, From: int64(rnd.IntN(2)) * followers[0].Position()}).Run)
				case 1:
					if i := rnd.IntN(2); stops[i] != nil {
						stops[i]()
						stops[i] = nil
					}
				case 2:
					if len(hubs) < 4 {
						join()
					}
				default:
					for range 1 + rnd.IntN(5) {
						log.commit(1+int64(rnd.IntN(2)*rnd.IntN(1000)), 1)
						b.Nudge(keyspace)
					}
				}
				time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
			}
			time.Sleep(5 * time.Second)
			for i, h := range hubs {
				h.check(log)
				if len(h.resets()) != 1 {
					t.Errorf("hub %d: starts %v", i, h.resets())
				}
			}
		})
	}
}

// TestNoTailer: nobody sends frames; entries come a little later.
func TestNoTailer(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		f, h := start(t, g, log, b, nil)
		time.Sleep(DefaultPoll)
		for range 50 {
			head := log.commit(1, 7)
			time.Sleep(DefaultPoll)
			synctest.Wait()
			if f.Position() != head {
				t.Fatalf("at %d, the head is %d", f.Position(), head)
			}
		}
		h.check(log)

		// Under load the log is read at most once per pause, but for the polls.
		before := log.readCount()
		const length = time.Second
		for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Millisecond) {
			log.commit(1)
		}
		if n := log.readCount() - before; n > int(2*length/DirectPause)+5 {
			t.Errorf("%d reads in %v", n, length)
		}
	})
}

// TestSilence: heartbeats become few when there are no entries, and the follower asks the log for nothing meanwhile. If
// the tailer goes then, entries come LateFrame later, and the follower reads the log at once from then on.
func TestSilence(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		tailer := NewTailer(log, b, TailerOptions{Keyspace: keyspace, Ballot: 1})
		stop := g.run(tailer.Run)
		f, h := start(t, g, log, b, nil)
		time.Sleep(10 * time.Second)
		beats, reads := tailer.Stats().Heartbeats, f.Stats().Reads
		const length = time.Minute
		time.Sleep(length)
		if n := tailer.Stats().Heartbeats - beats; n > int64(length/(heartbeatIdleFactor*DefaultHeartbeat))+1 {
			t.Errorf("%d heartbeats in %v", n, length)
		}
		if n := f.Stats().Reads - reads; n != 0 {
			t.Errorf("%d reads of the log", n)
		}
		time.Sleep(heartbeatIdleFactor * DefaultHeartbeat / 2) // the silence lasts long enough
		stop()
		time.Sleep(DefaultPoll)
		head := log.commit(1, 1)
		time.Sleep(LateFrame + time.Millisecond)
		if f.Position() != head {
			t.Errorf("at %d %v after the head was %d", f.Position(), LateFrame, head)
		}
		head = log.commit(1)
		time.Sleep(DirectPause)
		synctest.Wait()
		if f.Position() != head {
			t.Errorf("at %d, the head is %d", f.Position(), head)
		}
		h.check(log)
	})
}

// TestFramesEnd: wherever in the follower's waits the last frame comes, the entries after it come no later than the
// runbooks say.
func TestFramesEnd(t *testing.T) {
	for idle := time.Duration(0); idle < 2*time.Second; idle += 100 * time.Millisecond {
		bubble(t, func(t *testing.T, g *group) {
			log, b := newFakeLog(), bus.NewLocal()
			stop := g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace, Ballot: 1}).Run)
			f, h := start(t, g, log, b, func(o *FollowerOptions) { o.Check = time.Hour })
			time.Sleep(10*time.Second + idle)
			log.commit(1)
			time.Sleep(time.Millisecond)
			stop()
			head := log.commit(1)
			time.Sleep(DefaultPoll + LateFrame)
			synctest.Wait()
			if f.Position() != head {
				t.Errorf("after %v of rest: at %d, the head is %d", idle, f.Position(), head)
			}
			h.check(log)
		})
	}
}

// TestTailerGoesAndComes: the follower goes on by itself, and stops reading the log when there is a tailer again.
func TestTailerGoesAndComes(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		stop := g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace, Ballot: 1}).Run)
		f, h := start(t, g, log, b, nil)
		stop()
		log.commit(1, 1)
		time.Sleep(2 * DefaultPoll)
		h.check(log)
		g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace, Ballot: 2}).Run)
		time.Sleep(time.Millisecond) // its first heartbeat is enough
		reads := f.Stats().Reads
		for range 30 {
			head := log.commit(1)
			synctest.Wait()
			if f.Position() != head {
				t.Fatalf("at %d, the head is %d", f.Position(), head)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := f.Stats().Reads; got > reads+1 {
			t.Errorf("%d reads of the log with a tailer", got-reads)
		}
		h.check(log)
	})
}

// TestReferencesAndDamage: the follower reads entries from the log that did not arrive, or did not arrive whole.
func TestReferencesAndDamage(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		f, h := start(t, g, log, b, nil)
		log.commit(1, 1, 1, 1, 1) // 2 … 6
		must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: 1, Upto: 6, Entries: []revlog.Payload{
			payload(2), {Rev: 3}, payload(4), {Rev: 5, Bytes: []byte("damaged!")}, payload(6),
		}}))
		synctest.Wait()
		if s := f.Stats(); s.Position != 6 || s.Gaps == 0 || s.Refilled == 0 || s.Strange != 0 {
			t.Errorf("%+v", s)
		}
		h.check(log)
	})
}

// TestForeignFrames: frames that cannot belong to this log change nothing, whether they are out of order or beyond its
// end. If one follows on and is believed, the check finds out and the follower starts anew.
func TestForeignFrames(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		f, h := start(t, g, log, b, nil)
		for _, frame := range []*bus.Frame{
			{Prev: 1000, Upto: 1001, Compact: 999, Entries: []revlog.Payload{payload(1001)}},
			{Prev: 1, Upto: 3, Entries: []revlog.Payload{payload(3), payload(2)}},
			{Prev: 9, Upto: 2},
			{Prev: -1, Upto: 2},
		} {
			frame.Keyspace = keyspace
			must(t, b.Publish(frame))
		}
		synctest.Wait()
		if s := f.Stats(); s.Strange != 4 || s.Position != 1 || len(h.compactions()) != 0 {
			t.Errorf("%+v, compact %v", s, h.compactions())
		}
		head := log.commit(1, 1)
		time.Sleep(DefaultCheck + DefaultPoll/2) // not when the head is checked, which would end the next frame's effect at once
		if f.Position() != head {
			t.Errorf("at %d", f.Position())
		}
		h.check(log)

		must(t, b.Publish(&bus.Frame{
			Keyspace: keyspace, Prev: head, Upto: head + 100, Entries: []revlog.Payload{payload(head + 100)},
		}))
		synctest.Wait()
		if f.Position() != head+100 {
			t.Errorf("at %d", f.Position())
		}
		time.Sleep(3 * DefaultCheck)
		log.commit(1, 1)
		time.Sleep(3 * DefaultCheck)
		h.check(log)
		if n := len(h.resets()); n != 2 {
			t.Errorf("%d resets", n)
		}
	})
}

// TestSetBack: a database that was set back makes the follower start anew.
func TestSetBack(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		log.commit(dense(100)...)
		f, h := start(t, g, log, nil, nil)
		log.setBack(50)
		time.Sleep(3 * DefaultCheck)
		log.commit(1)
		time.Sleep(3 * DefaultCheck)
		h.check(log)
		if f.Position() != 51 || len(h.resets()) != 2 {
			t.Errorf("at %d, starts %v", f.Position(), h.resets())
		}
	})
}

// TestRemoved: if entries that the follower has not seen are removed from the log, it reports that and goes on from the
// head.
func TestRemoved(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		stop := g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace}).Run)
		f, h := start(t, g, log, b, nil)
		stop()
		log.setFail(func(context.Context, string) error { return errDown })
		log.commit(dense(50)...)
		log.remove(40)
		log.setFail(nil)
		time.Sleep(3 * time.Second)
		starts := h.resets()
		if len(starts) != 2 || starts[1] < 39 || f.Position() != 51 {
			t.Errorf("at %d, starts %v", f.Position(), starts)
		}
		log.commit(1)
		time.Sleep(time.Second)
		h.check(log)
		if got := h.compactions(); !slices.Equal(got, []int64{40}) {
			t.Errorf("compact revisions %v", got)
		}
	})
}

// TestCompactComes: heartbeats carry the compact revision.
func TestCompactComes(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		log.commit(dense(50)...)
		g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace}).Run)
		_, h := start(t, g, log, b, nil)
		log.remove(20)
		time.Sleep((pollIdleFactor + 1) * DefaultTailerPoll)
		log.remove(30)
		time.Sleep((pollIdleFactor + 1) * DefaultTailerPoll)
		if got := h.compactions(); !slices.Equal(got, []int64{20, 30}) {
			t.Errorf("compact revisions %v", got)
		}
	})
}

// TestInboxBound: frames beyond the bound are dropped, and their entries come from the log.
func TestInboxBound(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		hold := make(chan struct{})
		f, h := start(t, g, log, b, nil)
		apply := f.o.Apply
		f.o.Apply = func(e []revlog.Payload) { <-hold; apply(e) }
		large := make([]byte, InboxBytes/4)
		head := log.commit(1)
		must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: 1, Upto: 2, Entries: []revlog.Payload{payload(2)}}))
		synctest.Wait() // Apply holds it
		for range 10 {
			head = log.commit(1)
			must(t, b.Publish(&bus.Frame{Keyspace: keyspace, Prev: head - 1, Upto: head, Entries: []revlog.Payload{{Rev: head, Bytes: append(payload(head).Bytes, large...)}}}))
		}
		close(hold)
		time.Sleep(2 * DefaultPoll)
		if s := f.Stats(); s.Dropped != 7 || s.Position != head {
			t.Errorf("%+v", s)
		}
		h.check(log)
	})
}

// TestLateLog: a follower that is started while the log is down becomes ready when it is there.
func TestLateLog(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log, b := newFakeLog(), bus.NewLocal()
		log.setFail(func(context.Context, string) error { return errDown })
		h := &hub{t: t}
		f := NewFollower(log, b, h.options())
		g.run(f.Run)
		g.run(NewTailer(log, b, TailerOptions{Keyspace: keyspace}).Run)
		time.Sleep(time.Minute)
		select {
		case <-f.Ready():
			t.Error("ready")
		default:
		}
		if !f.Stalled() || len(h.resets()) != 0 {
			t.Errorf("lag %v, starts %v", f.Lag(), h.resets())
		}
		log.setFail(nil)
		<-f.Ready()
		log.commit(1)
		time.Sleep(2 * time.Second)
		h.check(log)
	})
}

func TestClosedBus(t *testing.T) {
	b := bus.NewLocal()
	must(t, b.Close())
	h := &hub{t: t}
	if err := NewFollower(newFakeLog(), b, h.options()).Run(t.Context()); err == nil {
		t.Error("the follower runs")
	}
	if err := NewTailer(newFakeLog(), b, TailerOptions{}).Run(t.Context()); err == nil {
		t.Error("the tailer runs")
	}
}

func TestCollectors(t *testing.T) {
	h := &hub{t: t}
	f := NewFollower(newFakeLog(), nil, h.options())
	tailer := NewTailer(newFakeLog(), bus.NewLocal(), TailerOptions{Keyspace: keyspace})
	for _, problems := range [][]string{lint(t, f), lint(t, tailer)} {
		if len(problems) > 0 {
			t.Error(problems)
		}
	}
	if n := testutil.CollectAndCount(f) + testutil.CollectAndCount(tailer); n != 21 {
		t.Errorf("%d metrics", n)
	}
}

func TestName(t *testing.T) {
	if a, b := Name("default", 1), Name("default", 2); a == b || !strings.HasPrefix(a, "default") {
		t.Error(a, b)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
