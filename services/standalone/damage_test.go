package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// flipIn flips one bit of the first place in a store's tables that holds what. Rows of the current keys lie before
// those of the log.
func flipIn(t *testing.T, dir, what string) (file string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, storeDir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, []byte(what)); at >= 0 {
			b[at+len(what)/2] ^= 1
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return filepath.Base(name)
		}
	}
	t.Fatal("no table holds the value")
	return ""
}

// page returns the code and the body of a page.
func (p *process) page(t *testing.T, path string) (int, string) {
	t.Helper()
	r, err := http.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// TestDamagedTable: one flipped bit in a table. What needs it fails with DataLoss and says what is damaged, at once;
// the alarm CORRUPT is up and the server not ready, but alive; and clients that hammer the damaged key do not disturb
// the others.
func TestDamagedTable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	p := start(t, dir)
	c := p.client(t)
	const keys, damaged = 120, "k0060"
	var content string // of the damaged key
	for i := range keys {
		key, v := fmt.Sprintf("k%04d", i), value(500)
		if key == damaged {
			content = v
		}
		if err := put(t, c, key, v); err != nil {
			t.Fatal(err)
		}
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatal(code)
	}
	file := flipIn(t, dir, content)
	p = start(t, dir)
	c = p.client(t)
	if code, body := p.page(t, "/readyz"); code != http.StatusOK {
		t.Fatalf("before anybody has met the damage: %d %s", code, body)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	wantLoss := func(what string, err error) {
		t.Helper()
		if s := status.Convert(err); s.Code() != codes.DataLoss || !strings.Contains(s.Message(), file) || !strings.Contains(s.Message(), `"k`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := c.Get(ctx, damaged)
	wantLoss("get", err)
	_, err = c.Get(ctx, "k", clientv3.WithPrefix())
	wantLoss("list", err)
	_, err = c.Put(ctx, damaged, "v")
	wantLoss("put", err)
	_, err = c.Delete(ctx, "k0", clientv3.WithPrefix())
	wantLoss("delete of a prefix", err)
	_, err = c.Txn(ctx).Then(clientv3.OpPut("x", "v"), clientv3.OpGet("k00", clientv3.WithPrefix())).Commit()
	wantLoss("txn", err)
	if get(t, c, "k0001") == "" || get(t, c, "x") != "" {
		t.Error("other keys are not as they should be")
	}
	eventually(t, "raising the alarm", func() bool {
		a, err := c.AlarmList(ctx)
		return err == nil && slices.ContainsFunc(a.Alarms, func(m *pb.AlarmMember) bool {
			return m.Alarm == pb.AlarmType_CORRUPT && m.MemberID == a.Header.MemberId
		})
	})
	if code, body := p.page(t, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "[-]data_corruption failed: alarm activated: CORRUPT") ||
		strings.Count(body, "[-]") != 1 {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, body := p.page(t, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d %s", code, body)
	}
	if code, body := p.page(t, "/health"); code != http.StatusServiceUnavailable || !strings.Contains(body, "ALARM CORRUPT") {
		t.Errorf("/health: %d %s", code, body)
	}

	// Ten clients on the damaged key, and one that has nothing to do with it.
	hammering, calm := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for hammering.Err() == nil {
				if _, err := c.Put(ctx, damaged, "v"); status.Code(err) != codes.DataLoss {
					t.Errorf("put of the damaged key: %v", err)
					return
				}
			}
		})
	}
	for i := range 200 {
		if _, err := c.Put(ctx, fmt.Sprintf("other%03d", i), "v"); err != nil {
			t.Errorf("put %d of another key: %v", i, err)
			break
		}
	}
	calm()
	wg.Wait()

	// Clearing the alarm does not mend anything: it is back when the damage is met again, after a restart too.
	if _, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	if code, body := p.page(t, "/readyz"); code != http.StatusOK {
		t.Errorf("after disarming: %d %s", code, body)
	}
	_, err = c.Get(ctx, damaged)
	wantLoss("get", err)
	eventually(t, "raising the alarm again", func() bool { code, _ := p.page(t, "/readyz"); return code == http.StatusServiceUnavailable })
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p = start(t, dir)
	if code, body := p.page(t, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "data_corruption") {
		t.Errorf("after a restart: %d %s", code, body)
	}
}
