package move

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/bench/proc"
)

// startTimeout bounds the start of a server, stopTimeout its end.
const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// side is one of the two servers that are measured: its binary, and how to start it.
type side struct {
	name, binary string
	args         func(dir, client, peer string) []string
}

func clientArgs(dir, client, _ string) []string {
	return []string{
		"--name=bench", "--data-dir=" + dir, "--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--quota-backend-bytes=8589934592", "--log-level=error",
	}
}

func headwater(binary string) side { return side{"headwater", binary, clientArgs} }

func etcd(binary string) side {
	return side{"etcd", binary, func(dir, client, peer string) []string {
		return append(clientArgs(dir, client, peer), "--listen-peer-urls="+peer,
			"--initial-advertise-peer-urls="+peer, "--initial-cluster=bench="+peer)
	}}
}

// server is a process of the run's own.
type server struct {
	cmd    *exec.Cmd
	client *clientv3.Client
	exited chan error
}

// start starts a server on a directory, and returns when it answers.
func (s side) start(ctx context.Context, dir string) (_ *server, err error) {
	client, peer, err := freeURLs(ctx)
	if err != nil {
		return nil, err
	}
	r := &server{exited: make(chan error, 1)}
	r.cmd = exec.Command(s.binary, s.args(filepath.Join(dir, s.name), client, peer)...) // close ends it
	r.cmd.Stderr = os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { r.exited <- r.cmd.Wait() }()
	r.client, err = clientv3.New(clientv3.Config{Endpoints: []string{client}, Logger: zap.NewNop()})
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		try, stop := context.WithTimeout(ctx, time.Second)
		_, err := r.client.Get(try, "k")
		stop()
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("%s does not answer: %w", s.name, err), r.close())
		}
	}
}

func freeURLs(ctx context.Context) (client, peer string, err error) {
	var urls [2]string
	for i := range urls {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer l.Close()
		urls[i] = "http://" + l.Addr().String()
	}
	return urls[0], urls[1], nil
}

func (r *server) pid() int { return r.cmd.Process.Pid }

// close ends the server.
func (r *server) close() (err error) {
	if r.client != nil {
		err = r.client.Close()
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(stopTimeout):
		_ = r.cmd.Process.Kill()
		<-r.exited
		err = errors.Join(err, errors.New("the server has not ended by itself"))
	}
	return err
}

// cost is what one measured operation has used.
type cost struct {
	wall, cpu time.Duration
	before    int64 // bytes of anonymous memory at the beginning; 0: not known
	peak      int64 // bytes of resident memory, of a server of anonymous memory
}

// meter measures what a server does while f runs. The peak is of anonymous memory, sampled.
func (r *server) meter(f func() error) (c cost, err error) {
	before, err := proc.CPU(r.pid())
	if err != nil {
		return c, err
	}
	if m, err := proc.ReadMemory(r.pid()); err == nil {
		c.before = m.Anon
	}
	stop, sampled := make(chan struct{}), make(chan int64)
	go func() {
		var peak int64
		for {
			if m, err := proc.ReadMemory(r.pid()); err == nil {
				peak = max(peak, m.Anon)
			}
			select {
			case <-stop:
				sampled <- peak
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	begin := time.Now()
	err = f()
	c.wall = time.Since(begin)
	close(stop)
	c.peak = <-sampled
	after, cpuErr := proc.CPU(r.pid())
	c.cpu = after - before
	return c, errors.Join(err, cpuErr)
}

// command runs a command to its end.
func command(ctx context.Context, binary string, args ...string) (c cost, err error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if c.wall = time.Since(begin); err != nil {
		return c, fmt.Errorf("%s: %w\n%s", filepath.Base(binary), err, out)
	}
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	c.peak = u.Maxrss << 10
	return c, nil
}
