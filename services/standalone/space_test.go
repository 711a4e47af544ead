package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// value returns bytes that do not compress.
func value(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return string(b)
}

// fill puts values of 64 KiB under prefix until one is refused, and returns how many were taken.
func fill(t *testing.T, c *clientv3.Client, prefix string, most int) int {
	t.Helper()
	for i := range most {
		err := put(t, c, fmt.Sprintf("%s%06d", prefix, i), value(64<<10))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return i
		}
		if err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	return most
}

// TestQuota: the alarm comes up at the quota, refuses puts only, and goes when it is disarmed.
func TestQuota(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	p := start(t, dir, "--quota-backend-bytes", fmt.Sprint(4<<20), "--memtable-bytes", fmt.Sprint(1<<20))
	c := p.client(t)
	const most = 20000
	if n := fill(t, c, "q", most); n == most || n < 10 {
		t.Fatalf("%d puts were taken", n)
	}
	alarms, err := c.AlarmList(t.Context())
	if err != nil || len(alarms.Alarms) != 1 || alarms.Alarms[0].MemberID != alarms.Header.MemberId {
		t.Fatal(alarms, err)
	}
	st, err := c.Status(t.Context(), p.url)
	if err != nil || len(st.Errors) != 1 || !strings.Contains(st.Errors[0], "NOSPACE") {
		t.Error(st, err)
	}
	// The alarm survives a restart, without a quota too.
	p.stop(t, syscall.SIGTERM)
	p = start(t, dir)
	c = p.client(t)
	if err := put(t, c, "k", "v"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("put: %v", err)
	}
	if get(t, c, "q000003") == "" {
		t.Error("a key is missing")
	}
	d, err := c.Delete(t.Context(), "q", clientv3.WithPrefix())
	if err != nil || d.Deleted < 10 {
		t.Fatal(d, err)
	}
	if _, err := c.Compact(t.Context(), d.Header.Revision); err != nil {
		t.Error(err)
	}
	if _, err := c.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	if err := put(t, c, "k", "v"); err != nil {
		t.Error(err)
	}
}

// TestFullDisk: on a full disk writes stop with etcd's error, reads and deletes go on, nothing acknowledged is lost,
// and writes go on when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("SKIPPED: A FULL DISK IS NOT TESTED, a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	data := filepath.Join(dir, "d")
	args := []string{"--memtable-bytes", fmt.Sprint(2 << 20)}
	p := start(t, data, args...)
	c := p.client(t)
	const most = 2000
	n := fill(t, c, "f", most)
	if n == most || n < 10 {
		t.Fatalf("%d puts were taken", n)
	}
	if get(t, c, "f000000") == "" {
		t.Error("no reads on a full disk")
	}
	if _, err := c.Delete(t.Context(), "f000001"); err != nil {
		t.Error("delete:", err)
	}

	p.stop(t, syscall.SIGKILL)
	p = start(t, data, args...)
	c = p.client(t)
	r, err := c.Get(t.Context(), "f", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || r.Count != int64(n-1) {
		t.Errorf("%v keys, want %d: %v", r, n-1, err)
	}
	// Room comes from outside (a larger disk), as far as a tmpfs can be grown.
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=256m"); err != nil {
		t.Skipf("SKIPPED: THE END OF A FULL DISK IS NOT TESTED, the tmpfs cannot be grown: %v", err)
	}
	eventually(t, "taking writes again", func() bool { return put(t, c, "k", "v") == nil })
	p.stop(t, syscall.SIGTERM)
	if _, err := os.Stat(data); err != nil {
		t.Error(err)
	}
}
