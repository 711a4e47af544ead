package snapshots

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/libs/backup"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

// run runs headwaterctl to its end.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), ctl(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("headwaterctl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// list lists the backups of a place.
func list(t *testing.T, place backup.Dir) []backup.Manifest {
	t.Helper()
	ms, bad, err := backup.NewRepository(place, backup.Keys{}, "").List(t.Context())
	if err != nil || len(bad) > 0 {
		t.Fatal(bad, err)
	}
	return ms
}

// grow waits until n more backups are there.
func grow(t *testing.T, place backup.Dir, n int) {
	t.Helper()
	newest := func() string {
		if ms := list(t, place); len(ms) > 0 {
			return ms[len(ms)-1].ID
		}
		return ""
	}
	last := newest()
	for begun := time.Now(); n > 0; runtime.Gosched() {
		if now := newest(); now != last {
			last = now
			n--
		}
		if time.Since(begun) > timeout {
			t.Fatalf("%d backups are still to come", n)
		}
	}
}

// TestBackups runs scheduled backups while a client writes, and kills the backup process at random moments. Every
// listed backup is complete. A restore has the data of the backup's moment, any revision in between can be restored,
// and the drill passes.
func TestBackups(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	_ = ctl(t) // is built before anything is written
	endpoint := headwaterOf(t, "")
	c := dial(t, endpoint)
	place := backup.Dir(filepath.Join(t.TempDir(), "backups"))
	if _, err := c.Put(t.Context(), "n", "0"); err != nil { // revision 2
		t.Fatal(err)
	}
	writes, stop := context.WithCancel(t.Context())
	wrote := make(chan error)
	go func() {
		for i := 1; ; i++ { // value i has revision i+2
			if _, err := c.Put(writes, "n", fmt.Sprint(i), clientv3.WithPrevKV()); err != nil {
				if writes.Err() != nil {
					err = nil
				}
				wrote <- err
				return
			}
		}
	}()
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), ctl(t), "backup", "run", "--to="+string(place), "--full-every=300ms",
			"--log-every=1ms", "--keep-fulls=3", "--client-endpoint="+endpoint, "--tmp-dir="+t.TempDir())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	for range 3 {
		cmd := start()
		grow(t, place, 1+rnd.IntN(4))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		run(t, "backup", "verify", "--from="+string(place))
	}
	cmd := start()
	grow(t, place, 1)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
	stop()
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	last, err := c.Get(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "backup", "save", "--to="+string(place), "--client-endpoint="+endpoint)
	ms := list(t, place)
	newest := ms[len(ms)-1]
	// The last write may have come after the backup.
	if newest.Kind != backup.Log || newest.Revision < last.Header.Revision {
		t.Errorf("the last backup is %+v, the revision %d", newest, last.Header.Revision)
	}
	for _, rev := range []int64{0, ms[0].Revision + (newest.Revision-ms[0].Revision)/2} {
		restored(t, place, rev, newest.Revision)
	}
	drill(t, place)
	// The schedule may have made a second full backup or not.
	run(t, "backup", "save", "--full", "--to="+string(place), "--client-endpoint="+endpoint)
	if out := run(t, "backup", "prune", "--from="+string(place), "--keep-fulls=1"); !strings.Contains(out, "-full-") {
		t.Errorf("pruned: %q", out)
	}
	run(t, "backup", "verify", "--from="+string(place), "--newest", "--max-age=1h")
}

// restored restores a revision (0: the newest), starts a server on it and checks its data.
func restored(t *testing.T, place backup.Dir, rev, newest int64) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	args := []string{"backup", "restore", "--from=" + string(place), "--data-dir=" + dir}
	if rev > 0 {
		args = append(args, "--at="+fmt.Sprint(rev))
	} else {
		rev = newest
	}
	run(t, args...)
	s := hw.Run(t, hw.Headwater(t), dir, "--disk-reserve-bytes=-1")
	r, err := dial(t, s.Endpoint()).Get(t.Context(), "n")
	if err != nil || r.Header.Revision != rev || string(r.Kvs[0].Value) != fmt.Sprint(rev-2) ||
		r.Kvs[0].ModRevision != rev || r.Kvs[0].Version != rev-1 {
		t.Errorf("restored at %d: %v, %v", rev, r, err)
	}
	if err := s.Kill(); err != nil {
		t.Error(err)
	}
}

// drill runs deploy/restore-drill on a good backup and on a damaged one.
func drill(t *testing.T, place backup.Dir) {
	t.Helper()
	tmp := t.TempDir()
	try := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), "../../deploy/restore-drill", "--from", string(place))
		cmd.Env = append(os.Environ(), "HEADWATER="+hw.Headwater(t).Path, "HEADWATERCTL="+ctl(t), "TMPDIR="+tmp)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := try(); err != nil || !strings.Contains(out, "restore-drill: passed") {
		t.Errorf("the drill: %v\n%s", err, out)
	}
	ms := list(t, place)
	object := filepath.Join(string(place), ms[len(ms)-1].Object)
	whole, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(object, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := try(); err == nil || !strings.Contains(out, "is damaged") {
		t.Errorf("the drill on a damaged backup: %v\n%s", err, out)
	}
	if err := os.WriteFile(object, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the drill has left %v, %v", left, err)
	}
}
