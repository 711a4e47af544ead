package cluster

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/podfaults"
)

// The tests of this file test the harness itself. If its faults did not happen, the other tests would find nothing.

func TestProxy(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for c, err := echo.Accept(); err == nil; c, err = echo.Accept() {
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	p, err := newProxy()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := say(t, p, "nobody"); err == nil {
		t.Error("a name that no process has answers")
	}
	g := podfaults.NewGate()
	p.attach(echo.Addr().String(), g)
	c, err := say(t, p, "hello")
	if err != nil {
		t.Fatal(err)
	}

	g.Pause()
	if _, err := c.Write([]byte("wait")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(buf); err == nil {
		t.Errorf("a paused pod says %q", buf[:n])
	}
	g.Resume()
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "wait" {
		t.Errorf("after the pause: %q, %v", buf, err)
	}

	p.detach()
	if _, err := c.Read(buf); err == nil {
		t.Error("a connection to a dead pod still exists")
	}
	if _, err := say(t, p, "again"); err == nil {
		t.Error("a dead pod answers")
	}
}

// say makes a connection and waits for the echo.
func say(t *testing.T, p *proxy, text string) (net.Conn, error) {
	c, err := net.Dial("tcp", p.addr())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(c, make([]byte, len(text)))
	return c, err
}

func TestView(t *testing.T) {
	db := testengine.Open(t, 1)
	write := func(v *view, key string) error {
		x, err := v.Begin(t.Context())
		if err != nil {
			return err
		}
		defer x.Discard()
		x.Set([]byte(key), []byte("v"))
		p, err := x.Commit(t.Context())
		if err != nil {
			return err
		}
		_, err = p.Wait(t.Context())
		return err
	}
	g := podfaults.NewGate()
	one, two := newView(db, g, 1), newView(db, podfaults.NewGate(), 2)
	t.Cleanup(func() { two.Close() })
	one.Pause(true) // no faults by chance
	two.Pause(true)
	if err := errors.Join(write(one, "a"), one.Close(), write(two, "b")); err != nil {
		t.Fatal("one pod closes the engine of the other:", err)
	}

	one = newView(db, g, 1)
	t.Cleanup(func() { one.Close() })
	one.Pause(true)
	g.Pause()
	done := make(chan error)
	go func() { done <- write(one, "c") }()
	select {
	case err := <-done:
		t.Error("a paused pod writes:", err)
	case <-time.After(20 * time.Millisecond):
	}
	g.Resume()
	if err := <-done; err != nil {
		t.Error(err)
	}

	restore := one.Cut()
	if err := write(one, "d"); !errors.Is(err, engine.ErrUnavailable) {
		t.Error("a write of a pod that is cut off:", err)
	}
	restore()
	if err := write(one, "c"); err != nil {
		t.Error(err)
	}

	restore, second := one.Cut(), one.Cut()
	restore()
	if err := write(one, "d"); !errors.Is(err, engine.ErrUnavailable) {
		t.Error("a write of a pod that is still cut off:", err)
	}
	second()
	if err := write(one, "c"); err != nil {
		t.Error("a write after two cuts:", err)
	}

	waiting := make(chan error)
	go func() { waiting <- one.WaitChange(t.Context(), []byte("d"), nil) }()
	restore = one.Cut()
	one.Kill()
	restore()
	g.Kill()
	if err := <-waiting; err == nil {
		t.Error("a wait of a dead pod:", err)
	}
	if err := write(one, "e"); !errors.Is(err, engine.ErrClosed) {
		t.Error("a write of a dead pod:", err)
	}
	if err := write(two, "f"); err != nil {
		t.Error("a write of the other:", err)
	}
}

func TestUnreliable(t *testing.T) {
	const frames = 2000
	arrivals := func(seed uint64) (got []int64, count *mishaps) {
		local := bus.NewLocal() // it delivers within Publish
		defer local.Close()
		count = &mishaps{}
		var mute atomic.Bool
		u := newUnreliable(local, podfaults.NewGate(), seed, count, &mute)
		cancel, err := u.Subscribe("k", func(f *bus.Frame) { got = append(got, f.Upto) })
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		for i := range int64(frames) {
			mute.Store(i == 0)
			if err := u.Publish(&bus.Frame{Keyspace: "k", Prev: i, Upto: i + 1}); err != nil {
				t.Fatal(err)
			}
		}
		u.g.Kill()
		if err := u.Publish(&bus.Frame{Keyspace: "k", Prev: frames, Upto: frames + 1}); err != nil {
			t.Fatal(err)
		}
		return got, count
	}
	got, count := arrivals(1)
	if slices.Contains(got, 1) || slices.Contains(got, frames+1) {
		t.Error("a bus that is cut off or dead delivers messages")
	}
	if slices.IsSorted(got) || count.dropped.Load() == 0 || count.doubled.Load() == 0 || count.reordered.Load() == 0 {
		t.Errorf("of %d frames, %d arrived (%v)", frames, len(got), count)
	}
	again, _ := arrivals(1)
	other, _ := arrivals(2)
	if !slices.Equal(got, again) || slices.Equal(got, other) {
		t.Error("the seed does not determine the faults")
	}
}
