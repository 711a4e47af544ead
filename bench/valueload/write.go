package valueload

import (
	"context"
	"fmt"
	"time"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/proc"
	"github.com/headwaterdb/headwater/bench/watchload"
)

// When the server counts as having written everything that the load has caused.
const (
	settleEvery = 250 * time.Millisecond
	// settleBytes is no more than what an idle server writes.
	settleBytes = 64 << 10
	// settleMax bounds the wait. A server that goes on writing is measured up to then.
	settleMax = 30 * time.Second
)

// keyBytes is the length of a key that is created or updated.
const keyBytes = 24

// freshKeys is a key space that no run exhausts.
const freshKeys = 1_000_000_000

// Update replaces the values of Options.Keys keys, which it writes first.
func Update(ctx context.Context, o Options) (watchload.Result, error) {
	return writes(ctx, &o, "update", o.Keys, load.Update)
}

// Create writes fresh keys.
func Create(ctx context.Context, o Options) (watchload.Result, error) {
	return writes(ctx, &o, "create", freshKeys, load.Create)
}

func writes(ctx context.Context, o *Options, name string, space int64,
	run func(context.Context, load.Options) (load.Result, error),
) (watchload.Result, error) {
	res := watchload.Result{Command: name}
	if err := o.Validate(); err != nil {
		return res, err
	}
	lo := load.Options{
		Endpoints: []string{o.Endpoint}, Conns: o.Conns, Clients: o.Clients, Duration: o.Duration, Warmup: o.Warmup,
		Seed:   o.Seed,
		Prefix: prefix, KeySize: keyBytes, ValSize: o.ValSize, KeySpace: space, Verify: true, ServerPID: o.ServerPID,
	}
	if space != freshKeys {
		if _, err := load.Fill(ctx, lo, 1); err != nil {
			return res, err
		}
	}
	before, err := settled(ctx, o)
	if err != nil {
		return res, err
	}
	profiled := profile(ctx, o, true, o.Warmup+o.Duration)
	r, err := run(ctx, lo)
	if err == nil && r.Errors > 0 {
		err = fmt.Errorf("%d requests failed, first: %s", r.Errors, r.FirstError)
	}
	if err != nil {
		return res, err
	}
	if err := <-profiled; err != nil {
		return res, err
	}
	atEnd, err := proc.ReadIO(o.ServerPID)
	if err != nil {
		return res, err
	}
	after, err := settled(ctx, o)
	if err != nil {
		return res, err
	}
	values := float64(r.Writes) * float64(o.ValSize)
	l := r.Latencies[0]
	res.Others = r.Server.Others
	res.Values = map[string]float64{
		PerSecond: r.PerSec, P50: l.P50.Seconds(), P99: l.P99.Seconds(), CPUPerUpdate: r.Server.CPUPerUnit,
		WrittenPerByte:  float64(after.Disk-before.Disk) / values,
		WrittenInWindow: float64(atEnd.Disk-before.Disk) / values,
		CallsPerByte:    float64(after.Calls-before.Calls) / values,
	}
	return res, nil
}

// settled waits until the server has written next to nothing for Options.Settle, and returns what it has written
// since its start.
func settled(ctx context.Context, o *Options) (proc.IO, error) {
	begin := time.Now()
	mark, since := int64(0), begin
	for {
		n, err := proc.ReadIO(o.ServerPID)
		if err != nil {
			return n, err
		}
		if n.Disk-mark > settleBytes {
			mark, since = n.Disk, time.Now()
		}
		if time.Since(since) >= o.Settle || time.Since(begin) >= settleMax {
			return n, nil
		}
		if err := sleep(ctx, settleEvery); err != nil {
			return n, err
		}
	}
}
