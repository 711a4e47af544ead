package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// holdingLog is a log that can hold values.
type holdingLog struct {
	*memLog
	held     map[int64][]byte // nil: released, or not held
	holds    int
	damaged  int64 // revision of a value that cannot be read
	released int
}

func (l *holdingLog) HoldValues(context.Context) (ValueReader, func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds++
	l.held = map[int64][]byte{}
	for rev, v := range l.values {
		l.held[rev] = v
	}
	return heldValues{l}, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = nil
		l.released++
	}, nil
}

type heldValues struct{ l *holdingLog }

func (h heldValues) ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error) {
	got, err := h.l.ReadValues(ctx, kvs)
	if err != nil {
		return nil, err
	}
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	for i, kv := range kvs {
		if v := h.l.held[kv.Mod]; v != nil {
			got[i] = v
		}
	}
	return got, nil
}

func (l *holdingLog) ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error) {
	l.mu.Lock()
	damaged := slices.ContainsFunc(kvs, func(kv *revlog.KV) bool { return kv.Mod == l.damaged })
	l.mu.Unlock()
	if damaged {
		return nil, revlog.ErrCorrupt
	}
	return l.memLog.ReadValues(ctx, kvs)
}

// apart starts a hub whose values are all read when they are sent, and a stream with watches of k without and with
// previous values.
func apart(t *testing.T, o Options) (*holdingLog, *Hub, *Stream) {
	t.Helper()
	log := &holdingLog{memLog: &memLog{}}
	o.Log, o.StreamBytes = quietLog(), 1
	h := New(o)
	h.Start(log, 1)
	s, _ := h.Open()
	for _, prev := range []bool{false, true} {
		if err := s.Create(t.Context(), CreateRequest{Key: []byte("k"), PrevKV: prev}); err != nil {
			t.Fatal(err)
		}
	}
	h.Apply(log.name(1000))
	for _, r := range nextEvents(t, s) {
		if got := sent(t, s, r); len(got) < 1000 {
			t.Errorf("%d bytes", len(got))
		}
	}
	return log, h, s
}

// sent returns the wire form of a response's one event as it is sent.
func sent(t *testing.T, s *Stream, r Response) []byte {
	t.Helper()
	b, err := fill(t, s, r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fill(t *testing.T, s *Stream, r Response) (b []byte, err error) {
	t.Helper()
	e := r.Events[0]
	parts := e.Parts(r.PrevKV)
	n := e.WireLen(r.PrevKV)
	if err := s.Fill(t.Context(), parts); err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.Len() != len(p.Bytes) {
			t.Errorf("a part of %d bytes has %d", p.Len(), len(p.Bytes))
		}
		b = append(b, p.Bytes...)
	}
	if len(b) != n {
		t.Errorf("%d bytes, told were %d", len(b), n)
	}
	return b, nil
}

// TestApart: the values of a large request are read by each who sends them, from the state at the time of the request,
// which is let go after a while.
func TestApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, s := apart(t, Options{})
		defer h.Close()
		defer s.Close()
		h.Apply(log.name(1000))
		got := nextEvents(t, s)
		log.mu.Lock()
		want := log.entries[1].Events[0]
		want.KV.Value, want.Prev.Value = log.values[3], log.values[2]
		log.mu.Unlock()
		log.mu.Lock()
		delete(log.values, 2) // by a compaction
		log.mu.Unlock()
		for range 2 {
			for _, r := range got {
				if !r.Events[0].Apart(r.PrevKV) {
					t.Error("not apart")
				}
				if string(sent(t, s, r)) != string(encodeEvent(&want, r.PrevKV).parts.Materialize()) {
					t.Errorf("wrong with prev %t", r.PrevKV)
				}
			}
		}
		log.mu.Lock()
		early := log.holds == log.released
		log.mu.Unlock()
		if early {
			t.Error("released at once")
		}
		<-h.afterHolds()
		synctest.Wait()
		log.mu.Lock()
		defer log.mu.Unlock()
		if log.holds != log.released {
			t.Errorf("%d holds, %d released", log.holds, log.released)
		}
	})
}

// afterHolds is closed some time after the holds have ended.
func (h *Hub) afterHolds() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), 2*heldFor)
		defer cancel()
		<-ctx.Done()
	}()
	return done
}

// TestApartGone: what a compaction takes after all, or damage, ends the stream. Who resumes gets the event without the
// previous value, or is told of a compaction if it is the value itself.
func TestApartGone(t *testing.T) {
	for name, c := range map[string]struct {
		do       func(*holdingLog)
		canceled [2]bool // the watches that resume, without and with previous values
	}{
		"previous value removed": {func(l *holdingLog) { delete(l.values, 2) }, [2]bool{false, false}},
		"value removed":          {func(l *holdingLog) { delete(l.values, 3) }, [2]bool{true, true}},
		"previous value damaged": {func(l *holdingLog) { l.damaged = 2 }, [2]bool{false, true}},
		"value damaged":          {func(l *holdingLog) { l.damaged = 3 }, [2]bool{true, true}},
	} {
		for _, ringBytes := range []int{0, 1} { // the event is in the ring, or is read back from the log each time
			t.Run(fmt.Sprintf("%s/ring=%d", name, ringBytes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log, h, s := apart(t, Options{RingBytes: ringBytes})
					defer h.Close()
					defer s.Close()
					h.Apply(log.name(1000))
					got := nextEvents(t, s)
					<-h.afterHolds()
					log.mu.Lock()
					c.do(log)
					log.mu.Unlock()
					failed := 0
					for _, r := range got {
						if _, err := fill(t, s, r); errors.Is(err, ErrValueGone) {
							failed++
						} else if err != nil {
							t.Fatal(err)
						}
					}
					if failed == 0 {
						t.Error("nothing failed")
					}
					s.Close()
					h.Apply(log.name(1000)) // pushes the event out of a small ring
					again, _ := h.Open()
					defer again.Close()
					for i, prev := range []bool{false, true} {
						r := CreateRequest{Key: []byte("k"), PrevKV: prev, StartRevision: 3}
						if err := again.Create(t.Context(), r); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
						got := nextEvents(t, again)
						if got[0].Canceled != c.canceled[i] {
							t.Fatalf("prev %t: %+v", prev, got)
						}
						if !got[0].Canceled {
							sent(t, again, got[0])
						}
					}
				})
			})
		}
	}
}

// TestApartLoss: who watches nothing but other keys of a request of which a value is gone is not canceled.
func TestApartLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &holdingLog{memLog: &memLog{}}
		h := New(Options{Log: quietLog(), StreamBytes: 1})
		h.Start(log, 1)
		defer h.Close()
		streams := map[string]*Stream{}
		for _, key := range []string{"k", "l"} {
			streams[key], _ = h.Open()
			defer streams[key].Close()
			if err := streams[key].Create(t.Context(), CreateRequest{Key: []byte(key)}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if _, err := streams[key].Next(t.Context()); err != nil { // created
				t.Fatal(err)
			}
		}
		entry := log.name(1000)
		other := entry[0].Events[0]
		other.KV.Key = []byte("l")
		entry[0].Events = append(entry[0].Events, other)
		h.Apply(entry)
		synctest.Wait()
		log.mu.Lock()
		log.damaged = 2
		log.mu.Unlock()
		r := nextEvents(t, streams["k"])[0]
		if _, err := fill(t, streams["k"], r); !errors.Is(err, ErrValueGone) {
			t.Fatal(err)
		}
		if r := nextEvents(t, streams["l"])[0]; r.Canceled {
			t.Errorf("%+v", r)
		}
	})
}

// TestApartHolds: however many passes want the state of the log, few are held, and the others read what there is.
func TestApartHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, s := apart(t, Options{})
		defer h.Close()
		defer s.Close()
		for range 2 * maxHolds {
			h.Apply(log.name(1000))
			for _, r := range nextEvents(t, s) {
				sent(t, s, r)
			}
		}
		log.mu.Lock()
		held := log.holds - log.released
		log.mu.Unlock()
		if held != maxHolds {
			t.Errorf("%d states are held", held)
		}
		<-h.afterHolds()
		synctest.Wait()
		log.mu.Lock()
		defer log.mu.Unlock()
		if log.released != maxHolds {
			t.Errorf("%d of %d states are released", log.released, log.holds)
		}
	})
}
