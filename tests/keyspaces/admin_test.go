package keyspaces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/embedded"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// admin is a client of a server's admin API.
type admin struct {
	adminv1.KeyspacesClient
	adminv1.InspectionClient
}

func adminOf(t *testing.T, s *compose.Server) admin {
	t.Helper()
	urls := s.AdminURLs()
	if len(urls) == 0 {
		t.Fatal("there is no admin API")
	}
	c, err := grpc.NewClient(urls[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return admin{adminv1.NewKeyspacesClient(c), adminv1.NewInspectionClient(c)}
}

// collect reads a stream to its end.
func collect[T any](t *testing.T, s grpc.ServerStreamingClient[T], err error) (all []*T) {
	t.Helper()
	for err == nil {
		var m *T
		if m, err = s.Recv(); err == nil {
			all = append(all, m)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return all
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestAdminTable: clients see the changes that the admin API makes to the table of keyspaces.
func TestAdminTable(t *testing.T) {
	s := server(t, nil)
	a, ctx := adminOf(t, s), t.Context()
	made, err := a.Create(ctx, &adminv1.CreateRequest{Name: "a", Settings: &adminv1.Settings{
		Limits: &keyspacev1.Limits{Bytes: 1 << 20}, Labels: map[string]string{"owner": "web", "x.y": "z"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if made.GetName() != "a" || made.GetId() == 0 || made.GetState() != keyspacev1.State_STATE_ACTIVE ||
		!made.GetOpen() || made.GetCreated() == nil || made.GetSettings().GetLimits().GetBytes() != 1<<20 {
		t.Errorf("created %v", made)
	}
	put(t, client(t, s, "a"), "k", "v")
	_, err = a.Create(ctx, &adminv1.CreateRequest{Name: "a"})
	wantCode(t, "create again", err, codes.AlreadyExists)

	changed, err := a.Change(ctx, &adminv1.ChangeRequest{
		Name: "a",
		Settings: &adminv1.Settings{
			Limits: &keyspacev1.Limits{Watches: 7}, Labels: map[string]string{"n": "1"},
		},
		Mask: &fieldmaskpb.FieldMask{Paths: []string{"limits.watches", "limits.bytes", "labels.n", "labels.x.y"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.Settings{
		Limits: &keyspacev1.Limits{Watches: 7}, Labels: map[string]string{"owner": "web", "n": "1"},
		Access: &keyspacev1.AccessRule{Open: true},
	}
	if !proto.Equal(changed.GetSettings(), want) {
		t.Errorf("the value changed to %v, want %v", changed.GetSettings(), want)
	}
	for _, path := range []string{"", "limits.none", "none", "weights"} {
		_, err := a.Change(ctx, &adminv1.ChangeRequest{Name: "a", Mask: &fieldmaskpb.FieldMask{Paths: []string{path}}})
		wantCode(t, fmt.Sprintf("change of %q", path), err, codes.InvalidArgument)
	}
	_, err = a.Change(ctx, &adminv1.ChangeRequest{Name: "a"})
	wantCode(t, "change of nothing", err, codes.InvalidArgument)

	renamed, err := a.Rename(ctx, &adminv1.RenameRequest{Name: "a", To: "b"})
	if err != nil || renamed.GetId() != made.GetId() || renamed.GetName() != "b" {
		t.Fatalf("renamed to %v, %v", renamed, err)
	}
	if v := get(t, client(t, s, "b"), "k"); v != "v" {
		t.Errorf("renamed: value %q", v)
	}
	_, err = a.Show(ctx, &adminv1.ShowRequest{Name: "a"})
	wantCode(t, "show the old name", err, codes.NotFound)
	for _, name := range []string{"", "B", "a_b", "a.b", "-a", "a-", strings.Repeat("a", 64), "ä"} {
		_, err := a.Create(ctx, &adminv1.CreateRequest{Name: name})
		wantCode(t, fmt.Sprintf("create %q", name), err, codes.InvalidArgument)
	}
	if _, err := a.Delete(ctx, &adminv1.DeleteRequest{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	_, err = a.Delete(ctx, &adminv1.DeleteRequest{Name: "b"})
	wantCode(t, "delete again", err, codes.NotFound)
}

// TestAdminPages: each page of a list goes on where the page before ended, and the first keyspace is in the list once.
func TestAdminPages(t *testing.T) {
	s := server(t, nil)
	a := adminOf(t, s)
	want := []string{compose.FirstKeyspace}
	for i := range 7 {
		name := fmt.Sprintf("ks%d", i)
		if _, err := a.Create(t.Context(), &adminv1.CreateRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	for limit := range uint32(9) {
		var listed, used []string
		for r := (&adminv1.ListRequest{Limit: limit}); ; {
			page, err := a.List(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range page.GetKeyspaces() {
				listed = append(listed, k.GetName())
			}
			if r.After = page.GetNext(); r.After == "" {
				break
			}
		}
		for r := (&adminv1.UsageRequest{Limit: limit}); ; {
			page, err := a.Usage(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range page.GetUsage() {
				used = append(used, u.GetName())
			}
			if r.After = page.GetNext(); r.After == "" {
				break
			}
		}
		if !slices.Equal(listed, want) || !slices.Equal(used, want) {
			t.Errorf("limit %d: %v and %v, want %v", limit, listed, used, want)
		}
	}
}

// TestAdminFatPages: an answer is no larger than a gRPC client accepts by default, however large the labels are.
func TestAdminFatPages(t *testing.T) {
	s := server(t, nil)
	a := adminOf(t, s)
	labels := map[string]string{}
	for i := range keyspace.LabelsMax {
		labels[fmt.Sprint(i)] = strings.Repeat("v", keyspace.LabelBytesMax)
	}
	const n = 300 // 5 MB
	for i := range n {
		create(t, s, fmt.Sprint("fat", i), &keyspacev1.Keyspace{Labels: labels})
	}
	seen := map[string]bool{}
	for r := (&adminv1.ListRequest{}); ; {
		page, err := a.List(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.GetKeyspaces() {
			seen[k.GetName()] = true
		}
		if r.After = page.GetNext(); r.After == "" {
			break
		}
	}
	if len(seen) != n+1 {
		t.Errorf("%d keyspaces, want %d", len(seen), n+1)
	}
}

// TestAdminFirst: the first keyspace, which has no row, is listed, and can be neither created nor changed.
func TestAdminFirst(t *testing.T) {
	s := server(t, nil)
	a, ctx, first := adminOf(t, s), t.Context(), compose.FirstKeyspace
	if _, err := a.Create(ctx, &adminv1.CreateRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	_, err := a.Create(ctx, &adminv1.CreateRequest{Name: first})
	wantCode(t, "create", err, codes.FailedPrecondition)
	_, err = a.Delete(ctx, &adminv1.DeleteRequest{Name: first})
	wantCode(t, "delete", err, codes.FailedPrecondition)
	_, err = a.Rename(ctx, &adminv1.RenameRequest{Name: first, To: "b"})
	wantCode(t, "rename", err, codes.FailedPrecondition)
	_, err = a.Rename(ctx, &adminv1.RenameRequest{Name: "a", To: first})
	wantCode(t, "rename another to it", err, codes.FailedPrecondition)
	_, err = a.Change(ctx, &adminv1.ChangeRequest{
		Name: first, Settings: &adminv1.Settings{Limits: &keyspacev1.Limits{Bytes: 1}},
		Mask: &fieldmaskpb.FieldMask{Paths: []string{"limits.bytes"}},
	})
	wantCode(t, "change", err, codes.FailedPrecondition)
	k, err := a.Show(ctx, &adminv1.ShowRequest{Name: first})
	if err != nil || !k.GetFirst() || k.GetId() != 0 {
		t.Errorf("shown as %v, %v", k, err)
	}
}

// TestAdminLimits: every limit can be set, in each way of setting it. Other tests check that each limit is obeyed.
// Package admin tests that a limit which nothing obeys is refused.
func TestAdminLimits(t *testing.T) {
	s := server(t, nil)
	a := adminOf(t, s)
	if _, err := a.Create(t.Context(), &adminv1.CreateRequest{Name: "there"}); err != nil {
		t.Fatal(err)
	}
	fields := (*keyspacev1.Limits)(nil).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		want := codes.OK
		l := new(keyspacev1.Limits)
		l.ProtoReflect().Set(f, protoreflect.ValueOfUint64(1<<20))
		settings := &adminv1.Settings{Limits: l}
		_, err := a.Create(t.Context(), &adminv1.CreateRequest{Name: fmt.Sprintf("l%d", i), Settings: settings})
		wantCode(t, "create with "+string(f.Name()), err, want)
		for _, path := range []string{"limits", "limits." + string(f.Name())} {
			_, err := a.Change(t.Context(), &adminv1.ChangeRequest{
				Name: "there", Settings: settings, Mask: &fieldmaskpb.FieldMask{Paths: []string{path}},
			})
			wantCode(t, "change by "+path+" of "+string(f.Name()), err, want)
		}
	}
	_, err := a.Create(t.Context(), &adminv1.CreateRequest{Name: "w", Settings: &adminv1.Settings{Weight: 2}})
	wantCode(t, "a weight", err, codes.OK)
}

// TestAdminFeature: releases without keyspaces refuse a directory that has keyspaces, and no other directory.
func TestAdminFeature(t *testing.T) {
	s := server(t, nil)
	a := adminOf(t, s)
	for _, r := range []*adminv1.CreateRequest{
		{Name: "a", Settings: &adminv1.Settings{Weight: keyspace.WeightMax + 1}},
		{Name: "a", Settings: &adminv1.Settings{Labels: map[string]string{"": "a key of no length"}}},
		{Name: "No-Name"},
	} {
		_, err := a.Create(t.Context(), r)
		wantCode(t, fmt.Sprintf("create %v", r), err, codes.InvalidArgument)
	}
	if f := s.Store.Features(); f.Has(mvcc.FeatureKeyspaces) {
		t.Fatalf("features %v of a directory without keyspaces", f)
	}
	if _, err := a.Create(t.Context(), &adminv1.CreateRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	p, err := mvcc.Peek(t.Context(), s.Engine, nil)
	if err != nil || !p.Features.Has(mvcc.FeatureKeyspaces) || uint64(p.Features)&32 == 0 {
		t.Errorf("features %v, %v", p.Features, err)
	}
	all := (mvcc.FeaturesAll | mvcc.FeatureKeyspaces).String()
	if strings.Contains(all, "unknown") || !strings.Contains(all, "keyspaces") {
		t.Errorf("features are called %s", all)
	}
	put(t, client(t, s, ""), "k", "v") // later head rows have the feature too
	if p, err = mvcc.Peek(t.Context(), s.Engine, nil); err != nil || !p.Features.Has(mvcc.FeatureKeyspaces) {
		t.Errorf("features %v after a write, %v", p.Features, err)
	}
}

// TestAdminUsage: the usage that is shown is that of the keyspace, and showing it opens no keyspace.
func TestAdminUsage(t *testing.T) {
	s := server(t, nil)
	a := adminOf(t, s)
	for _, name := range []string{"idle", "busy"} {
		if _, err := a.Create(t.Context(), &adminv1.CreateRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	c := client(t, s, "busy")
	for i := range 20 {
		put(t, c, fmt.Sprint("k", i%15), "v")
	}
	if _, err := c.Delete(t.Context(), "k0"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	rev := put(t, c, "last", "v")
	if _, err := c.Compact(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	watch := c.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	<-watch
	r, err := a.Usage(t.Context(), &adminv1.UsageRequest{
		Names: []string{"idle", "busy", compose.FirstKeyspace}, CountKeys: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	idle, busy, first := r.GetUsage()[0], r.GetUsage()[1], r.GetUsage()[2]
	if idle.GetActive() || idle.GetRevision() != 0 || idle.GetKeys() != 0 || idle.GetError() != "" {
		t.Errorf("idle: %v", idle)
	}
	if !busy.GetActive() || busy.GetRevision() != rev || busy.GetCompactRevision() != 5 || busy.GetKeys() != 15 ||
		busy.GetLeases() != 1 || busy.GetStreams() != 1 || busy.GetBytes() <= 0 || busy.GetError() != "" {
		t.Errorf("busy: %v", busy)
	}
	if !first.GetFirst() || !first.GetActive() || first.GetRevision() != 1 || first.GetError() != "" {
		t.Errorf("first: %v", first)
	}
	if n := s.OpenKeyspaces(); n != 1 {
		t.Errorf("%d keyspaces are open, but only one was used", n)
	}
	_, err = a.Usage(t.Context(), &adminv1.UsageRequest{Names: []string{"none"}})
	wantCode(t, "usage of none", err, codes.NotFound)
}

// TestAdminInspection: the admin API shows the decoded log and rows of the named keyspace, and fsck finds that they
// agree.
func TestAdminInspection(t *testing.T) {
	s := server(t, nil)
	a, ctx := adminOf(t, s), t.Context()
	if _, err := a.Create(ctx, &adminv1.CreateRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a"} {
		c := client(t, s, name)
		for i := range 30 {
			put(t, c, "k", name+fmt.Sprint(i))
		}
		lease, err := c.Grant(ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		put(t, c, "large", strings.Repeat("x", 5000), clientv3.WithLease(lease.ID))
		if _, err := c.Delete(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Compact(ctx, 4); err != nil {
			t.Fatal(err)
		}
		inspect(t, a, name)
	}
	for _, name := range []string{"none", "None"} {
		ls, err := a.Log(ctx, &adminv1.LogRequest{Keyspace: name})
		if err == nil {
			_, err = ls.Recv()
		}
		if c := status.Code(err); c != codes.NotFound && c != codes.InvalidArgument {
			t.Errorf("log of %s: %v", name, err)
		}
	}
}

// inspect checks what the admin API shows of a keyspace that has 30 versions of k, a large value and a delete, and is
// compacted at 4.
func inspect(t *testing.T, a admin, name string) {
	t.Helper()
	ctx := t.Context()
	ls, err := a.Log(ctx, &adminv1.LogRequest{Keyspace: name, From: 10, Limit: 2})
	es := collect(t, ls, err)
	if len(es) != 2 || es[0].GetRevision() != 10 || string(es[0].GetEvents()[0].GetVersion().GetValue()) != name+"8" ||
		es[0].GetEvents()[0].GetPrevious().GetModRevision() != 9 {
		t.Errorf("%q: log from 10: %v", name, es)
	}
	ls, err = a.Log(ctx, &adminv1.LogRequest{Keyspace: name, Last: 2})
	es = collect(t, ls, err)
	if len(es) != 2 || es[0].GetRevision() != 32 || !es[0].GetEvents()[0].GetVersion().GetValueElsewhere() ||
		es[0].GetEvents()[0].GetVersion().GetValueSize() != 5000 || !es[1].GetEvents()[0].GetDelete() {
		t.Errorf("%q: the last of the log: %v", name, es)
	}
	ls, err = a.Log(ctx, &adminv1.LogRequest{Keyspace: name, Last: 1000})
	if es = collect(t, ls, err); len(es) != 30 { // 4 … 33
		t.Errorf("%q: %d entries in all", name, len(es))
	}
	ls, err = a.Log(ctx, &adminv1.LogRequest{Keyspace: name, From: 2})
	if err == nil {
		_, err = ls.Recv()
	}
	wantCode(t, "log from what was compacted", err, codes.OutOfRange)

	tables := map[string]int{}
	rs, err := a.Rows(ctx, &adminv1.RowsRequest{Keyspace: name})
	rows := collect(t, rs, err)
	for _, r := range rows {
		tables[r.GetTable()]++
		if r.GetTable() == "" || r.GetMeaning() == "" || strings.Contains(r.GetMeaning(), "cannot be decoded") {
			t.Errorf("%q: row %x = %x: %s %s", name, r.GetKey(), r.GetValue(), r.GetTable(), r.GetMeaning())
		}
	}
	for _, table := range []string{
		"boundary", "commit", "counter", "head", "lease", "leasekey", "hist", "idx", "log", "meta", "val",
	} {
		if tables[table] == 0 {
			t.Errorf("%q: no row of %s", name, table)
		}
	}
	rs, err = a.Rows(ctx, &adminv1.RowsRequest{Keyspace: name, Limit: 3, Begin: []byte("h"), End: []byte("i")})
	if some := collect(t, rs, err); len(some) != 3 || some[0].GetTable() != "hist" {
		t.Errorf("%q: %v", name, some)
	}
	fs, err := a.Fsck(ctx, &adminv1.FsckRequest{Keyspace: name})
	got := collect(t, fs, err)
	report := got[len(got)-1].GetReport()
	if report == nil || report.GetRevision() != 33 || len(report.GetFindings()) > 0 || len(got) < 2 {
		t.Errorf("%q: fsck: %v", name, got)
	}
}

// TestAdminFollow: a client that follows a log gets later writes, and an error when the server stops.
func TestAdminFollow(t *testing.T) {
	c := config.Default(config.Standalone)
	c.DataDir, c.ListenClientURLs, c.DiskReserveBytes = t.TempDir(), []string{"http://127.0.0.1:0"}, -1
	s, err := compose.Start(t.Context(), config.Standalone, c, embedded.Parts(patience))
	if err != nil {
		t.Fatal(err)
	}
	ls, err := adminOf(t, s).Log(t.Context(), &adminv1.LogRequest{From: 2, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		rev := put(t, client(t, s, ""), "k", fmt.Sprint(i))
		if e, err := ls.Recv(); err != nil || e.GetRevision() != rev {
			t.Fatalf("entry %v, %v", e, err)
		}
	}
	stop(t, s)
	for err == nil {
		_, err = ls.Recv()
	}
	if errors.Is(err, io.EOF) {
		t.Error("the log has ended as if it were complete")
	}
}

// TestAdminSocket: only the server's user may use the socket. The server removes it at its end, and replaces one that
// an earlier server has left.
func TestAdminSocket(t *testing.T) {
	c := config.Default(config.Standalone)
	c.DataDir, c.ListenClientURLs, c.DiskReserveBytes = t.TempDir(), []string{"http://127.0.0.1:0"}, -1
	socket := filepath.Join(c.DataDir, config.AdminSocket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil { // as after a kill
		t.Fatal(err)
	}
	s, err := compose.Start(t.Context(), config.Standalone, c, embedded.Parts(patience))
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(socket); err != nil || fi.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", fi.Mode(), err)
	}
	if _, err := adminOf(t, s).List(t.Context(), &adminv1.ListRequest{}); err != nil {
		t.Error(err)
	}
	stop(t, s)
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	c.ListenAdminURLs = []string{config.AdminNone}
	if s, err = compose.Start(t.Context(), config.Standalone, c, embedded.Parts(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) || len(s.AdminURLs()) > 0 {
		t.Errorf("there is an admin API at %v: %v", s.AdminURLs(), err)
	}
	stop(t, s)
	c.ListenAdminURLs = []string{"unix://" + filepath.Join(c.DataDir, "none", "x.sock")}
	ctx := context.WithoutCancel(t.Context())
	if s, err = compose.Start(ctx, config.Standalone, c, embedded.Parts(patience)); err == nil {
		stop(t, s)
		t.Error("a server has started without the admin API that was asked for")
	}
}
