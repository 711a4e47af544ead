package hostile

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/tests/internal/hw"
)

// TestLabels: whatever clients send, in any field, the text of /metrics does not grow.
func TestLabels(t *testing.T) {
	const rounds = 100
	s := run(t, "--metrics=extensive")
	c := client(t, s)
	if _, err := c.Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Get(within(t), "") // an error, for its code
	before := len(metrics(t, s))
	conn, err := grpc.NewClient(s.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(strings.Repeat("u", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range rounds {
		long := fmt.Sprint(i) + strings.Repeat("x", 10_000)
		ctx := metadata.AppendToOutgoingContext(within(t), "client-api-version", long, "hasleader", long, "token", long)
		if i%10 == 0 { // larger than any header may be: refused by the client or the server
			ctx = metadata.AppendToOutgoingContext(ctx, "client-api-version", strings.Repeat("y", 4_000_000))
		}
		kv := pb.NewKVClient(conn)
		_, _ = kv.Range(ctx, &pb.RangeRequest{Key: []byte(long)})
		_, _ = kv.Put(ctx, &pb.PutRequest{Key: []byte(long), Lease: int64(i + 1)})
		_ = conn.Invoke(ctx, "/"+long+"/"+long, &pb.PutRequest{}, &pb.PutResponse{})
		_ = conn.Invoke(ctx, "/etcdserverpb.KV/"+long, &pb.PutRequest{}, &pb.PutResponse{})
		_, _ = pb.NewMaintenanceClient(conn).Alarm(ctx, &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType(i + 100),
		})
		strangeHTTP(t, s, long)
	}
	text := metrics(t, s)
	// At most 64 client versions in etcd_server_client_requests_total, and codes that had not occurred before.
	if grown := len(text) - before; grown > 32<<10 {
		t.Errorf("the metrics have grown by %d bytes", grown)
	}
	for line := range strings.Lines(text) {
		if len(line) > 1000 {
			t.Errorf("a line of %d bytes: %.100s", len(line), line)
		}
	}
}

func strangeHTTP(t *testing.T, s *hw.Server, long string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), "M"+long[:50], s.URL()+"/metrics/"+long+"?"+long, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = long
	req.Header.Set("Origin", long)
	req.Header.Set("User-Agent", long)
	if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestAlarmTypes: an alarm that does not exist is refused (etcd keeps it), and cleared without effect, as in etcd.
func TestAlarmTypes(t *testing.T) {
	s := run(t)
	conn, err := grpc.NewClient(s.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m := pb.NewMaintenanceClient(conn)
	for _, kind := range []pb.AlarmType{-1, 3, 1 << 30} {
		if _, err := m.Alarm(within(t), &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, Alarm: kind,
		}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("type %d: %v", kind, err)
		}
		r, err := m.Alarm(within(t), &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: kind})
		if err != nil || len(r.Alarms) != 0 {
			t.Errorf("clearing type %d: %v %v", kind, r, err)
		}
	}
	r, err := m.Alarm(within(t), &pb.AlarmRequest{})
	if err != nil || len(r.Alarms) != 0 {
		t.Error(r, err)
	}
}

// TestPermissions: even with the laxest umask only the owner has access to the files that a server makes, its log
// included, and there is no warning. If others may read the directory, the server warns in one line.
func TestPermissions(t *testing.T) {
	dir := t.TempDir()
	p := hw.Headwater(t)
	args := p.Args
	binary := p.Path
	p.Path = "/bin/sh"
	p.Args = func(l hw.Layout) []string {
		return append([]string{
			"-c", `umask 0; exec "$0" "$@"`, binary, "--log-outputs=stderr," + filepath.Join(dir, "d.log"),
		}, args(l)...)
	}
	if _, err := exec.LookPath(p.Path); err != nil {
		t.Skip(err)
	}
	s := hw.Run(t, p, filepath.Join(dir, "d"))
	c := client(t, s)
	fill(t, c, 26, 1<<20) // more than a log holds
	walk := func() {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if path == dir || os.IsNotExist(err) {
				return nil
			}
			fi, err := d.Info()
			if os.IsNotExist(err) {
				return nil
			}
			if err == nil && fi.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v", path, fi.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk()
	const warning = "others may read the data directory"
	if strings.Contains(s.Output(), warning) {
		t.Error("a warning without a reason")
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	walk()
	if err := os.Chmod(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(s.Output(), warning); n != 1 {
		t.Errorf("%d warnings", n)
	}
}
