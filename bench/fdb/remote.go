package fdb

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/headwaterdb/headwater/bench/compare"
	"github.com/headwaterdb/headwater/bench/proc"
	"github.com/headwaterdb/headwater/bench/valueload"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/tests/stack"
)

// Names of values that the rows of this file have.
const (
	valueKeeper = "keeper" // CPU seconds of all lease keepers per keep-alive
	valueTime   = "time"   // of a removal, in seconds
	valueBeside = "beside" // p99 of another client's puts during it, in seconds
	valueApart  = "apart"  // puts per second of as many clients on as many keys
	valuePods   = "pods"   // cores of all pods
	valueOthers = "rest"   // cores of FoundationDB and NATS
	valueSleeps = "sleeps" // how often threads of pods sleep, per second
)

// idleSettle is how long a deployment has nothing to do before its CPU is measured. idleWindow is how long it is
// measured.
const idleSettle, idleWindow = 5 * time.Second, 10 * time.Second

// remoteRows are the rows of operations that careless code would perform with a round trip for each key, lease or
// request.
func remoteRows() []row {
	rows := []row{
		keepAliveRow("keepalive", "keep-alive at a lease keeper, a stream for each, 20 × 50", 15_000, "--clients=50"),
		keepAliveRow("keepalive-streams", "keep-alive at a lease keeper, long-lived streams, 20 × 200", 25_000,
			clients, "--stream"),
		removalRow("revoke", 1000, 600, 0.050),
		removalRow("revoke", 2500, 600, 0.100),
		removalRow("revoke", 10_000, 600, 0.400),
		removalRow("delete", 1000, 1024, 0.060),
		removalRow("delete", 10_000, 1024, 0.500),
	}
	for _, n := range []int{200, 2000, 10_000} {
		rows = append(rows, hotRow(n))
	}
	return append(rows, idleRow(),
		countRow("count", "count of --count-keys keys, 1 client", 0.050),
		countRow("first-page", "first page of 500 of --count-keys keys, with its count, 1 client", 0.020,
			"--limit=500"))
}

func keepAliveRow(id, work string, least float64, args ...string) row {
	return row{
		id: id, work: work,
		run: func(ctx context.Context, b *bench) (sample, error) {
			at := []string{"lease-keepalive", conns, sparse, "--endpoints=" + b.keeper[0].Address}
			res, used, err := b.load(ctx, true, append(at, args...)...)
			if err != nil {
				return sample{}, err
			}
			s := loadSample(res, used)
			s.values = map[string]float64{valueKeeper: used[kindKeeper] / s.rate}
			return s, nil
		},
		verdict: func(all map[string][]sample) verdict {
			rate, cpu := median(all[id], rateOf), median(all[id], value(valueKeeper))*1e6
			fdb := median(all[id], func(s sample) float64 { return s.cpu[stack.KindFDB] })
			return verdict{
				fmt.Sprintf("%s/s, %.1f µs of the keeper each, %.2f cores of fdbserver", compare.Thousands(rate), cpu,
					fdb),
				[]goal{atLeast("", least, rate), atMost("keeper's µs ", 25, cpu)},
			}
		},
	}
}

// removalRow is one request that removes keys of size bytes, beside another client's puts. Its goal is to take at most
// within seconds.
func removalRow(command string, keys, size int, within float64) row {
	id := fmt.Sprintf("%s-%d", command, keys)
	work := map[string]string{"revoke": "revoke of a lease with", "delete": "delete of a prefix of"}[command]
	return row{
		id: id, work: fmt.Sprintf("%s %s keys of %d B", work, compare.Thousands(float64(keys)), size),
		run: func(ctx context.Context, b *bench) (sample, error) {
			res, _, err := b.load(ctx, false, command, "--keys="+strconv.Itoa(keys), "--val-size="+strconv.Itoa(size),
				"--repeat=1", "--endpoints="+b.kv[0].Address, "--server-pid="+strconv.Itoa(b.kv[0].PID()))
			v := res.Values
			return sample{values: map[string]float64{valueTime: v[valueload.Time], valueBeside: v[valueload.PutP99]}},
				err
		},
		verdict: func(all map[string][]sample) verdict {
			took, beside := median(all[id], value(valueTime))*1e3, median(all[id], value(valueBeside))*1e3
			v := verdict{
				fmt.Sprintf("%.0f ms, another client's put p99 %.1f ms", took, beside),
				[]goal{atMost("ms ", within*1e3, took)},
			}
			if command == "delete" {
				v.goals = append(v.goals, atMost("put p99 ms ", 50, beside))
			}
			return v
		},
	}
}

// hotRow compares n clients that write one key with n clients that write n keys.
func hotRow(n int) row {
	id := fmt.Sprintf("one-key-%d", n)
	return row{
		id: id, work: fmt.Sprintf("put, one key, %s clients", compare.Thousands(float64(n))),
		run: func(ctx context.Context, b *bench) (sample, error) {
			puts := func(keys int) (sample, error) {
				return many(false, "put", conns, "--clients="+strconv.Itoa(n),
					"--key-space-size="+strconv.Itoa(keys))(ctx, b)
			}
			apart, err := puts(n)
			if err != nil {
				return sample{}, err
			}
			s, err := puts(1)
			if err != nil {
				return sample{}, err
			}
			s.values[valueApart] = apart.rate
			return s, nil
		},
		verdict: func(all map[string][]sample) verdict {
			one, apart := median(all[id], rateOf), median(all[id], value(valueApart))
			ratio := one / apart
			return verdict{
				fmt.Sprintf("%s/s, %s/s on as many keys: %.2f ×", compare.Thousands(one), compare.Thousands(apart),
					ratio),
				[]goal{{"≥ 0.95 ×", ratio >= 0.95}},
			}
		},
	}
}

func idleRow() row {
	return row{
		id: "idle", work: "six pods without a client", run: idle,
		verdict: func(all map[string][]sample) verdict {
			pods, others := median(all["idle"], value(valuePods)), median(all["idle"], value(valueOthers))
			sleeps := median(all["idle"], value(valueSleeps))
			return verdict{
				fmt.Sprintf("%.1f %% of a core, %s wake-ups of threads/s, fdbserver and NATS %.1f %%", pods*100,
					compare.Thousands(sleeps), others*100),
				[]goal{atMost("% ", 2, pods*100)},
			}
		},
	}
}

// idle measures the CPU of all six pods, and how often their threads wake up, while no client sends a request.
func idle(ctx context.Context, b *bench) (s sample, err error) {
	for _, p := range []*stack.Process{b.kv[1], b.keeper[1]} {
		if err := p.Start(ctx); err != nil {
			return s, err
		}
		defer func() {
			if serr := p.Stop(); err == nil {
				err = serr
			}
		}()
	}
	if err := retry.Sleep(ctx, idleSettle); err != nil {
		return s, err
	}
	before, slept, err := b.usedIdly()
	if err != nil {
		return s, err
	}
	begin := time.Now()
	if err := retry.Sleep(ctx, idleWindow); err != nil {
		return s, err
	}
	after, sleeps, err := b.usedIdly()
	if err != nil {
		return s, err
	}
	s.values, s.cpu = map[string]float64{}, cores{}
	s.values[valueSleeps] = float64(sleeps-slept) / time.Since(begin).Seconds()
	for kind, t := range after {
		s.cpu[kind] = (t - before[kind]).Seconds() / time.Since(begin).Seconds()
		switch kind {
		case kindKV, kindHub, kindKeeper:
			s.values[valuePods] += s.cpu[kind]
		default:
			s.values[valueOthers] += s.cpu[kind]
		}
	}
	return s, nil
}

// usedIdly reads what the processes of the stack have used so far, and how often the threads of the pods have slept.
func (b *bench) usedIdly() (cpu map[string]time.Duration, sleeps int64, err error) {
	for _, p := range slices.Concat(b.kv, b.hub, b.keeper) {
		n, err := proc.Sleeps(p.PID())
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", p.Name, err)
		}
		sleeps += n
	}
	cpu, err = b.cpuByKind()
	return cpu, sleeps, err
}

// cpuByKind reads what the processes of the stack have used so far.
func (b *bench) cpuByKind() (map[string]time.Duration, error) {
	t := map[string]time.Duration{}
	for _, p := range b.stack.Processes("") {
		if !p.Running() {
			continue
		}
		d, err := proc.CPU(p.PID())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		t[p.Kind] += d
	}
	return t, nil
}

// countRow counts Config.CountKeys keys, which the first of these rows writes. Its goal is a p50 of at most
// within seconds.
func countRow(id, work string, within float64, args ...string) row {
	return row{
		id: id, work: work,
		run: func(ctx context.Context, b *bench) (sample, error) {
			at, err := b.counted(ctx)
			if err != nil {
				return sample{}, err
			}
			res, used, err := b.load(ctx, true, append(append([]string{"count"}, at...), args...)...)
			if err != nil {
				return sample{}, err
			}
			s := loadSample(res, used)
			s.rate /= float64(b.cfg.CountKeys) // of requests
			return s, nil
		},
		verdict: func(all map[string][]sample) verdict {
			p50 := median(all[id], p50Of) * 1e3
			return verdict{fmt.Sprintf("%.1f ms", p50), []goal{atMost("ms ", within*1e3, p50)}}
		},
	}
}

// counted writes the keys that are counted, once in a run, and returns the flags that select them.
func (b *bench) counted(ctx context.Context) (at []string, err error) {
	if b.countPrefix == "" {
		b.countPrefix = b.prefix()
	}
	at = []string{
		"--endpoints=" + b.kv[0].Address, "--prefix=" + b.countPrefix, sparse,
		"--key-space-size=" + strconv.Itoa(b.cfg.CountKeys),
	}
	if !b.countFilled {
		fill := append([]string{"fill", "--conns=4", "--clients=40", "--txn-ops=100", "--val-size=16"}, at...)
		if _, _, err := b.load(ctx, false, fill...); err != nil {
			return nil, err
		}
		b.countFilled = true
	}
	return at, nil
}
