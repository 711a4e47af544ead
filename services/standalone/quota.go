package main

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// quotaInterval is the time between two looks at the size of a store that keeps no sum of its live bytes. What is
// written in between may exceed the quota.
const quotaInterval = time.Second

// bell tells that something has happened, once or more often.
type bell chan struct{}

func (b bell) signal() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// watchQuota raises the alarm NOSPACE when a request has been refused because of the quota, until ctx ends. As in
// etcd the alarm stays until somebody disarms it, and comes back with the next request that does not fit.
func (n *node) watchQuota(ctx context.Context) {
	if !n.store.Features().Has(mvcc.FeatureSizes) {
		n.pollQuota(ctx)
		return
	}
	for {
		select {
		case <-n.overQuota:
			n.raiseNoSpace(ctx, n.store.LiveBytes())
		case <-ctx.Done():
			return
		}
	}
}

// pollQuota is watchQuota for data of the first format, where all files count.
func (n *node) pollQuota(ctx context.Context) {
	ticker := time.NewTicker(quotaInterval)
	defer ticker.Stop()
	for {
		if total, _ := n.store.Sizes(); total >= n.quota {
			n.raiseNoSpace(ctx, total)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (n *node) raiseNoSpace(ctx context.Context, size int64) {
	changed, err := n.alarms.SetAlarm(ctx, n.header.MemberID, pb.AlarmType_NOSPACE, true)
	switch {
	case err != nil && ctx.Err() == nil:
		n.log.Error("raising the alarm NOSPACE failed", "error", err)
	case changed:
		n.log.Warn("alarm raised", "alarm", "NOSPACE", "quota-backend-bytes", n.quota, "size-bytes", size)
	}
}
