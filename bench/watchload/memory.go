package watchload

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/proc"
)

// memoryUse is a server's memory in bytes.
type memoryUse struct{ rss, live float64 }

// Memory measures what Watchers watchers on Streams streams cost the server, each on a prefix of its own. It reads RSS
// when Settle has passed since the last watch was created. It reads live memory after a garbage collection, from the
// server's own numbers (Options.Pprof).
func Memory(ctx context.Context, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	c, err := o.open(ctx)
	if err != nil {
		return Result{}, err
	}
	defer c.close()
	var m load.Meter
	if err := m.Start(o.ServerPID); err != nil {
		return Result{}, err
	}
	before, err := o.memory(ctx)
	if err != nil {
		return Result{}, err
	}
	started := time.Now()
	g, err := openGroup(ctx, c.watch, watchSpec{
		streams: o.Streams, perStream: o.Watchers / o.Streams, prevKV: o.PrevKV, contiguous: true, interval: ownPrefix,
	})
	if err != nil {
		return Result{}, err
	}
	defer g.close()
	if err := g.awaitCreated(ctx); err != nil {
		return Result{}, err
	}
	created := time.Since(started)
	after, err := o.memory(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := m.Stop(); err != nil {
		return Result{}, err
	}
	n := float64(o.Watchers)
	res := Result{Command: "watch-memory", Others: m.Used(0).Others, Values: map[string]float64{
		RSSPerWatcher: (after.rss - before.rss) / n, RSSBefore: before.rss, RSSMax: after.rss,
		CreateAll: created.Seconds(),
	}}
	if o.Pprof {
		res.Values[LivePerWatcher] = (after.live - before.live) / n
	}
	return res, g.err()
}

// memory reads the server's memory after a rest.
func (o *Options) memory(ctx context.Context) (u memoryUse, err error) {
	sleep(ctx, o.Settle)
	m, err := proc.ReadMemory(o.ServerPID)
	if err != nil || !o.Pprof {
		return memoryUse{rss: float64(m.RSS)}, err
	}
	live, err := liveMemory(ctx, o.Endpoint)
	return memoryUse{rss: float64(m.RSS), live: live}, err
}

// liveMemory makes the Go server at endpoint collect its garbage and returns the bytes of heap objects and stacks left.
func liveMemory(ctx context.Context, endpoint string) (float64, error) {
	url := "http://" + endpoint + "/debug/pprof/heap?gc=1&debug=1"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return parseLive(string(text))
}

// parseLive adds up HeapAlloc and the stacks in use of the text form of Go's heap profile.
func parseLive(text string) (bytes float64, err error) {
	found := 0
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "#")), " = ")
		if !ok || name != "HeapAlloc" && name != "Stack" {
			continue
		}
		inUse, _, _ := strings.Cut(value, " ")
		n, err := strconv.ParseFloat(inUse, 64)
		if err != nil {
			return 0, err
		}
		bytes += n
		found++
	}
	if found != 2 {
		return 0, fmt.Errorf("a heap profile without memory statistics")
	}
	return bytes, nil
}
