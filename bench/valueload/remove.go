package valueload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/watchload"
)

// besideTail is the least time after the beginning of a removal in which the other client's puts count for PutP99.
const besideTail = time.Second

// leaseTTL is the TTL in seconds of the lease that is revoked. It is longer than any run.
const leaseTTL = 3600

// removal is one kind of removal. It fills the server, and returns the function that is timed and a check of what must
// be true afterwards.
type removal func(ctx context.Context, o *Options,
	c *clientv3.Client) (remove, check func(context.Context) error, err error)

// Delete removes a prefix of Options.Keys keys with one DeleteRange.
func Delete(ctx context.Context, o Options) (watchload.Result, error) {
	return removals(ctx, &o, "delete", deletion)
}

// Revoke revokes a lease that Options.Keys keys are attached to.
func Revoke(ctx context.Context, o Options) (watchload.Result, error) {
	return removals(ctx, &o, "revoke", revocation)
}

// Compact compacts Options.Keys revisions of one key, and waits until they are removed.
func Compact(ctx context.Context, o Options) (watchload.Result, error) {
	return removals(ctx, &o, "compact", compaction)
}

func deletion(ctx context.Context, o *Options,
	c *clientv3.Client,
) (remove, check func(context.Context) error, err error) {
	var deleted int64
	remove = func(ctx context.Context) error {
		resp, err := c.Delete(ctx, prefix, clientv3.WithPrefix())
		if err == nil {
			deleted = resp.Deleted
		}
		return err
	}
	check = func(context.Context) error {
		if deleted != o.Keys {
			return fmt.Errorf("%d keys were deleted, not %d", deleted, o.Keys)
		}
		return nil
	}
	return remove, check, fill(ctx, o, o.Keys, keyAt)
}

func revocation(ctx context.Context, o *Options,
	c *clientv3.Client,
) (remove, check func(context.Context) error, err error) {
	lease, err := c.Grant(ctx, leaseTTL)
	if err != nil {
		return nil, nil, fmt.Errorf("grant: %w", err)
	}
	remove = func(ctx context.Context) error {
		_, err := c.Revoke(ctx, lease.ID)
		return err
	}
	check = func(ctx context.Context) error {
		resp, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && resp.Count != 0 {
			err = fmt.Errorf("%d keys are left after the revoke", resp.Count)
		}
		return err
	}
	return remove, check, fill(ctx, o, o.Keys, keyAt, clientv3.WithLease(lease.ID))
}

func compaction(ctx context.Context, o *Options,
	c *clientv3.Client,
) (remove, check func(context.Context) error, err error) {
	if err := fill(ctx, o, o.Keys, func(int64) string { return keyAt(0) }); err != nil {
		return nil, nil, err
	}
	resp, err := c.Get(ctx, keyAt(0), clientv3.WithCountOnly())
	if err != nil {
		return nil, nil, err
	}
	rev := resp.Header.Revision
	remove = func(ctx context.Context) error {
		_, err := c.Compact(ctx, rev, clientv3.WithCompactPhysical())
		return err
	}
	check = func(ctx context.Context) error {
		_, err := c.Get(ctx, keyAt(0), clientv3.WithRev(rev-1))
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return fmt.Errorf("a read below the compacted revision: %w",
				errors.Join(err, errors.New("it should have been refused")))
		}
		return nil
	}
	return remove, check, nil
}

// sample is one removal.
type sample struct {
	begin, end time.Time
	puts       []span // of the other client, from before it until after it
	others     float64
}

func removals(ctx context.Context, o *Options, name string, kind removal) (watchload.Result, error) {
	res := watchload.Result{Command: name}
	if err := o.Validate(); err != nil {
		return res, err
	}
	c, err := dial(o.Endpoint)
	if err != nil {
		return res, err
	}
	defer c.Close()
	var samples []sample
	for i := range o.Repeat {
		s, err := removeOnce(ctx, o, c, kind, i == o.Repeat-1)
		if err != nil {
			return res, fmt.Errorf("%s %d: %w", name, i+1, err)
		}
		samples = append(samples, s)
		res.Others = max(res.Others, s.others)
	}
	res.Values = removalValues(samples)
	return res, nil
}

// removeOnce fills, rests, and removes, with the other client beside from the rest on.
func removeOnce(ctx context.Context, o *Options, c *clientv3.Client, kind removal, last bool) (s sample, err error) {
	remove, check, err := kind(ctx, o, c)
	if err != nil {
		return s, err
	}
	b, err := startBeside(ctx, o)
	if err != nil {
		return s, err
	}
	defer func() { _, _ = b.stop() }() // the error has been handled, or another error is being returned
	if err := sleep(ctx, o.Rest); err != nil {
		return s, err
	}
	profiled := profile(ctx, o, last, profileShort)
	var m load.Meter
	if err := m.Start(o.ServerPID); err != nil {
		return s, err
	}
	within, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s.begin = time.Now()
	err = remove(within)
	s.end = time.Now()
	if err != nil {
		return s, fmt.Errorf("after %v: %w", s.end.Sub(s.begin).Round(time.Millisecond), err)
	}
	err = errors.Join(sleep(ctx, time.Until(s.begin.Add(besideTail))), m.Stop(), check(within), <-profiled)
	puts, putErr := b.stop()
	s.puts = puts
	if used := m.Used(0); used != nil {
		s.others = used.Others
	}
	return s, errors.Join(err, putErr)
}

// removalValues sums the removals up.
func removalValues(samples []sample) map[string]float64 {
	var times, most, before, after []float64
	for _, s := range samples {
		times = append(times, s.end.Sub(s.begin).Seconds())
		slowest := 0.0
		tail := s.begin.Add(max(besideTail, s.end.Sub(s.begin)))
		for _, p := range s.puts {
			took := p.took().Seconds()
			if p.overlaps(s.begin, s.end) {
				slowest = max(slowest, took)
			}
			if p.end.Before(s.begin) {
				before = append(before, took)
			} else if p.overlaps(s.begin, tail) {
				after = append(after, took)
			}
		}
		most = append(most, slowest)
	}
	return map[string]float64{
		Time: quantile(times, 0.5), TimeMax: slices.Max(times), PutMax: quantile(most, 0.5),
		PutP99:       quantile(after, 0.99),
		PutP50Before: quantile(before, 0.5), PutP99Before: quantile(before, 0.99),
	}
}

// quantile returns the smallest of vs that at least the fraction q of them does not exceed. It returns 0 if vs is
// empty.
func quantile(vs []float64, q float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(vs))
	i := int(q*float64(len(s))+0.999999) - 1
	return s[min(max(i, 0), len(s)-1)]
}
