package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.uber.org/zap"
)

const (
	compactPeriod  = 300 * time.Millisecond
	serialPeriod   = 20 * time.Millisecond
	serialMaxReads = 100_000
	farAhead       = 1 << 50 // beyond any revision of a run
)

// compactLoop compacts to random revisions that the Recorder has passed. A compaction with an unknown outcome is
// repeated until the server says that it is or was done, because etcd's check drops a failed compaction that is not
// repeated.
func (r *Run) compactLoop(ctx context.Context, c *client.RecordingClient, rnd *rand.Rand) error {
	ticker := time.NewTicker(compactPeriod)
	defer ticker.Stop()
	var last int64 = 1
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		rev, ok := r.recorder.after(rnd, last)
		if !ok {
			continue
		}
		future := rnd.IntN(20) == 0 // the server refuses such a compaction
		if future {
			rev += farAhead
		}
		err := r.compact(ctx, c, rev)
		switch {
		case future && errors.Is(err, rpctypes.ErrFutureRev):
		case !future && (err == nil || errors.Is(err, rpctypes.ErrCompacted)):
			last = rev
			r.compacted.Store(true)
		default:
			return fmt.Errorf("load: compaction to %d was answered with %w", rev, err)
		}
	}
}

// compact returns when the outcome is known. The end of the run does not stop it, because the server runs again then.
func (r *Run) compact(ctx context.Context, c *client.RecordingClient, rev int64) error {
	deadline := time.Now().Add(lastTimeout)
	for {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		_, err := c.Compact(try, rev)
		cancel()
		known := err == nil || errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev)
		if known || time.Now().After(deadline) {
			return err
		}
		// It waits as the other clients do.
		if err := r.lim.Wait(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

// SerializableRead is a serializable read and its answer. It must show the state at its header's revision.
type SerializableRead struct {
	Start, End string
	Response   *clientv3.GetResponse
}

func newClient(endpoint string) (*clientv3.Client, error) {
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return cli, nil
}

// serialReader makes serializable reads of one key or of all.
type serialReader struct {
	endpoint string
	cli      *clientv3.Client // replaced after a failed read, because a new client does not wait before it dials
	done     chan struct{}
	stop     context.CancelFunc
	reads    []SerializableRead // read after done
	shown    atomic.Bool        // one of them has keys
}

func startSerialReader(ctx context.Context, endpoint, prefix string, rnd *rand.Rand) (*serialReader, error) {
	cli, err := newClient(endpoint)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	s := &serialReader{endpoint: endpoint, cli: cli, done: make(chan struct{}), stop: stop}
	go func() {
		defer close(s.done)
		s.run(ctx, prefix, rnd)
	}()
	return s, nil
}

func (s *serialReader) run(ctx context.Context, prefix string, rnd *rand.Rand) {
	ticker := time.NewTicker(serialPeriod)
	defer ticker.Stop()
	keys := []string{prefix}
	for len(s.reads) < serialMaxReads {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		read := SerializableRead{Start: prefix, End: clientv3.GetPrefixRangeEnd(prefix)}
		opts := []clientv3.OpOption{clientv3.WithSerializable(), clientv3.WithRange(read.End)}
		if rnd.IntN(2) == 0 {
			read = SerializableRead{Start: keys[rnd.IntN(len(keys))]}
			opts = opts[:1]
		}
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err := s.cli.Get(try, read.Start, opts...)
		cancel()
		if err != nil {
			if cli, err := newClient(s.endpoint); err == nil {
				_ = s.cli.Close() // its connection is gone anyway
				s.cli = cli
			}
			continue
		}
		read.Response = resp
		s.reads = append(s.reads, read)
		if len(resp.Kvs) > 0 {
			s.shown.Store(true)
		}
		if read.End != "" && len(resp.Kvs) > 0 {
			keys = keys[:0]
			for _, kv := range resp.Kvs {
				keys = append(keys, string(kv.Key))
			}
		}
	}
}

func (s *serialReader) close() error {
	s.stop()
	<-s.done
	return s.cli.Close()
}
