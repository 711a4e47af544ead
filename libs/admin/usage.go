package admin

import (
	"context"

	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// Usage implements adminv1.KeyspacesServer.
func (k *keyspaces) Usage(ctx context.Context, r *adminv1.UsageRequest) (*adminv1.UsageResponse, error) {
	if len(r.GetNames()) > 0 {
		return k.usageOf(ctx, r)
	}
	infos, next, err := k.page(ctx, r.GetAfter(), r.GetLimit())
	if err != nil {
		return nil, grpcErr(err)
	}
	a := &adminv1.UsageResponse{Next: next}
	if first := k.Host.First(); r.GetAfter() == "" && first != "" {
		a.Usage = append(a.Usage, k.usage(ctx, firstInfo(first), r.GetCountKeys()))
	}
	for _, info := range infos {
		a.Usage = append(a.Usage, k.usage(ctx, info, r.GetCountKeys()))
	}
	return a, ctx.Err()
}

// usageOf returns the usage of the keyspaces that are named.
func (k *keyspaces) usageOf(ctx context.Context, r *adminv1.UsageRequest) (*adminv1.UsageResponse, error) {
	a := &adminv1.UsageResponse{}
	for _, name := range r.GetNames() {
		info := firstInfo(name)
		if name != k.Host.First() {
			var err error
			if info, err = keyspace.Show(ctx, k.Engine, k.Root, name); err != nil {
				return nil, grpcErr(err)
			}
		}
		a.Usage = append(a.Usage, k.usage(ctx, info, r.GetCountKeys()))
	}
	return a, nil
}

// firstInfo returns an Info for the first keyspace, which has no row.
func firstInfo(name string) keyspace.Info {
	return keyspace.Info{Keyspace: keyspace.Keyspace{Name: name}}
}

// usage returns the usage of one keyspace. An error is a part of it, so that others are still shown.
func (k *keyspaces) usage(ctx context.Context, info keyspace.Info, count bool) *adminv1.Usage {
	act := k.Host.Activity(info.ID)
	u := &adminv1.Usage{
		Name: info.Name, Id: info.ID, First: info.ID == 0,
		Active: act.Open, Calls: int64(act.Calls), Streams: int64(act.Streams),
		Reads: act.Reads, Writes: act.Writes, Refused: act.Refused, Watches: int64(act.Watches),
	}
	p, err := mvcc.Peek(ctx, k.Engine, info.Prefix)
	if err == nil {
		u.Revision, u.CompactRevision, u.RemovedRevision, u.Bytes = p.Head, p.Compact, p.Removed, p.Live
	}
	if err == nil && count {
		u.Keys, u.Leases, err = mvcc.Count(ctx, k.Engine, info.Prefix)
		u.KeysCounted = err == nil
	}
	if err != nil {
		u.Error = err.Error()
	}
	return u
}
