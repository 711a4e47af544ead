package main

import (
	"context"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// quotaInterval is the time between two looks at the store's size. What is written in between may exceed the quota.
const quotaInterval = time.Second

// sizer tells the size of the store.
type sizer interface {
	Sizes() (total, inUse int64)
}

// alarmSetter raises alarms.
type alarmSetter interface {
	SetAlarm(ctx context.Context, memberID uint64, alarm pb.AlarmType, active bool) (changed bool, err error)
}

// watchQuota raises the alarm NOSPACE when the store has reached its quota, until ctx ends. As in etcd the alarm stays
// until somebody disarms it, and comes back if the store is still too large.
func watchQuota(ctx context.Context, log *slog.Logger, s sizer, a alarmSetter, memberID uint64, quota int64) {
	ticker := time.NewTicker(quotaInterval)
	defer ticker.Stop()
	for {
		if total, _ := s.Sizes(); total >= quota {
			changed, err := a.SetAlarm(ctx, memberID, pb.AlarmType_NOSPACE, true)
			switch {
			case err != nil && ctx.Err() == nil:
				log.Error("raising the alarm NOSPACE failed", "error", err)
			case changed:
				log.Warn("alarm raised", "alarm", "NOSPACE", "quota-backend-bytes", quota, "size-bytes", total)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
