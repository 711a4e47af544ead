package nats_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestDown: without NATS nothing waits, nothing is kept, and the bus closes.
func TestDown(t *testing.T) {
	b, err := nats.Connect("nats://127.0.0.1:1", nats.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 100<<10)
	for i := range int64(1000) {
		err := b.Publish(&bus.Frame{Upto: i + 1, Prev: i, Entries: []revlog.Payload{{Rev: i + 1, Bytes: payload}}})
		if err != nil && !errors.Is(err, bus.ErrFull) {
			t.Fatal(err)
		}
		b.Nudge("")
	}
	poll(t, "all to be dropped", func() bool { s := b.Stats(); return s.Failed+s.Refused > 1000 })
	if s := b.Stats(); s.Connected || s.Sent > 0 || s.Nudges > 0 {
		t.Errorf("%+v", s)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnknownError: nats.go gives its connection up for an error of the server that it does not know, among them a
// message above the limit. The bus goes on with another.
func TestUnknownError(t *testing.T) {
	s := embedded(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	weird := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				c.Close()
				return
			}
			ended := make(chan struct{})
			wg.Go(func() {
				defer close(ended)
				defer c.Close()
				_, _ = io.Copy(c, up)
			})
			wg.Go(func() {
				defer up.Close()
				_, _ = io.Copy(up, c)
			})
			wg.Go(func() {
				select {
				case <-weird:
					_, _ = io.WriteString(c, "-ERR 'Something Nobody Knows'\r\n")
				case <-ended:
				}
			})
		}
	})
	defer wg.Wait()
	defer l.Close()
	b := medium{url: "nats://" + l.Addr().String()}.connect(t)
	defer b.Close()
	var at, nudges atomic.Int64
	if _, err := b.Subscribe("default", func(f *bus.Frame) { at.Store(f.Upto) }); err != nil {
		t.Fatal(err)
	}
	cancel, err := b.OnNudge("default", func() { nudges.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	works := func() {
		t.Helper()
		first, nudged := n, nudges.Load()
		poll(t, "frames and nudges", func() bool {
			n++
			if err := b.Publish(&bus.Frame{Keyspace: "default", Prev: n, Upto: n}); err != nil {
				t.Fatal(err)
			}
			b.Nudge("default")
			return at.Load() > first && nudges.Load() > nudged
		})
	}
	works()
	for i := range uint64(2) {
		poll(t, "another connection", func() bool {
			select {
			case weird <- struct{}{}:
			case <-time.After(time.Millisecond):
			}
			return b.Stats().Reconnects > i
		})
		works()
	}
	cancel()
}

// TestStalledServer: a server that does not read delays no publisher. Messages beyond the bound are refused and
// counted.
func TestStalledServer(t *testing.T) {
	proxy, release := stall(t, embedded(t, nil).Addr().String())
	defer release()
	b := medium{url: "nats://" + proxy}.connect(t)
	payload := make([]byte, 100<<10)
	full := false
	for i := range int64(10 * nats.QueueBytes / len(payload)) {
		err := b.Publish(&bus.Frame{Upto: i + 1, Prev: i, Entries: []revlog.Payload{{Rev: i + 1, Bytes: payload}}})
		if full = errors.Is(err, bus.ErrFull); full {
			break
		}
	}
	if s := b.Stats(); !full || s.Refused == 0 {
		t.Errorf("never full: %+v", s)
	}
	release()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// stall passes the first bytes of a connection on, which make a connection to NATS, and then no more until release.
func stall(t *testing.T, to string) (addr string, release func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const handshake = 1000 // more than CONNECT and PING
	released := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				return
			}
			pipe := func(dst, src net.Conn, limit int) {
				defer dst.Close()
				defer src.Close()
				buf := make([]byte, 100)
				for n := 0; ; {
					if n > limit {
						<-released
					}
					k, err := src.Read(buf)
					if err != nil {
						return
					}
					if _, err := dst.Write(buf[:k]); err != nil {
						return
					}
					n += k
				}
			}
			wg.Go(func() { pipe(s, c, handshake) })
			wg.Go(func() { pipe(c, s, 1<<30) })
		}
	})
	release = sync.OnceFunc(func() { close(released) })
	t.Cleanup(func() {
		release()
		l.Close()
		wg.Wait()
	})
	return l.Addr().String(), release
}

// TestSlowConsumer: frames that a subscriber does not take in time are dropped and counted, and later frames arrive.
func TestSlowConsumer(t *testing.T) {
	m := medium{url: embedded(t, nil).ClientURL()}
	from, to := m.connect(t), m.connect(t)
	defer from.Close()
	defer to.Close()
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	var at atomic.Int64
	cancel, err := to.Subscribe("default", func(f *bus.Frame) {
		select {
		case held <- struct{}{}:
		default:
		}
		<-hold
		at.Store(f.Upto)
	})
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 200<<10)
	n := int64(0)
	publish := func() {
		n++
		if err := from.Publish(&bus.Frame{
			Keyspace: "default", Prev: n - 1, Upto: n, Entries: []revlog.Payload{{Rev: n, Bytes: payload}},
		}); err != nil && !errors.Is(err, bus.ErrFull) {
			t.Fatal(err)
		}
	}
	poll(t, "a frame", func() bool { publish(); return len(held) > 0 })
	poll(t, "dropped frames", func() bool { publish(); return to.Stats().Dropped > 0 })
	close(hold)
	last := n
	poll(t, "a frame after them", func() bool { publish(); return at.Load() > last })
	dropped := to.Stats().Dropped
	cancel()
	if got := to.Stats().Dropped; got < dropped {
		t.Errorf("%d dropped, before cancel %d", got, dropped)
	}
}

// TestStrangers: messages that are not frames, or belong to another keyspace, are dropped and counted.
func TestStrangers(t *testing.T) {
	s := embedded(t, nil)
	m := medium{url: s.ClientURL()}
	b := m.connect(t)
	defer b.Close()
	frames := make(chan *bus.Frame, 10)
	if _, err := b.Subscribe("default", func(f *bus.Frame) { frames <- f }); err != nil {
		t.Fatal(err)
	}
	stranger, err := natsgo.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	good := bus.Append(nil, &bus.Frame{Keyspace: "default", Prev: 1, Upto: 2})
	sent := uint64(0)
	poll(t, "subscription", func() bool {
		sent++
		if err := stranger.Publish("headwater.frames.default", []byte("hello")); err != nil {
			t.Fatal(err)
		}
		return b.Stats().Malformed > 0
	})
	for _, msg := range [][]byte{
		nil, bytes.Repeat([]byte{0xff}, 1000), good[:len(good)-1],
		bus.Append(nil, &bus.Frame{Keyspace: "other", Prev: 1, Upto: 2}),
		bus.Append(nil, &bus.Frame{Keyspace: "default", Prev: 2, Upto: 1}),
		good,
	} {
		if err := stranger.Publish("headwater.frames.default", msg); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case f := <-frames:
		if f.Prev != 1 || f.Upto != 2 {
			t.Errorf("%+v", f)
		}
	case <-time.After(deadline):
		t.Fatal("no frame")
	}
	// What was sent before the server had the subscription is nobody's.
	if s := b.Stats(); s.Malformed < 1+5 || s.Malformed > sent+5 || s.Received != s.Malformed+1 {
		t.Errorf("sent %d and 6: %+v", sent, s)
	}
}
