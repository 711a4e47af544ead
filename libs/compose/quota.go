package compose

import (
	"context"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// quotaInterval is the time between two looks at the size of a store that keeps no sum of its live bytes. What is
// written in between may exceed the quota.
const quotaInterval = time.Second

// bell reports that something has happened, once or several times.
type bell chan struct{}

func (b bell) signal() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// quota returns the keyspace's limit of bytes; 0: none. On pods it is only the keyspace's own limit, because
// FoundationDB bounds the size of the store.
func (k *Keyspace) quota() int64 {
	if own := k.limits.GetBytes(); own > 0 {
		return int64(min(own, math.MaxInt64))
	}
	if k.d.Kind.IsPod() {
		return 0
	}
	return k.d.Config.QuotaBackendBytes
}

// quotaPart refuses growth beyond the quota and beyond the limit of keys, and raises the alarm NOSPACE. Every process
// that writes the keyspace has this part. All of them read the same counters.
func quotaPart(k *Keyspace) part {
	over := make(bell, 1)
	return part{
		want: func(o *mvcc.Options) {
			o.Quota, o.OverQuota = k.quota(), over.signal
			o.KeysMax, o.OverKeys = int64(min(k.limits.GetKeys(), math.MaxInt64)), over.signal
		},
		open: func(context.Context) error {
			if k.quota() > 0 || k.limits.GetKeys() > 0 {
				k.Go("quota", func(ctx context.Context) error { k.watchQuota(ctx, over); return nil })
			}
			return nil
		},
	}
}

// watchQuota raises the alarm NOSPACE when a limit of space has refused a request, until ctx ends. As in etcd, the
// alarm stays until somebody disarms it, and the next request that does not fit raises it again.
func (k *Keyspace) watchQuota(ctx context.Context, over bell) {
	if k.quota() > 0 && !k.Store.Features().Has(mvcc.FeatureSizes) {
		k.pollQuota(ctx, over)
		return
	}
	for {
		select {
		case <-over:
			k.raiseNoSpace(ctx, k.Store.LiveBytes())
		case <-ctx.Done():
			return
		}
	}
}

// pollQuota is watchQuota for data of the first format, where the size of all files counts.
func (k *Keyspace) pollQuota(ctx context.Context, over bell) {
	ticker := time.NewTicker(quotaInterval)
	defer ticker.Stop()
	for {
		if total, _ := k.Store.Sizes(); total >= k.quota() {
			k.raiseNoSpace(ctx, total)
		}
		select {
		case <-ctx.Done():
			return
		case <-over: // the limit of keys
			total, _ := k.Store.Sizes()
			k.raiseNoSpace(ctx, total)
		case <-ticker.C:
		}
	}
}

func (k *Keyspace) raiseNoSpace(ctx context.Context, size int64) {
	changed, err := k.Alarms.SetAlarm(ctx, k.Header.MemberID, pb.AlarmType_NOSPACE, true)
	switch {
	case err != nil && ctx.Err() == nil:
		k.d.Log.Error("raising the alarm NOSPACE failed", "error", err)
	case changed:
		k.d.Log.Warn("alarm raised", "alarm", "NOSPACE", "keyspace", k.Place.Name, "quota-backend-bytes", k.quota(),
			"size-bytes", size, "keys-limit", k.limits.GetKeys())
	}
}
