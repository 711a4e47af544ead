package pod

import (
	"context"
	"fmt"

	"github.com/headwaterdb/headwater/libs/etcdapi"
)

// OpenAlarms reads the alarms of the keyspace. From then on it follows what other pods do to them, and raises CORRUPT
// when this pod meets damaged data.
func (p *Pod) OpenAlarms(ctx context.Context) (alarms *etcdapi.Alarms, err error) {
	if err := p.Reach(ctx, func(ctx context.Context) (err error) { alarms, err = etcdapi.OpenAlarms(ctx, p.Store); return err }); err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	p.Go("alarms", func(ctx context.Context) error { alarms.Follow(ctx, p.Log); return nil })
	p.Go("damage", func(ctx context.Context) error { p.damage.Run(ctx, alarms, p.Header.MemberID); return nil })
	return alarms, nil
}
