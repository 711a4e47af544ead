package nats_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/bus/bustest"
	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/porttest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(built)
	os.Exit(leaktest.Code(code))
}

// built is the directory of what buildServer has built.
var built string

const deadline = 2 * time.Minute

// poll waits for ok.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still waiting:", what)
		}
	}
}

// medium is a server that buses connect to.
type medium struct {
	url     string
	options []natsgo.Option
}

func (m medium) Connect(t *testing.T) bus.Bus { return m.connect(t) }

func (m medium) connect(t *testing.T) *nats.Bus {
	t.Helper()
	b, err := nats.Connect(m.url, nats.Options{Name: t.Name(), NATS: m.options})
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "connection", b.Connected)
	return b
}

// embedded starts a server in this process.
func embedded(t *testing.T, change func(*server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, MaxPayload: 1 << 20}
	if change != nil {
		change(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(deadline) {
		t.Fatal("the server does not start")
	}
	return s
}

func TestEmbedded(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Medium { return medium{url: embedded(t, nil).ClientURL()} })
}

// TestEmbeddedWithoutListener: options of nats.go come through; this one needs no listener.
func TestEmbeddedWithoutListener(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Medium {
		s := embedded(t, func(o *server.Options) { o.DontListen = true })
		return medium{options: []natsgo.Option{natsgo.InProcessServer(s)}}
	})
}

// TestSmallPayloads: the server's limit is kept.
func TestSmallPayloads(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Medium {
		return medium{url: embedded(t, func(o *server.Options) { o.MaxPayload = 8 << 10 }).ClientURL()}
	})
}

// buildServer builds nats-server once.
var buildServer = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "nats-server")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "nats-server")
	out, err := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// process is a nats-server on a port of its own.
type process struct {
	path string
	port int
	cmd  *exec.Cmd
}

func newProcess(t *testing.T) *process {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: no nats-server process in short runs")
	}
	path, err := buildServer()
	if err != nil {
		t.Skip("SKIPPED: nats-server cannot be built: ", err)
	}
	p := &process{path: path, port: porttest.Port(t)}
	t.Cleanup(p.kill)
	return p
}

func (p *process) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", p.port) }

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.path, "-a", "127.0.0.1", "-p", fmt.Sprint(p.port))
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (p *process) kill() {
	if p.cmd != nil {
		// Errors: it is gone already, or was killed, as it should be.
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

func TestProcess(t *testing.T) {
	p := newProcess(t)
	p.start(t)
	bustest.Run(t, func(*testing.T) bustest.Medium { return medium{url: p.url()} })
}

// TestProcessRestart: a bus that was made before NATS was there works as soon as it is, and again after each kill.
func TestProcessRestart(t *testing.T) {
	p := newProcess(t)
	testRestart(t, p.url(), func() { p.start(t) }, p.kill)
}

// TestEmbeddedRestart is the same within the process.
func TestEmbeddedRestart(t *testing.T) {
	port := porttest.Port(t)
	var s *server.Server
	start := func() { s = embedded(t, func(o *server.Options) { o.Port = port }) }
	kill := func() { s.Shutdown(); s.WaitForShutdown() }
	testRestart(t, fmt.Sprintf("nats://127.0.0.1:%d", port), start, kill)
}

func testRestart(t *testing.T, url string, start, kill func()) {
	from, err := nats.Connect(url, nats.Options{})
	if err != nil {
		t.Fatal("NATS is not there:", err)
	}
	defer from.Close()
	to, err := nats.Connect(url, nats.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	var at, nudges atomic.Int64
	_, err = to.Subscribe("default", func(f *bus.Frame) {
		if f.Upto < at.Load() {
			t.Error("went back")
		}
		at.Store(f.Upto)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.OnNudge("default", func() { nudges.Add(1) }); err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	publish := func() {
		n++
		if err := from.Publish(&bus.Frame{Keyspace: "default", Prev: n, Upto: n}); err != nil {
			t.Error(err)
		}
		from.Nudge("default")
	}
	for range 100 {
		publish()
	}
	for range 3 {
		start()
		first, nudged := n, nudges.Load()
		poll(t, "frames and nudges", func() bool { publish(); return at.Load() > first && nudges.Load() > nudged })
		kill()
		poll(t, "the end of the connection", func() bool { return !from.Connected() && !to.Connected() })
		publish()
	}
	if s := to.Stats(); s.Reconnects == 0 || s.Connected || s.Received == 0 {
		t.Errorf("%+v", s)
	}
}

// TestNudgesCoalesce: a storm of nudges costs few messages.
func TestNudgesCoalesce(t *testing.T) {
	b := medium{url: embedded(t, nil).ClientURL()}.connect(t)
	defer b.Close()
	begin := time.Now()
	const nudges = 200_000
	for range nudges {
		b.Nudge("default")
	}
	if most := uint64(time.Since(begin)/nats.NudgeEvery) + 2; b.Stats().Nudges > most {
		t.Errorf("%d messages in %v", b.Stats().Nudges, time.Since(begin))
	}
}

func TestBadOptions(t *testing.T) {
	o := nats.Options{NATS: []natsgo.Option{
		natsgo.UserCredentials("/nowhere"), natsgo.RetryOnFailedConnect(false),
	}}
	if b, err := nats.Connect("nats://127.0.0.1:1", o); err == nil {
		b.Close()
		t.Error("taken")
	}
}

func TestCollector(t *testing.T) {
	b := medium{url: embedded(t, nil).ClientURL()}.connect(t)
	defer b.Close()
	problems, err := testutil.CollectAndLint(b)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	if n := testutil.CollectAndCount(b); n != 12 {
		t.Errorf("%d metrics", n)
	}
}
