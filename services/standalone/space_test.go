package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
