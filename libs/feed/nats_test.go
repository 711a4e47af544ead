package feed

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/porttest"
)

// TestOverNATS: tailer and hubs are connected by NATS, which goes away and comes back while entries are committed,
// some of them too large for a message. Nothing is lost or repeated, and with NATS back hubs live on frames again.
func TestOverNATS(t *testing.T) {
	port := porttest.Port(t)
	var s *server.Server
	startServer := func() {
		var err error
		s, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, MaxPayload: 16 << 10})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(2 * time.Minute) {
			t.Fatal("the server does not start")
		}
	}
	stopServer := func() { s.Shutdown(); s.WaitForShutdown() }

	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	g := newGroup(t)
	defer g.stop()
	log := newFakeLog()
	connect := func() *nats.Bus {
		b, err := nats.Connect(url, nats.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	writer := connect()
	defer writer.Close()
	g.run(NewTailer(log, writer, TailerOptions{Keyspace: keyspace}).Run)
	var followers []*Follower
	var hubs []*hub
	for range 2 {
		b := connect()
		defer b.Close()
		defer g.stop() // before the bus is closed
		f, h := startReady(t, g, log, b, nil)
		followers, hubs = append(followers, f), append(hubs, h)
	}
	commit := func(n int) {
		for i := range n {
			log.commit(1, 5)
			if i%50 == 0 {
				log.commitLarge(64 << 10)
			}
			writer.Nudge(keyspace)
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	reached := func() {
		t.Helper()
		head, err := log.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
			if followers[0].Position() == head && followers[1].Position() == head {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("at %d and %d, the head is %d", followers[0].Position(), followers[1].Position(), head)
			}
		}
	}
	for range 3 {
		commit(200) // nobody is connected
		reached()
		startServer()
		frames := func(i int) int64 { return followers[i].Stats().Frames }
		before := [2]int64{frames(0), frames(1)}
		for end := time.Now().Add(2 * time.Minute); frames(0) == before[0] || frames(1) == before[1]; {
			if time.Now().After(end) {
				t.Fatalf("no frames with NATS: %+v %+v", writer.Stats(), followers[0].Stats())
			}
			commit(20)
		}
		commit(500)
		reached()
		during := make(chan struct{})
		go func() { defer close(during); commit(200) }()
		stopServer()
		<-during
	}
	reached()
	g.stop()
	for i, h := range hubs {
		h.check(log)
		if st := followers[i].Stats(); st.Strange != 0 || st.Resets != 1 {
			t.Errorf("%+v", st)
		}
	}
}
