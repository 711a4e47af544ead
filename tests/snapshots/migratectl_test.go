package snapshots

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

// process is a running headwaterctl.
type process struct {
	*exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	text chan struct{} // capacity 1: signals more output
}

// Write implements io.Writer for both outputs.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.text <- struct{}{}:
	default:
	}
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// await waits until the output contains a text.
func (p *process) await(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for !strings.Contains(p.output(), text) {
		select {
		case <-p.text:
		case <-ctx.Done():
			t.Fatalf("%q is not in %s", text, p.output())
		}
	}
}

// start starts headwaterctl.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), ctl(t), args...), text: make(chan struct{}, 1)}
	p.Stdout, p.Stderr = p, p
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// runCtl runs headwaterctl, which must succeed, and returns its output.
func runCtl(t *testing.T, args ...string) string {
	t.Helper()
	p := start(t, args...)
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %v, %s", args, err, p.output())
	}
	return p.output()
}

// TestMigrateSecured moves an etcd with client certificates and users into the first keyspace of a server, by the
// commands of the README. It adds a user during the migration.
func TestMigrateSecured(t *testing.T) {
	a := tlstest.New(t, "authority")
	server, client := a.Server("etcd"), a.Issue("client", tlstest.Name{CN: "client"})
	etcd, err := refetcd.Start(func(c *embed.Config) {
		c.ClientTLSInfo = transport.TLSInfo{
			CertFile: server.CertFile, KeyFile: server.KeyFile, TrustedCAFile: a.CAFile, ClientCertAuth: true,
		}
		u := url.URL{Scheme: "https", Host: c.ListenClientUrls[0].Host}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Remove)
	from := "https://" + etcd.Addr()
	as := func(user, password string) *clientv3.Client {
		t.Helper()
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{from}, TLS: a.Client(client), DialTimeout: timeout, Logger: zap.NewNop(),
			Username: user, Password: password,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	addUsers(t, as("", ""))
	dir := t.TempDir()
	file, data := filepath.Join(dir, "etcd.db"), filepath.Join(dir, "moved")
	runCtl(t, "snapshot", "save", file, "--client-endpoint", from, "--user", "root:r",
		"--cacert", a.CAFile, "--cert", client.CertFile, "--key", client.KeyFile)
	runCtl(t, "snapshot", "restore", file, "--data-dir", data, "--follow")
	s := hw.Run(t, hw.Headwater(t), data, "--disk-reserve-bytes=-1", "--bcrypt-cost=4")
	args := []string{
		"--endpoints", filepath.Join(data, config.AdminSocket), "migrate", "--from", from, "--from-user", "root:r",
		"--from-cacert", a.CAFile, "--from-cert", client.CertFile, "--from-key", client.KeyFile,
	}
	if out := runCtl(t, append(args, "--check")...); !strings.Contains(out, "the keyspace can hold everything") {
		t.Errorf("check: %s", out)
	}
	root := as("root", "r")
	if _, err := root.UserAdd(t.Context(), "late", "l"); err != nil {
		t.Fatal(err)
	}
	p := start(t, args...)
	p.await(t, "equal")
	if _, err := root.UserAdd(t.Context(), "later", "l"); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Put(t.Context(), "mine", "2"); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Fatalf("interrupted: %v, %s", err, p.output())
	}
	out := runCtl(t, append(args, "--cut-over")...)
	t.Log(out)
	if !strings.Contains(out, "cut over at revision 4 ") || !strings.Contains(out, "users copied again") {
		t.Errorf("cut over: %s", out)
	}
	for _, user := range []string{"late", "later"} {
		if _, err := login(t, s.URL(), user, "l"); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
	usersOf(t, s.URL())
	if here, err := login(t, s.URL(), "root", "r"); err != nil {
		t.Error(err)
	} else if r, err := here.Put(t.Context(), "mine", "3"); err != nil || r.Header.Revision != 5 {
		t.Errorf("a write afterwards: %v, %v", r, err)
	}
}

// TestMigrateOtherSource: a keyspace that was restored from a snapshot refuses to follow an etcd that the snapshot is
// not from, and still follows the right one.
func TestMigrateOtherSource(t *testing.T) {
	source, other := dial(t, etcdOf(t, "")), dial(t, etcdOf(t, ""))
	file, data := filepath.Join(t.TempDir(), "etcd.db"), filepath.Join(t.TempDir(), "moved")
	put := func(c *clientv3.Client, key string) {
		t.Helper()
		if _, err := c.Put(t.Context(), key, "v"); err != nil {
			t.Fatal(err)
		}
	}
	put(source, "mine")
	put(source, "mine too")
	runCtl(t, "snapshot", "save", file, "--client-endpoint", source.Endpoints()[0])
	runCtl(t, "snapshot", "restore", file, "--data-dir", data, "--follow")
	s := hw.Run(t, hw.Headwater(t), data, "--disk-reserve-bytes=-1")
	migrate := []string{"--endpoints", filepath.Join(data, config.AdminSocket), "migrate", "--cut-over", "--from"}
	for _, more := range []string{"behind the file", "at the file's revision", "before it"} {
		put(other, "another's")
		p := start(t, append(migrate, other.Endpoints()[0])...)
		if err := p.Wait(); err == nil || !strings.Contains(p.output(), "snapshot of another etcd") {
			t.Fatalf("another etcd, %s: %v, %s", more, err, p.output())
		}
	}
	put(source, "mine as well")
	if out := runCtl(t, append(migrate, source.Endpoints()[0])...); !strings.Contains(out, "cut over at revision 4 ") {
		t.Errorf("cut over: %s", out)
	}
	if want, got := contents(t, source), contents(t, dial(t, s.URL())); !slices.Equal(want, got) {
		t.Errorf("%v became %v", want, got)
	}
}

// TestMigrateKilled: whichever process is killed during a migration, the migration goes on and ends with a complete
// copy, and nothing is left in its working directory.
func TestMigrateKilled(t *testing.T) {
	seed := rand.Uint64N(1 << 32)
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	source := dial(t, etcdOf(t, ""))
	compact := fill(t, source, seed, true)
	g := &traffic{Rand: r, c: source}
	s := hw.Run(t, hw.Headwater(t), filepath.Join(t.TempDir(), "headwater"),
		"--disk-reserve-bytes=-1", "--keyspace-domain="+domain)
	work := t.TempDir()
	args := []string{
		"--endpoints", filepath.Join(s.DataDir(), config.AdminSocket), "migrate",
		"--from", source.Endpoints()[0], "-k", "k", "--work-dir", work,
	}
	for round := range 6 {
		p := start(t, args...)
		if round > 1 {
			p.await(t, "revision") // the first runs may be killed before they have done anything, or while they copy
		}
		for range r.IntN(20) {
			g.step(t, false)
		}
		if round%2 == 0 {
			if err := p.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
			_ = p.Wait()
			continue
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		g.step(t, false)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		_ = p.Process.Signal(os.Interrupt) // it may have ended already, in a phase that does not retry
		_ = p.Wait()
		t.Logf("over a restart: %s", p.output())
	}
	t.Log(runCtl(t, append(args, "--cut-over")...))
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	same(t, "after the cut-over", pictureOf(t, source, compact), pictureOf(t, dialKeyspace(t, s.URL(), "k"), compact))
}
