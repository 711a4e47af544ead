package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// MessageMax bounds a request. A revision of the source is one request, whatever it has changed, and so are all leases
// of a cut-over.
const MessageMax = 256 << 20

// Window is how many bytes of a stream a client may send before the server reads them. A large window saves round trips
// for files and logs.
const Window = 8 << 20

// replaysAhead bounds the requests that are read while an earlier one is carried out.
const replaysAhead = 2

// Limits of an answer.
const (
	pageKeys     = 1000
	pageKVBytes  = 2 << 20
	changedBytes = 1 << 20
)

// migration is the service Migration.
type migration struct {
	adminv1.UnimplementedMigrationServer
	Options
	restoring chan struct{} // has an element for each restore under way
}

func newMigration(o Options) *migration {
	return &migration{Options: o, restoring: make(chan struct{}, restoresMax)}
}

// visit runs f with the store of a keyspace. Errors: gRPC's.
func (m *migration) visit(ctx context.Context, name string, f func(*mvcc.Store) error) error {
	store, leave, err := m.Host.Visit(ctx, name)
	if err != nil {
		return grpcErr(err)
	}
	defer leave()
	return grpcErr(f(store))
}

// Followed implements adminv1.MigrationServer.
func (m *migration) Followed(ctx context.Context, r *adminv1.FollowedRequest) (*adminv1.FollowedResponse, error) {
	a := &adminv1.FollowedResponse{}
	err := m.visit(ctx, r.GetKeyspace(), func(s *mvcc.Store) error {
		number, _, rev, err := s.ReadAuth(ctx)
		if err != nil {
			return err
		}
		a.Revision, a.CompactRevision = rev, s.CompactRevision()
		a.AuthRevision, a.AuthEnabled = number>>1, number&1 != 0
		f, rev, err := s.ReadFollow(ctx)
		switch {
		case err == nil:
			a.Follows, a.Source, a.Compared, a.Revision = true, f.Source, f.Compared, rev
		case !errors.Is(err, mvcc.ErrNotFollowing):
			return err
		}
		return nil
	})
	return a, err
}

// Replay implements adminv1.MigrationServer.
func (m *migration) Replay(stream grpc.BidiStreamingServer[adminv1.ReplayRequest, adminv1.ReplayResponse]) error {
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	ctx := stream.Context()
	return m.visit(ctx, r.GetKeyspace(), func(s *mvcc.Store) error {
		if err := follows(ctx, s, r.GetSource()); err != nil {
			return err
		}
		for r := range readAhead(ctx, r, stream.Recv) {
			rev, err := replay(ctx, s, r)
			if err == nil {
				err = stream.Send(&adminv1.ReplayResponse{Revision: rev})
			}
			if err != nil {
				return err
			}
		}
		return ctx.Err() // nil: the client has sent everything
	})
}

// readAhead reads requests until there are no more or ctx ends. The first has been read already. It need not return an
// error of recv, because gRPC has told the client by then.
func readAhead[T any](ctx context.Context, first T, recv func() (T, error)) <-chan T {
	read := make(chan T, replaysAhead)
	read <- first
	go func() {
		defer close(read)
		for {
			r, err := recv()
			if err != nil {
				return
			}
			select {
			case read <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return read
}

// follows checks that a keyspace follows a source. If its source is not known yet, it stores it.
func follows(ctx context.Context, s *mvcc.Store, source uint64) error {
	if source == 0 {
		return status.Error(codes.InvalidArgument, "the source has no name")
	}
	f, _, err := s.ReadFollow(ctx)
	if err != nil || f.Source == source {
		return err
	}
	return s.SetFollow(ctx, func(f *mvcc.Follow) error {
		if f.Source != 0 && f.Source != source {
			return status.Errorf(
				codes.FailedPrecondition, "the keyspace follows the cluster %x, not %x", f.Source, source,
			)
		}
		f.Source = source
		return nil
	})
}

// replay carries the entries of a request out. Without any it only tells the revision.
func replay(ctx context.Context, s *mvcc.Store, r *adminv1.ReplayRequest) (int64, error) {
	entries, after := r.GetEntries(), r.GetAfter()
	if len(entries) == 0 {
		_, rev, err := s.ReadFollow(ctx)
		return rev, err
	}
	revs := make([]mvcc.ReplayRevision, len(entries))
	for i, e := range entries {
		revs[i] = mvcc.ReplayRevision{
			Rev: e.GetRevision(), After: after, Events: make([]revlog.Event, len(e.GetEvents())),
		}
		if after > 0 {
			after = e.GetRevision()
		}
		for j, ev := range e.GetEvents() {
			v := ev.GetVersion()
			revs[i].Events[j] = revlog.Event{Delete: ev.GetDelete(), KV: mvcc.KV{
				Key: v.GetKey(), Value: v.GetValue(), Create: v.GetCreateRevision(), Mod: v.GetModRevision(),
				Version: v.GetVersion(), Lease: v.GetLease(),
			}}
		}
	}
	return replayAll(ctx, s, revs)
}

// replayAll carries revisions out, in parts where they do not fit into a transaction.
func replayAll(ctx context.Context, s *mvcc.Store, revs []mvcc.ReplayRevision) (rev int64, err error) {
	rev, err = s.Replay(ctx, revs)
	half := len(revs) / 2
	if half == 0 || !errors.Is(err, mvcc.ErrTooLarge) {
		return rev, err
	}
	if _, err := replayAll(ctx, s, revs[:half]); err != nil {
		return 0, err
	}
	return replayAll(ctx, s, revs[half:])
}

// errFull ends a page.
var errFull = errors.New("admin: a page is full")

// Page implements adminv1.MigrationServer.
func (m *migration) Page(ctx context.Context, r *adminv1.PageRequest) (*adminv1.PageResponse, error) {
	a := &adminv1.PageResponse{}
	limit, size := min(int(r.GetLimit()), pageKeys), 0
	if limit == 0 {
		limit = pageKeys
	}
	take := func(kv *mvcc.KV) error {
		if len(a.Versions) == limit || size > pageKVBytes {
			return errFull
		}
		v := versionOf(kv)
		v.Key, v.Value = append([]byte{}, v.Key...), append([]byte{}, v.Value...)
		a.Versions = append(a.Versions, v)
		size += len(v.Key) + len(v.Value)
		return nil
	}
	err := m.visit(ctx, r.GetKeyspace(), func(s *mvcc.Store) error {
		if len(r.GetKeys()) == 0 {
			q := &mvcc.RangeRequest{
				Key: append([]byte{}, r.GetBegin()...), End: []byte{0}, Limit: int64(limit) + 1, Rev: r.GetRevision(),
			}
			_, err := s.Range(ctx, q, take)
			if errors.Is(err, errFull) {
				a.More, err = true, nil
			}
			return err
		}
		err := readKeys(ctx, s, r.GetKeys(), r.GetRevision(), take)
		if errors.Is(err, errFull) {
			return status.Errorf(codes.InvalidArgument, "the keys asked for do not fit into an answer")
		}
		return err
	})
	return a, err
}

// readsMax bounds the keys that are read at a time: where the store is another machine's each takes a round trip.
const readsMax = 32

// readKeys reads keys that are named, and has those that are there taken in their order.
func readKeys(ctx context.Context, s *mvcc.Store, keys [][]byte, rev int64, take func(*mvcc.KV) error) error {
	for some := range slices.Chunk(keys, readsMax) {
		found := make([]*mvcc.KV, len(some))
		g, ctx := errgroup.WithContext(ctx)
		for i, key := range some {
			g.Go(func() error {
				_, err := s.Range(ctx, &mvcc.RangeRequest{Key: key, Rev: rev}, func(kv *mvcc.KV) error {
					c := *kv
					c.Key, c.Value = key, bytes.Clone(kv.Value)
					found[i] = &c
					return nil
				})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for _, kv := range found {
			if kv == nil {
				continue
			}
			if err := take(kv); err != nil {
				return err
			}
		}
	}
	return nil
}

// Changed implements adminv1.MigrationServer.
func (m *migration) Changed(r *adminv1.ChangedRequest, out grpc.ServerStreamingServer[adminv1.ChangedResponse]) error {
	ctx := out.Context()
	return m.visit(ctx, r.GetKeyspace(), func(s *mvcc.Store) error {
		for from := r.GetAfter() + 1; from <= r.GetUpTo(); {
			entries, next, err := s.ReadLog(ctx, from, logEntries, changedBytes)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				return nil
			}
			a, seen := &adminv1.ChangedResponse{}, map[string]bool{}
			for i := range entries {
				for j := range entries[i].Events {
					key := entries[i].Events[j].KV.Key
					if entries[i].Rev <= r.GetUpTo() && !seen[string(key)] {
						seen[string(key)] = true
						a.Keys = append(a.Keys, key)
					}
				}
			}
			if err := out.Send(a); err != nil {
				return err
			}
			from = next
		}
		return nil
	})
}

// Compared implements adminv1.MigrationServer.
func (m *migration) Compared(ctx context.Context, r *adminv1.ComparedRequest) (*adminv1.ComparedResponse, error) {
	err := m.visit(ctx, r.GetKeyspace(), func(s *mvcc.Store) error {
		return s.SetFollow(ctx, func(f *mvcc.Follow) error {
			f.Compared = max(f.Compared, r.GetRevision())
			return nil
		})
	})
	return &adminv1.ComparedResponse{}, err
}

// ReplaceAuth implements adminv1.MigrationServer. The secrets that sign tokens belong to the keyspace and stay.
func (m *migration) ReplaceAuth(
	ctx context.Context, r *adminv1.ReplaceAuthRequest,
) (*adminv1.ReplaceAuthResponse, error) {
	c, err := recreate(r)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	err = m.visit(ctx, r.GetKeyspace(), func(s *mvcc.Store) error {
		_, err := s.FollowAuth(ctx, func(number uint64, rows []mvcc.AuthRow) (uint64, []mvcc.AuthRow, error) {
			switch {
			case c.Number == number:
				return number, nil, nil
			case c.Number < number:
				return 0, nil, status.Errorf(codes.FailedPrecondition,
					"the keyspace has users and roles of revision %d, newer than %d", number>>1, c.Number>>1)
			}
			return c.Number, replaced(rows, c.Rows), nil
		})
		return err
	})
	return &adminv1.ReplaceAuthResponse{}, err
}

// recreate makes the rows of users and roles.
func recreate(r *adminv1.ReplaceAuthRequest) (auth.Change, error) {
	var users []*authpb.User
	for _, b := range r.GetUsers() {
		users = append(users, &authpb.User{})
		if err := proto.Unmarshal(b, users[len(users)-1]); err != nil {
			return auth.Change{}, fmt.Errorf("a user: %w", err)
		}
	}
	var roles []*authpb.Role
	for _, b := range r.GetRoles() {
		roles = append(roles, &authpb.Role{})
		if err := proto.Unmarshal(b, roles[len(roles)-1]); err != nil {
			return auth.Change{}, fmt.Errorf("a role: %w", err)
		}
	}
	return auth.Recreate(r.GetEnabled(), r.GetRevision(), users, roles)
}

// replaced returns the rows to write so that the wanted rows replace those that are there.
func replaced(there []mvcc.AuthRow, wanted []auth.Row) (set []mvcc.AuthRow) {
	keep := map[string]bool{}
	for _, row := range wanted {
		keep[string(row.Key)] = true
		set = append(set, mvcc.AuthRow(row))
	}
	for _, row := range there {
		if !keep[string(row.Key)] && !auth.IsSecret(row.Key) {
			set = append(set, mvcc.AuthRow{Key: row.Key})
		}
	}
	return set
}

// CutOver implements adminv1.MigrationServer.
func (m *migration) CutOver(ctx context.Context, r *adminv1.CutOverRequest) (*adminv1.CutOverResponse, error) {
	leases := make([]mvcc.ImportLease, len(r.GetLeases()))
	for i, l := range r.GetLeases() {
		leases[i] = mvcc.ImportLease{ID: l.GetId(), TTL: l.GetTtl()}
		if l.GetId() == 0 || l.GetTtl() <= 0 {
			return nil, status.Errorf(
				codes.InvalidArgument, "lease %x with %d seconds is not possible", l.GetId(), l.GetTtl(),
			)
		}
	}
	err := m.visit(ctx, r.GetKeyspace(), func(s *mvcc.Store) error {
		return s.EndFollow(ctx, r.GetRevision(), leases)
	})
	return &adminv1.CutOverResponse{}, err
}
