package bustest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// deadline is how long anything may take.
const deadline = 20 * time.Second

// Medium is what the buses of a test share.
type Medium interface {
	// Connect returns a bus that is ready to be used; the suite closes it. Each stands for a process; they may be the
	// same.
	Connect(t *testing.T) bus.Bus
}

// Run runs the suite; medium makes one that nobody else uses.
func Run(t *testing.T, medium func(t *testing.T) Medium) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Medium)
	}{
		{"Frames", testFrames},
		{"LargeFrames", testLargeFrames},
		{"Keyspaces", testKeyspaces},
		{"LongName", testLongName},
		{"Subscribers", testSubscribers},
		{"Cancel", testCancel},
		{"Nudges", testNudges},
		{"SlowSubscriber", testSlowSubscriber},
		{"Close", testClose},
		{"Concurrent", testConcurrent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, medium(t)) })
	}
}

// inbox takes frames.
type inbox chan *bus.Frame

func (in inbox) take(f *bus.Frame) { in <- f }

// next returns the next frame that is not a probe.
func (in inbox) next(t *testing.T) *bus.Frame {
	t.Helper()
	after := time.After(deadline)
	for {
		select {
		case f := <-in:
			if f.Ballot != probe {
				return f
			}
		case <-after:
			t.Fatal("no frame")
		}
	}
}

// probe is the ballot of frames that only show that a subscription is there.
const probe = 1 << 40

// subscribe returns when frames from publisher arrive.
func subscribe(t *testing.T, b, publisher bus.Bus, keyspace string) (in inbox, cancel func()) {
	t.Helper()
	in = make(inbox, 10000)
	probed := make(chan struct{}, 1)
	cancel, err := b.Subscribe(keyspace, func(f *bus.Frame) {
		if f.Ballot == probe {
			select {
			case probed <- struct{}{}:
			default:
			}
			return
		}
		in.take(f)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	until(t, probed, func() {
		if err := publisher.Publish(&bus.Frame{Keyspace: keyspace, Ballot: probe}); err != nil {
			t.Fatal(err)
		}
	})
	return in, cancel
}

// until repeats do until something comes.
func until[T any](t *testing.T, c <-chan T, do func()) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	after := time.After(deadline)
	do()
	for {
		select {
		case <-c:
			return
		case <-tick.C:
			do()
		case <-after:
			t.Fatal("nothing came")
		}
	}
}

func connect(t *testing.T, m Medium) bus.Bus {
	t.Helper()
	b := m.Connect(t)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func publish(t *testing.T, b bus.Bus, f *bus.Frame) {
	t.Helper()
	if err := b.Publish(f); err != nil {
		t.Fatal(err)
	}
}

// testFrames: what arrives is what was sent, in order.
func testFrames(t *testing.T, m Medium) {
	from, to := connect(t, m), connect(t, m)
	in, _ := subscribe(t, to, from, "default")
	var sent []*bus.Frame
	for i := range int64(200) {
		f := &bus.Frame{Keyspace: "default", Ballot: uint64(i % 3), Prev: i * 10, Upto: i * 10, Compact: i / 2}
		if i%4 != 0 { // else a heartbeat
			f.Upto += 10
			f.Entries = []revlog.Payload{
				{Rev: i*10 + 3, Bytes: []byte(fmt.Sprint(i))}, {Rev: i*10 + 4}, {Rev: i*10 + 5, Bytes: []byte{}},
			}
		}
		sent = append(sent, f)
		publish(t, from, f)
	}
	for _, want := range sent {
		if diff := cmp.Diff(want, in.next(t)); diff != "" {
			t.Fatal(diff)
		}
	}
}

// testLargeFrames: a frame of any size arrives, in parts that chain; entries may have become references.
func testLargeFrames(t *testing.T, m Medium) {
	from, to := connect(t, m), connect(t, m)
	in, _ := subscribe(t, to, from, "default")
	f := &bus.Frame{Keyspace: "default", Ballot: 7, Prev: 5, Upto: 9000, Compact: 3}
	for i := range int64(2000) {
		size := 1000
		if i%500 == 77 {
			size = 3 << 20
		}
		f.Entries = append(f.Entries, revlog.Payload{Rev: 6 + 2*i, Bytes: bytes.Repeat([]byte{byte(i)}, size)})
	}
	publish(t, from, f)
	at := f.Prev
	for n := 0; at < f.Upto; {
		got := in.next(t)
		if !got.Valid() || got.Prev != at || got.Ballot != f.Ballot || got.Compact != f.Compact {
			t.Fatalf("after %d: ballot %d, (%d, %d]", at, got.Ballot, got.Prev, got.Upto)
		}
		for _, p := range got.Entries {
			want := f.Entries[n]
			if p.Rev != want.Rev || p.Bytes != nil && !bytes.Equal(p.Bytes, want.Bytes) ||
				p.Bytes == nil && len(want.Bytes) < 4000 {
				t.Fatalf(
					"entry %d: revision %d with %d bytes, want %d with %d", n, p.Rev, len(p.Bytes), want.Rev,
					len(want.Bytes),
				)
			}
			n++
		}
		if at = got.Upto; at == f.Upto && n != len(f.Entries) {
			t.Fatalf("%d entries of %d", n, len(f.Entries))
		}
	}
}

// names are hard ones.
var names = []string{
	"",
	"default",
	"default.frames",
	"*",
	">",
	"a.b",
	"a b",
	"a=2Eb",
	"A",
	"a",
	"\x00\xff",
	"ключ",
	strings.Repeat("n", bus.KeyspaceMax),
	strings.Repeat(".", bus.KeyspaceMax),
}

// testKeyspaces: each keyspace gets its own frames and nudges, whatever its name.
func testKeyspaces(t *testing.T, m Medium) {
	from, to := connect(t, m), connect(t, m)
	ins := make([]inbox, len(names))
	for i, name := range names {
		ins[i], _ = subscribe(t, to, from, name)
	}
	for i, name := range names {
		publish(t, from, &bus.Frame{Keyspace: name, Prev: int64(i), Upto: int64(i)})
		publish(t, from, &bus.Frame{Keyspace: name, Prev: 1000, Upto: 1000})
	}
	for i, name := range names {
		for _, want := range []int64{int64(i), 1000} {
			if f := ins[i].next(t); f.Keyspace != name || f.Upto != want {
				t.Errorf("%q got %q %d, want %d", name, f.Keyspace, f.Upto, want)
			}
		}
	}
}

func testLongName(t *testing.T, m Medium) {
	b := connect(t, m)
	name := strings.Repeat("n", bus.KeyspaceMax+1)
	if err := b.Publish(&bus.Frame{Keyspace: name}); !errors.Is(err, bus.ErrKeyspace) {
		t.Error("Publish:", err)
	}
	if _, err := b.Subscribe(name, func(*bus.Frame) {}); !errors.Is(err, bus.ErrKeyspace) {
		t.Error("Subscribe:", err)
	}
	if _, err := b.OnNudge(name, func() {}); !errors.Is(err, bus.ErrKeyspace) {
		t.Error("OnNudge:", err)
	}
	b.Nudge(name) // does nothing
}

// testSubscribers: all get everything, and may be the publisher's own process.
func testSubscribers(t *testing.T, m Medium) {
	from := connect(t, m)
	var ins []inbox
	for range 3 {
		in, _ := subscribe(t, connect(t, m), from, "default")
		ins = append(ins, in)
	}
	for range 2 {
		in, _ := subscribe(t, from, from, "default")
		ins = append(ins, in)
	}
	for i := range int64(50) {
		publish(t, from, &bus.Frame{Keyspace: "default", Prev: i, Upto: i})
	}
	for _, in := range ins {
		for i := range int64(50) {
			if f := in.next(t); f.Upto != i {
				t.Fatalf("got %d, want %d", f.Upto, i)
			}
		}
	}
}

// testCancel: after cancel nothing comes any more, others get theirs, and a new subscription does too.
func testCancel(t *testing.T, m Medium) {
	from, to := connect(t, m), connect(t, m)
	var over, late atomic.Bool
	cancel, err := to.Subscribe("default", func(*bus.Frame) {
		if over.Load() {
			late.Store(true)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	in, _ := subscribe(t, to, from, "default")
	for i := range int64(1000) {
		if i == 500 {
			cancel()
			over.Store(true)
		}
		publish(t, from, &bus.Frame{Keyspace: "default", Prev: i, Upto: i})
	}
	for i := range int64(1000) {
		if f := in.next(t); f.Upto != i {
			t.Fatalf("got %d, want %d", f.Upto, i)
		}
	}
	if late.Load() {
		t.Error("called after cancel")
	}
	cancel() // does nothing
	in, _ = subscribe(t, to, from, "default")
	publish(t, from, &bus.Frame{Keyspace: "default", Upto: 3})
	if f := in.next(t); f.Upto != 3 {
		t.Errorf("got %d", f.Upto)
	}
}

// testNudges: a nudge arrives, and after many there is one that began after the last, so that whoever looks then sees
// all.
func testNudges(t *testing.T, m Medium) {
	from, to := connect(t, m), connect(t, m)
	var written, seen atomic.Int64
	nudged := make(chan struct{}, 1)
	cancel, err := to.OnNudge("default", func() {
		seen.Store(written.Load())
		select {
		case nudged <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, nudged, func() { from.Nudge("default") })
	for range 1000 {
		written.Add(1)
		from.Nudge("default")
	}
	after := time.After(deadline)
	for seen.Load() < 1000 {
		select {
		case <-nudged:
		case <-after:
			t.Fatalf("the last nudge that came was at %d", seen.Load())
		}
	}
	cancel()
	from.Nudge("default")
	from.Nudge("nobody")
}

// testSlowSubscriber: a subscriber that does not return holds up neither another process's frames nor, if the
// processes are different ones, the publisher. Frames that it takes later are in order.
func testSlowSubscriber(t *testing.T, m Medium) {
	from, slow, quick := connect(t, m), connect(t, m), connect(t, m)
	if from == slow {
		t.Skip("all in one process: subscribers must be quick")
	}
	hold, began := make(chan struct{}), make(chan struct{}, 1)
	var last atomic.Int64
	cancel, err := slow.Subscribe("default", func(f *bus.Frame) {
		select {
		case began <- struct{}{}:
		default:
		}
		<-hold
		if f.Ballot != probe && last.Swap(f.Upto) >= f.Upto {
			t.Error("not in order")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, began, func() { publish(t, from, &bus.Frame{Keyspace: "default", Ballot: probe}) })
	in, _ := subscribe(t, quick, from, "default")
	payload := make([]byte, 10000)
	for i := range int64(2000) {
		publish(
			t,
			from,
			&bus.Frame{
				Keyspace: "default",
				Prev:     i,
				Upto:     i + 1,
				Entries:  []revlog.Payload{{Rev: i + 1, Bytes: payload}},
			},
		)
		if f := in.next(t); f.Upto != i+1 {
			t.Fatalf("got %d, want %d", f.Upto, i+1)
		}
	}
	close(hold)
	cancel()
}

func testClose(t *testing.T, m Medium) {
	b := connect(t, m)
	in, cancel := subscribe(t, b, b, "default")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error("again:", err)
	}
	if err := b.Publish(&bus.Frame{Keyspace: "default"}); !errors.Is(err, bus.ErrClosed) {
		t.Error("Publish:", err)
	}
	if _, err := b.Subscribe("default", func(*bus.Frame) {}); !errors.Is(err, bus.ErrClosed) {
		t.Error("Subscribe:", err)
	}
	if _, err := b.OnNudge("default", func() {}); !errors.Is(err, bus.ErrClosed) {
		t.Error("OnNudge:", err)
	}
	b.Nudge("default")
	cancel()
	select {
	case f := <-in:
		t.Errorf("got %d", f.Upto)
	default:
	}
}

// testConcurrent: publishers, subscribers that come and go and Close do not get into each other's way, and each
// publisher's frames come in order.
func testConcurrent(t *testing.T, m Medium) {
	const publishers, frames = 4, 300
	to := connect(t, m)
	var last [publishers]atomic.Int64
	var busy atomic.Int32
	full := make(chan struct{})
	cancel, err := to.Subscribe("default", func(f *bus.Frame) {
		if busy.Add(1) != 1 {
			t.Error("called twice at a time")
		}
		defer busy.Add(-1)
		if f.Ballot == probe {
			return
		}
		if last[f.Ballot].Swap(f.Upto) >= f.Upto {
			t.Error("not in order")
		}
		for i := range last {
			if last[i].Load() < frames {
				return
			}
		}
		close(full)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	var wg sync.WaitGroup
	for p := range publishers {
		b := connect(t, m)
		_, stop := subscribe(t, to, b, "default")
		stop()
		wg.Go(func() {
			for i := range int64(frames) {
				if err := b.Publish(
					&bus.Frame{Keyspace: "default", Ballot: uint64(p), Prev: i, Upto: i + 1},
				); err != nil {
					t.Error(err)
				}
				b.Nudge("default")
				if i%50 == 0 {
					stop, err := b.Subscribe("default", func(*bus.Frame) {})
					if err != nil {
						t.Error(err)
						return
					}
					stop()
				}
			}
		})
	}
	wg.Wait()
	select {
	case <-full:
	case <-time.After(deadline):
		t.Error("frames are missing")
	}
}
