package compare

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// readyTimeout is how long a server may take to answer its first request; a large data directory may take a while.
	readyTimeout = 5 * time.Minute
	// stopTimeout is how long a server may take to stop cleanly before it is killed.
	stopTimeout = time.Minute
	// quotaBytes is the database quota of all servers: larger than any run needs.
	quotaBytes = 64 << 30
	logTail    = 2000 // bytes of a server's log shown when it fails
)

// target is a server that can be started.
type target struct {
	name    string
	title   string // name and version
	command string // how it is started, for the report
	binary  string
	args    func(dir string, client, peer int) []string
}

func etcdTarget(binary string) *target {
	return &target{name: nameEtcd, binary: binary, args: func(dir string, client, peer int) []string {
		c, p := localURL(client), localURL(peer)
		return append(
			clientArgs(dir, c),
			"--listen-peer-urls="+p,
			"--initial-advertise-peer-urls="+p,
			"--initial-cluster=bench="+p,
		)
	}}
}

func headwaterTarget(binary string, extra []string) *target {
	return &target{name: nameHeadwater, binary: binary, args: func(dir string, client, _ int) []string {
		return append(clientArgs(dir, localURL(client)), extra...)
	}}
}

func clientArgs(dir, url string) []string {
	return []string{
		"--name=bench", "--data-dir=" + dir, "--listen-client-urls=" + url, "--advertise-client-urls=" + url,
		"--quota-backend-bytes=" + strconv.FormatInt(quotaBytes, 10), "--log-level=error",
	}
}

func nullTarget(hwbench string) *target {
	return &target{name: nameNull, binary: hwbench, args: func(_ string, client, _ int) []string {
		return []string{"null-server", "--listen=127.0.0.1:" + strconv.Itoa(client)}
	}}
}

// secureArgs give a server TLS, with a certificate that it makes by itself. They come last, so that they override
// earlier flags.
func secureArgs(port int) []string {
	url := "https://127.0.0.1:" + strconv.Itoa(port)
	return []string{"--auto-tls", "--listen-client-urls=" + url, "--advertise-client-urls=" + url}
}

func localURL(port int) string { return "http://127.0.0.1:" + strconv.Itoa(port) }

// server is a running target.
type server struct {
	endpoint string // host:port
	tls      bool
	users    bool // authentication is enabled; see withUsers
	started  time.Time
	cmd      *exec.Cmd
	logPath  string
	exited   chan struct{} // closed when the process is gone
	waitErr  error         // valid after exited
}

// startOptions are how a server differs from run to run.
type startOptions struct {
	dir   string // data directory; kept
	args  []string
	env   []string
	limit *memoryGroup // may be nil
	tls   bool         // connections have TLS
}

// start starts the target and returns once it has answered a linearizable range. The process is killed when ctx ends.
func (t *target) start(ctx context.Context, o startOptions) (*server, error) {
	client, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	peer, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	logFile, err := os.Create(o.dir + ".log")
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	s := &server{
		endpoint: "127.0.0.1:" + strconv.Itoa(client),
		tls:      o.tls,
		logPath:  logFile.Name(),
		exited:   make(chan struct{}),
	}
	args := slices.Concat(t.args(o.dir, client, peer), o.args)
	if o.tls {
		args = append(args, secureArgs(client)...)
	}
	s.cmd = exec.CommandContext(ctx, t.binary, args...)
	s.cmd.Env = append(os.Environ(), o.env...)
	s.cmd.Stdout, s.cmd.Stderr = logFile, logFile
	s.cmd.SysProcAttr = childAttr()
	s.started = time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", t.name, err)
	}
	go func() {
		s.waitErr = s.cmd.Wait()
		close(s.exited)
	}()
	if o.limit != nil {
		err = o.limit.add(s.cmd.Process.Pid)
	}
	if err == nil {
		err = s.ready(ctx)
	}
	if err != nil {
		s.kill()
		return nil, fmt.Errorf("start %s: %w%s", t.name, err, s.logEnd())
	}
	return s, nil
}

func freePort(ctx context.Context) (int, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port, nil
}

// ready waits for the first answer. It dials anew every few milliseconds, so that a server's start can be timed.
func (s *server) ready(ctx context.Context) error {
	const redial = 2 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errors.New("no answer in time"))
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.exited:
			cancel()
		case <-stop:
		}
	}()
	creds := insecure.NewCredentials()
	if s.tls {
		creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient(
		"passthrough:///"+s.endpoint,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(
			grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: redial, Multiplier: 1, MaxDelay: redial},
				MinConnectTimeout: readyTimeout,
			},
		),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	for {
		_, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}}, grpc.WaitForReady(true))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(redial): // it answers, but cannot serve yet
		}
	}
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop asks the server to stop and waits until it is gone; after stopTimeout it is killed, which is an error.
func (s *server) stop() error {
	select {
	case <-s.exited:
		return fmt.Errorf("the server ended before it was stopped: %w%s", s.waitErr, s.logEnd())
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.exited:
		return nil
	case <-timer.C:
		s.kill()
		return fmt.Errorf("the server did not stop within %v", stopTimeout)
	}
}

// kill ends the process, if it still runs, and waits for it.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // fails only if it is gone
	<-s.exited
}

func (s *server) logEnd() string {
	b, err := os.ReadFile(s.logPath)
	if err != nil || len(b) == 0 {
		return ""
	}
	return "\nits log ends:\n" + strings.TrimSpace(string(b[max(0, len(b)-logTail):]))
}

// tempDir makes a directory for the data of one measurement; remove deletes it and the log beside it.
func tempDir(parent string) (dir string, remove func(), err error) {
	top, err := os.MkdirTemp(parent, "headwater-bench-")
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(top, "data"), func() { _ = os.RemoveAll(top) }, nil
}
