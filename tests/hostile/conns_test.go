package hostile

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/tests/internal/attack"
)

// TestSilent: there are more silent connections than the server keeps, and it still serves other clients. It closes the
// oldest silent connections and keeps the youngest. The same holds for connections that stop in the middle of the
// preface.
func TestSilent(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "half a preface": attack.Preface[:9], "half a frame": attack.Preface + attack.Settings[:5],
		"half a request": "GET /health HTTP/1.1\r\nHost: ",
	} {
		if !t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T) time.Duration { return besideSilent(t, text) })
		}) {
			return // a server that hangs takes minutes for each
		}
	}
}

// besideSilent opens more connections than the server keeps, each of which sends text and then nothing. It returns how
// long other clients take beside them.
func besideSilent(t *testing.T, text string) (took time.Duration) {
	t.Helper()
	s := run(t)
	conns, err := attack.Say(within(t), s.Endpoint(), 4096+512, text)
	if err != nil {
		t.Skip("too few file descriptors for so many connections: ", err)
	}
	defer conns.Close()
	begin := time.Now()
	if _, err := client(t, s).Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	metrics(t, s) // and HTTP
	if took = time.Since(begin); took >= soon {
		return took // the youngest may have been given up too
	}
	youngest := conns[len(conns)-1]
	_ = youngest.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err = youngest.Read(make([]byte, 1))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the youngest connection: %v", err)
	}
	if err := attack.Closed(conns[0], patience); err != nil {
		t.Errorf("the oldest connection is open: %v", err)
	}
	return took
}

// TestUnfinished: of 400 puts that never end the server ends most, because of the memory they hold, and serves another
// client beside the rest.
func TestUnfinished(t *testing.T) {
	const attacks, size = 400, 1_900_000
	s := run(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	ended := make(chan string, attacks)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range attacks / 8 {
		conn := dial(t, s)
		for range 8 {
			wg.Go(func() {
				if status, err := attack.Call(ctx, conn, "/etcdserverpb.KV/Put",
					&attack.Body{Bytes: size}); err == nil {
					ended <- status
				}
			})
		}
	}
	const kept = (128 << 20) / size // as many as fit into the bound
	for range attacks - kept {
		select {
		case status := <-ended:
			if status != "4" { // DeadlineExceeded
				t.Fatalf("ended with code %s", status)
			}
		case <-ctx.Done():
			t.Fatal("calls beyond the bound have not ended")
		}
	}
	if _, err := client(t, s).Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
}

// TestSlow: a client with a link of 300 kB/s can make the largest put.
func TestSlow(t *testing.T) {
	s := run(t)
	m, err := proto.Marshal(&pb.PutRequest{Key: []byte("slow"), Value: []byte(strings.Repeat("v", 1_500_000))})
	if err != nil {
		t.Fatal(err)
	}
	status, err := attack.Call(within(t), dial(t, s), "/etcdserverpb.KV/Put",
		&attack.Body{Whole: m, Chunk: 15_000, Pause: 50 * time.Millisecond})
	if err != nil || status != "0" {
		t.Fatal(status, err)
	}
	if r, err := client(t, s).Get(within(t), "slow", clientv3.WithCountOnly()); err != nil || r.Count != 1 {
		t.Error(r, err)
	}
}

// TestStreamBound: the server tells a connection how many streams it may have.
func TestStreamBound(t *testing.T) {
	const want = 10_000
	s := run(t)
	conns, err := attack.Say(within(t), s.Endpoint(), 1, attack.Preface+attack.Settings)
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	frame, err := http2.NewFramer(io.Discard, conns[0]).ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("a %T comes first", frame)
	}
	if n, ok := settings.Value(http2.SettingMaxConcurrentStreams); !ok || n != want {
		t.Errorf("%d streams (told: %v), want %d", n, ok, want)
	}
	if n, ok := settings.Value(http2.SettingMaxHeaderListSize); !ok || n > 64<<10 {
		t.Errorf("header lists of %d bytes (told: %v)", n, ok)
	}
}
