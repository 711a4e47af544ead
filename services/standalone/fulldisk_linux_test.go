package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// atOnce ends the wait for an answer that should come at once. A server that hangs gives none before there is room.
const atOnce = 2 * time.Minute

// smallDisk mounts a tmpfs of so many MiB.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("SKIPPED: A FULL DISK IS NOT TESTED, a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// noSpaceOrDone fails the test if an error is anything but etcd's for a full disk, and tells whether there was none.
func noSpaceOrDone(t *testing.T, what string, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("%s: %v", what, err)
	}
	return err == nil
}

// fillWith puts values of the given sizes until one is refused, and returns how many were taken.
func fillWith(t *testing.T, c *clientv3.Client, sizes ...int) int {
	t.Helper()
	for i := range 1_000_000 {
		ctx, cancel := context.WithTimeout(t.Context(), atOnce)
		_, err := c.Put(ctx, fmt.Sprintf("f%07d", i), value(sizes[i%len(sizes)]))
		cancel()
		if !noSpaceOrDone(t, fmt.Sprint("put ", i), err) {
			return i
		}
	}
	t.Fatal("the disk does not fill")
	return 0
}

// compactNow compacts all revisions, which a full disk never refuses.
func compactNow(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), atOnce)
	defer cancel()
	r, err := c.Get(ctx, "f", clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err == nil {
		_, err = c.Compact(ctx, r.Header.Revision)
	}
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("compact on a full disk: %v", err)
	}
}

// emptyByTens deletes everything ten keys at a time, with compactions where the disk has no room for a delete.
func emptyByTens(t *testing.T, c *clientv3.Client, keys int) {
	t.Helper()
	for from := 0; from < keys; from += 10 {
		eventually(t, fmt.Sprintf("deleted keys %d … of %d", from, keys), func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), atOnce)
			defer cancel()
			_, err := c.Delete(ctx, fmt.Sprintf("f%07d", from), clientv3.WithRange(fmt.Sprintf("f%07d", from+10)))
			if noSpaceOrDone(t, "delete", err) {
				return true
			}
			compactNow(t, c)
			return false
		})
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

// TestFullDiskLeadsOut: whatever has filled the disk, deletes and compactions make room on it, every answer comes at
// once, and the server can be stopped and started at any point.
func TestFullDiskLeadsOut(t *testing.T) {
	for name, d := range map[string]struct {
		mib   int
		sizes []int
	}{
		"96 MiB, 8 KiB":   {96, []int{8 << 10}},
		"96 MiB, 400 kB":  {96, []int{400_000}},
		"96 MiB, mixed":   {96, []int{10, 64 << 10, 3000, 1_000_000}},
		"512 MiB, 1.4 MB": {512, []int{1_400_000}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, d.mib)
			data := filepath.Join(dir, "d")
			p := start(t, data)
			c := p.client(t)
			n := fillWith(t, c, d.sizes...)
			t.Logf("%d keys", n)

			// All at once: done or refused, and nothing hangs.
			ctx, cancel := context.WithTimeout(t.Context(), atOnce)
			_, err := c.Delete(ctx, "f", clientv3.WithPrefix())
			cancel()
			t.Logf("delete of everything: %v", err)
			noSpaceOrDone(t, "delete of everything", err)
			p.stop(t, syscall.SIGKILL)
			p = start(t, data)
			c = p.client(t)
			if _, err := c.Get(t.Context(), "f", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil {
				t.Fatal("no reads after a start on a full disk:", err)
			}
			emptyByTens(t, c, n)
			compactNow(t, c)
			eventually(t, "taking writes again", func() bool { return noSpaceOrDone(t, "put", put(t, c, "k", value(d.sizes[0]))) })
			m := 0
			eventually(t, "as empty as at first", func() bool {
				m = fillWith(t, c, d.sizes...)
				if m >= n*8/10 {
					return true
				}
				emptyByTens(t, c, m)
				compactNow(t, c)
				return false
			})
			t.Logf("%d keys the second time", m)
			begin := time.Now()
			p.stop(t, syscall.SIGTERM)
			t.Logf("SIGTERM took %v", time.Since(begin))
		})
	}
}

// TestStartOnFullDisk: another process fills the disk to the last byte. A start serves reads, says what it waits for,
// refuses writes at once, ends when it is told to, and takes writes when there is room.
func TestStartOnFullDisk(t *testing.T) {
	dir := smallDisk(t, 96)
	data := filepath.Join(dir, "d")
	p := start(t, data)
	c := p.client(t)
	n := fillWith(t, c, 20_000)
	hog := filepath.Join(dir, "hog")
	fillFile(t, hog)
	eventually(t, "the ballast given back", func() bool {
		return strings.Contains(p.out.String(), "the ballast file has been removed")
	})
	fillFile(t, hog)
	p.stop(t, syscall.SIGKILL)
	fillFile(t, hog)
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		p = start(t, data)
		c = p.client(t)
		r, err := c.Get(t.Context(), "f", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil || r.Count < int64(n-1) {
			t.Fatalf("%v of %d keys: %v", r, n, err)
		}
		if got := get(t, c, "f0000001"); len(got) != 20_000 {
			t.Fatal("a value cannot be read")
		}
		if noSpaceOrDone(t, "put", put(t, c, "k", "v")) {
			t.Fatal("a write was taken on a disk without a free byte")
		}
		if !strings.Contains(p.out.String(), "reads are served, writes wait for space") {
			t.Error("the server does not say what it waits for")
		}
		p.stop(t, sig)
	}
	p = start(t, data)
	c = p.client(t)
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	emptyByTens(t, c, n)
	compactNow(t, c)
	eventually(t, "taking writes", func() bool { return noSpaceOrDone(t, "put", put(t, c, "k", "v")) })
	p.stop(t, syscall.SIGTERM)
}

// fillFile lets a file grow until the disk has no free byte.
func fillFile(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := 1 << 20; chunk > 0; {
		if _, err := f.Write(make([]byte, chunk)); err != nil {
			chunk /= 2
		}
	}
}
