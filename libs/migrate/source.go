package migrate

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// Limits of requests to a source.
const (
	// askTimeout bounds a small request.
	askTimeout = 10 * time.Second
	// ttlsMax bounds the requests for the time to live of leases that are under way at the same time.
	ttlsMax = 64
	// pageKeys bounds the keys of a page. pageBytes is the desired size of one.
	pageKeys  = 1000
	pageBytes = 2 << 20
	// txnKeys bounds the keys that are read in one transaction: etcd's default (--max-txn-ops).
	txnKeys = 128
)

// Source is the etcd that is copied, or another server with its API.
type Source struct{ c *clientv3.Client }

// NewSource returns the source of a client. The caller closes the client. If users are enabled, the client's user must
// have the role root: only root may fetch a snapshot.
func NewSource(c *clientv3.Client) *Source { return &Source{c} }

// small returns a context for a small request.
func small(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, askTimeout)
}

// Head returns the cluster id and the present revision.
func (s *Source) Head(ctx context.Context) (cluster uint64, rev int64, err error) {
	ctx, cancel := small(ctx)
	defer cancel()
	r, err := s.c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil {
		return 0, 0, err
	}
	return r.Header.GetClusterId(), r.Header.GetRevision(), nil
}

// Snapshot opens the file that Maintenance.Snapshot sends. The caller closes it.
func (s *Source) Snapshot(ctx context.Context) (io.ReadCloser, error) {
	r, err := s.c.SnapshotWithVersion(ctx)
	if err != nil {
		return nil, err
	}
	return r.Snapshot, nil
}

// Alarms names the alarms that are set.
func (s *Source) Alarms(ctx context.Context) (names []string, err error) {
	ctx, cancel := small(ctx)
	defer cancel()
	r, err := s.c.AlarmList(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range r.Alarms {
		names = append(names, a.Alarm.String())
	}
	return names, nil
}

// authNumber is the revision of the users and roles, and says whether authentication is enabled.
type authNumber struct {
	revision uint64
	enabled  bool
}

// auth returns the authNumber. told is false if the source does not tell, as an etcd before 3.5.
func (s *Source) auth(ctx context.Context) (n authNumber, told bool, err error) {
	ctx, cancel := small(ctx)
	defer cancel()
	r, err := s.c.AuthStatus(ctx)
	switch {
	case status.Code(err) == codes.Unimplemented:
		return n, false, nil
	case err != nil:
		return n, false, err
	}
	return authNumber{max(1, r.AuthRevision), r.Enabled}, true, nil
}

// leases returns all leases with the time to live that they were granted. It leaves out a lease that ends in the
// meantime.
func (s *Source) leases(ctx context.Context) ([]*adminv1.Lease, error) {
	list, err := s.leaseIDs(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, ttlsMax)
		found = make([]*adminv1.Lease, len(list))
	)
	for i, l := range list {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r, err := s.c.TimeToLive(ctx, l.ID)
			switch {
			case errors.Is(err, rpctypes.ErrLeaseNotFound):
			case err != nil:
				cancel(err)
			case r.TTL > 0 || r.GrantedTTL > 0:
				found[i] = &adminv1.Lease{Id: int64(l.ID), Ttl: r.GrantedTTL}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	kept := found[:0]
	for _, l := range found {
		if l != nil {
			kept = append(kept, l)
		}
	}
	return kept, nil
}

// ttl returns the time to live that a lease was granted. If a lease has ended since the revision at which a key has it,
// ttl is one second, because the key will be deleted soon.
func (s *Source) ttl(ctx context.Context, id int64) (int64, error) {
	ctx, cancel := small(ctx)
	defer cancel()
	r, err := s.c.TimeToLive(ctx, clientv3.LeaseID(id))
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return 1, nil
	case err != nil:
		return 0, err
	}
	return max(1, r.GrantedTTL), nil
}

func (s *Source) leaseIDs(ctx context.Context) ([]clientv3.LeaseStatus, error) {
	ctx, cancel := small(ctx)
	defer cancel()
	r, err := s.c.Leases(ctx)
	if err != nil {
		return nil, err
	}
	return r.Leases, nil
}

// version is a version of a key on either side.
type version struct {
	key, value                          []byte
	create, mod, version, lease, length int64
}

func sourceVersion(kv *mvccpb.KeyValue) *version {
	return &version{
		key: kv.Key, value: kv.Value, create: kv.CreateRevision, mod: kv.ModRevision, version: kv.Version,
		lease: kv.Lease, length: int64(len(kv.Value)),
	}
}

// page reads at most limit keys from begin on.
func (s *Source) page(ctx context.Context, begin []byte, rev, limit int64) (page []*version, more bool, err error) {
	if len(begin) == 0 {
		begin = []byte{0}
	}
	r, err := s.c.Get(ctx, string(begin), clientv3.WithFromKey(), clientv3.WithRev(rev), clientv3.WithLimit(limit))
	if err != nil {
		return nil, false, err
	}
	for _, kv := range r.Kvs {
		page = append(page, sourceVersion(kv))
	}
	return page, r.More, nil
}

// some reads the given keys, at most txnKeys. It leaves out those that do not exist.
func (s *Source) some(ctx context.Context, keys [][]byte, rev int64) (found []*version, err error) {
	ops := make([]clientv3.Op, len(keys))
	for i, key := range keys {
		ops[i] = clientv3.OpGet(string(key), clientv3.WithRev(rev))
	}
	r, err := s.c.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, err
	}
	for _, one := range r.Responses {
		for _, kv := range one.GetResponseRange().GetKvs() {
			found = append(found, sourceVersion(kv))
		}
	}
	return found, nil
}
