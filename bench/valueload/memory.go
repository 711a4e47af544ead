package valueload

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/proc"
	"github.com/headwaterdb/headwater/bench/watchload"
)

// Fill writes the keys that DeleteMemory deletes, so that the server can be started anew in between. Right after the
// fill, the heap would be so large that it hides what a delete needs.
func Fill(ctx context.Context, o Options) (watchload.Result, error) {
	res := watchload.Result{Command: "fill-values", Values: map[string]float64{}}
	if err := o.Validate(); err != nil {
		return res, err
	}
	return res, fill(ctx, &o, o.Keys, keyAt)
}

// DeleteMemory deletes the keys that Fill has written with one DeleteRange, and measures the server's memory until
// one watcher of them has all events.
func DeleteMemory(ctx context.Context, o Options) (watchload.Result, error) {
	res := watchload.Result{Command: "delete-memory"}
	if err := o.Validate(); err != nil {
		return res, err
	}
	c, err := dial(o.Endpoint)
	if err != nil {
		return res, err
	}
	defer c.Close()
	watcher, err := dial(o.Endpoint)
	if err != nil {
		return res, err
	}
	defer watcher.Close()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	opts := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCreatedNotify()}
	if o.PrevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	events := watcher.Watch(ctx, prefix, opts...)
	if created := <-events; !created.Created {
		return res, fmt.Errorf("the watch was not created: %w", created.Err())
	}
	if err := sleep(ctx, o.Rest); err != nil {
		return res, err
	}
	before, err := proc.ReadMemory(o.ServerPID)
	if err != nil {
		return res, err
	}
	if err := proc.ResetPeak(o.ServerPID); err != nil {
		return res, err
	}
	var m load.Meter
	if err := m.Start(o.ServerPID); err != nil {
		return res, err
	}
	profiled := profile(ctx, &o, true, profileShort)
	seen := make(chan error, 1)
	go func() { seen <- count(&o, events) }()
	resp, err := c.Delete(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return res, errors.Join(err, ctx.Err())
	}
	if resp.Deleted != o.Keys {
		return res, fmt.Errorf("%d keys were deleted, not %d", resp.Deleted, o.Keys)
	}
	if err := errors.Join(<-seen, m.Stop(), <-profiled); err != nil {
		return res, err
	}
	after, err := proc.ReadMemory(o.ServerPID)
	if err != nil {
		return res, err
	}
	res.Others = m.Used(0).Others
	res.Values = map[string]float64{
		RSSBefore: float64(before.RSS), RSSPeak: float64(after.Peak), RSSGrowth: float64(after.Peak - before.RSS),
	}
	return res, nil
}

// count reads events until all deletes have come, each with its previous value if that was asked for.
func count(o *Options, events clientv3.WatchChan) error {
	var n int64
	for resp := range events {
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		for _, ev := range resp.Events {
			if ev.Type != clientv3.EventTypeDelete {
				return fmt.Errorf("watch: an event of type %v", ev.Type)
			}
			if o.PrevKV && (ev.PrevKv == nil || len(ev.PrevKv.Value) != o.ValSize) {
				return errors.New("watch: an event without its previous value")
			}
			n++
		}
		if n >= o.Keys {
			return nil
		}
	}
	return fmt.Errorf("watch: it ended after %d events of %d", n, o.Keys)
}
