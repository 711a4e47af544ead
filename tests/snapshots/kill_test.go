package snapshots

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/snapshot/datadir"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

// large fills a keyspace with values of half a megabyte. Together they are more than the buffers of an unread
// connection hold.
func large(t *testing.T, c *clientv3.Client, values int) {
	t.Helper()
	value := strings.Repeat("0123456789abcdef", 32<<10)
	for range values {
		if _, err := c.Put(t.Context(), "large", value); err != nil {
			t.Fatal(err)
		}
	}
}

// begin begins a snapshot, and reads only its first message.
func begin(t *testing.T, c *clientv3.Client) (pb.Maintenance_SnapshotClient, error) {
	t.Helper()
	stream, err := pb.NewMaintenanceClient(c.ActiveConnection()).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

// names returns the names of all files below a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		if errors.Is(err, fs.ErrNotExist) { // the store has just removed the file
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSnapshotsAreFew: a process sends two snapshots at a time, refuses a third one with etcd's code, and accepts
// another when one of them ends. If it is killed during two snapshots, it leaves none of their files and loses no data.
func TestSnapshotsAreFew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "headwater")
	s := hw.Run(t, hw.Headwater(t), dir, "--disk-reserve-bytes=-1")
	first := dial(t, s.Endpoint()) // each snapshot has a connection of its own, which nobody reads
	large(t, first, 16)
	if _, err := begin(t, first); err != nil {
		t.Fatal(err)
	}
	second := dial(t, s.Endpoint())
	if _, err := begin(t, second); err != nil {
		t.Fatal(err)
	}
	third := dial(t, s.Endpoint())
	if _, err := begin(t, third); status.Code(err) != codes.ResourceExhausted ||
		!strings.Contains(err.Error(), "too many requests") {
		t.Fatalf("a third one: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); ; { // until the server has noticed the end of the first
		_, err := begin(t, third)
		if err == nil {
			break
		}
		if status.Code(err) != codes.ResourceExhausted || time.Since(begun) > timeout {
			t.Fatalf("a snapshot after one has ended: %v", err)
		}
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, name := range names(t, dir) {
		if strings.Contains(name, "snapshot") {
			t.Errorf("%s is left", name)
		}
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.Endpoint())
	if r, err := c.Get(t.Context(), "large"); err != nil || r.Count != 1 || r.Kvs[0].Version != 16 {
		t.Errorf("afterwards: %v, %v", r, err)
	}
	save(t, s.Endpoint(), 17)
}

// TestKilledRestore: no server starts on the files that a killed restore has left, and the restore can be repeated.
func TestKilledRestore(t *testing.T) {
	c := dial(t, headwaterOf(t, ""))
	large(t, c, 80)
	path := save(t, c.Endpoints()[0], 81)
	dir := filepath.Join(t.TempDir(), "data")
	restore := func() *exec.Cmd {
		return exec.CommandContext(t.Context(), ctl(t), "snapshot", "restore", path, "--data-dir", dir)
	}
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	for tries := 0; !there(datadir.Restoring); tries++ { // on a busy machine the kill may come too late
		if tries == 10 {
			t.Fatalf("it cannot be killed in the middle: %q", names(t, dir))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		cmd := restore()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for begun := time.Now(); !there(datadir.Restoring) && !there(datadir.Store) && time.Since(begun) < timeout; {
			runtime.Gosched()
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if there(datadir.Store) {
		t.Fatalf("there is a store: %q", names(t, dir))
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	server := exec.CommandContext(ctx, hw.Headwater(t).Path, "--data-dir="+dir,
		"--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:0")
	if out, err := server.CombinedOutput(); err == nil || !strings.Contains(string(out), "was interrupted: repeat it") {
		t.Fatalf("a server started on half of a store: %s, %v", out, err)
	}
	if out, err := restore().CombinedOutput(); err != nil {
		t.Fatalf("again: %s, %v", out, err)
	}
	s := hw.Run(t, hw.Headwater(t), dir, "--disk-reserve-bytes=-1")
	if r, err := dial(t, s.Endpoint()).Get(t.Context(), "large"); err != nil || r.Kvs[0].Version != 80 {
		t.Errorf("afterwards: %v, %v", r, err)
	}
}
