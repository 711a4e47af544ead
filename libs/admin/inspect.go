package admin

import (
	"context"
	"errors"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// inspection is the service Inspection.
type inspection struct {
	adminv1.UnimplementedInspectionServer
	Options
}

// Log implements adminv1.InspectionServer.
func (i *inspection) Log(r *adminv1.LogRequest, out grpc.ServerStreamingServer[adminv1.LogEntry]) error {
	if r.GetFrom() < 0 || r.GetLast() > lastMax {
		return status.Errorf(codes.InvalidArgument, "from %d and last %d: need no less than 0, and at most %d",
			r.GetFrom(), r.GetLast(), lastMax)
	}
	ctx := out.Context()
	store, leave, err := i.Host.Visit(ctx, r.GetKeyspace())
	if err != nil {
		return grpcErr(err)
	}
	defer leave()
	skip, from, err := begin(ctx, store, r)
	if err != nil {
		return grpcErr(err)
	}
	w := logWriter{out: out, left: math.MaxInt64, skip: skip}
	if n := r.GetLimit(); n > 0 {
		w.left = int64(min(n, math.MaxInt64))
	}
	return grpcErr(w.write(ctx, store, from, r.GetFollow()))
}

// begin returns where to start reading the log, and how many entries to skip there.
func begin(ctx context.Context, store *mvcc.Store, r *adminv1.LogRequest) (skip int, from int64, err error) {
	if r.GetFrom() > 0 {
		return 0, r.GetFrom(), nil
	}
	head, err := store.Head(ctx)
	if err != nil {
		return 0, 0, err
	}
	oldest := max(store.CompactRevision(), 1)
	// Revisions may have gaps, so the step back grows until there are enough entries after it.
	for back := max(int64(r.GetLast()), 1); ; back *= 4 {
		from = max(head-back+1, oldest)
		n, err := countFrom(ctx, store, from)
		if err != nil {
			return 0, 0, err
		}
		if n >= int(r.GetLast()) || from == oldest {
			return max(0, n-int(r.GetLast())), from, nil
		}
	}
}

// countFrom counts the entries from a revision on.
func countFrom(ctx context.Context, store *mvcc.Store, from int64) (n int, err error) {
	for {
		entries, next, err := store.ReadLog(ctx, from, logEntries, logBytes)
		if err != nil || len(entries) == 0 {
			return n, err
		}
		n, from = n+len(entries), next
	}
}

// logWriter sends the entries of a log.
type logWriter struct {
	out  grpc.ServerStreamingServer[adminv1.LogEntry]
	left int64 // entries to send
	skip int   // entries to skip first
}

// write sends the entries from a revision on, up to the head or without end.
func (w *logWriter) write(ctx context.Context, store *mvcc.Store, from int64, follow bool) error {
	for w.left > 0 {
		entries, next, err := store.ReadLog(ctx, from, logEntries, logBytes)
		if err != nil {
			return err
		}
		for i := range entries {
			if err := w.show(&entries[i]); err != nil || w.left == 0 {
				return err
			}
		}
		if len(entries) == 0 {
			if !follow {
				return nil
			}
			if err := store.WaitHead(ctx, next); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

func (w *logWriter) show(e *revlog.Entry) error {
	if w.skip > 0 {
		w.skip--
		return nil
	}
	w.left--
	return w.out.Send(entryOf(e))
}

func entryOf(e *revlog.Entry) *adminv1.LogEntry {
	m := &adminv1.LogEntry{Revision: e.Rev}
	for i := range e.Events {
		ev := &e.Events[i]
		shown := &adminv1.Event{Delete: ev.Delete, Version: versionOf(&ev.KV)}
		if ev.HasPrev {
			shown.Previous = versionOf(&ev.Prev)
		}
		m.Events = append(m.Events, shown)
	}
	return m
}

func versionOf(kv *revlog.KV) *adminv1.Version {
	return &adminv1.Version{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.Create, ModRevision: kv.Mod, Version: kv.Version,
		Lease: kv.Lease, ValueSize: int64(kv.Bytes()), ValueElsewhere: kv.Unread(),
	}
}

// Rows implements adminv1.InspectionServer.
func (i *inspection) Rows(r *adminv1.RowsRequest, out grpc.ServerStreamingServer[adminv1.Row]) error {
	ctx := out.Context()
	prefix, err := i.place(ctx, r.GetKeyspace())
	if err != nil {
		return grpcErr(err)
	}
	o := fsck.RowsOptions{
		Prefix: prefix, Begin: r.GetBegin(), End: r.GetEnd(), Limit: int(min(r.GetLimit(), math.MaxInt)),
	}
	return grpcErr(fsck.Rows(ctx, i.Engine, o, func(row fsck.Row) error {
		m := &adminv1.Row{
			Key: row.Key, Value: row.Value, ValueSize: int64(len(row.Value)), Table: row.Table, Meaning: row.Meaning,
		}
		if row.Table == "auth" {
			m.Value = nil // never show hashes of passwords, and secrets that sign tokens
		}
		m.Value = m.Value[:min(len(m.Value), valueMax)]
		return out.Send(m)
	}))
}

// Fsck implements adminv1.InspectionServer.
func (i *inspection) Fsck(r *adminv1.FsckRequest, out grpc.ServerStreamingServer[adminv1.FsckResponse]) error {
	ctx, cancel := context.WithCancelCause(out.Context())
	defer cancel(nil)
	prefix, err := i.place(ctx, r.GetKeyspace())
	if err != nil {
		return grpcErr(err)
	}
	report, err := fsck.Check(ctx, i.Engine, fsck.Options{Prefix: prefix, Progress: func(p fsck.Progress) {
		m := &adminv1.FsckProgress{Part: p.Part, Rows: p.Rows, Bytes: p.Bytes, TotalBytes: p.Total}
		if err := out.Send(&adminv1.FsckResponse{Progress: m}); err != nil {
			cancel(err) // the client has gone, so stop the check
		}
	}})
	if err != nil {
		return grpcErr(errors.Join(err, context.Cause(ctx)))
	}
	m := &adminv1.FsckReport{Revision: report.Revision, MoreFindings: int64(report.More), Summary: report.String()}
	for _, f := range report.Findings {
		m.Findings = append(m.Findings, f.String())
	}
	return out.Send(&adminv1.FsckResponse{Report: m})
}
