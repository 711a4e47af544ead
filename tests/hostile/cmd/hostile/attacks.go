package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/tests/internal/attack"
)

const (
	// perConn is how many requests share a connection.
	perConn = 8
	// openTimeout bounds how long it may take to open a stream. A stream beyond the connection's limit waits.
	openTimeout = 10 * time.Second
)

func (c *config) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.report(ctx, "without"); err != nil {
		return err
	}
	attacks := map[string]func(context.Context) (end func(), err error){
		"silent": c.silent, "bodies": c.bodies, "streams": c.streams, "labels": c.labels,
	}
	start, ok := attacks[c.attack]
	if !ok {
		return fmt.Errorf("no attack %q", c.attack)
	}
	end, err := start(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := c.report(ctx, "beside "+c.attack); err != nil {
		return err
	}
	select {
	case <-time.After(c.hold):
	case <-ctx.Done():
	}
	return c.report(ctx, fmt.Sprintf("after %v more", c.hold))
}

// report measures the puts of another client, which connects anew for each, and the server's memory and metrics.
func (c *config) report(ctx context.Context, when string) error {
	connect, put := make([]time.Duration, c.puts), make([]time.Duration, c.puts)
	for i := range c.puts {
		if err := c.once(ctx, &connect[i], &put[i]); err != nil {
			return err
		}
	}
	text, err := c.metrics(ctx)
	if err != nil {
		return err
	}
	fmt.Printf(
		"%-20s connect p50 %v p99 %v, put p50 %v p99 %v; resident %s MB, /metrics %d bytes\n",
		when,
		percentile(connect, 50), percentile(connect, 99), percentile(put, 50), percentile(put, 99),
		value(text, "process_resident_memory_bytes"), len(text),
	)
	return nil
}

// once connects and puts. It takes the time until the first answer as the time to connect.
func (c *config) once(ctx context.Context, connect, put *time.Duration) error {
	begin := time.Now()
	cl, err := clientv3.New(clientv3.Config{Endpoints: []string{c.endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer cl.Close()
	if _, err := cl.Status(ctx, c.endpoint); err != nil {
		return err
	}
	*connect = time.Since(begin)
	begin = time.Now()
	_, err = cl.Put(ctx, "hostile/beside", "v")
	*put = time.Since(begin)
	return err
}

func percentile(d []time.Duration, p int) time.Duration {
	d = slices.Sorted(slices.Values(d))
	if len(d) == 0 {
		return 0
	}
	return d[min(len(d)*p/100, len(d)-1)].Round(10 * time.Microsecond)
}

func (c *config) metrics(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.endpoint+"/metrics", nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// value returns a metric in millions.
func value(text, name string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
				return strconv.FormatFloat(f/1e6, 'f', 0, 64)
			}
		}
	}
	return "?"
}

func (c *config) silent(ctx context.Context) (func(), error) {
	conns, err := attack.Say(ctx, c.endpoint, c.n, c.text)
	if err != nil {
		return nil, err
	}
	return conns.Close, nil
}

func (c *config) bodies(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var ended atomic.Int64
	var conns []*http.ClientConn
	end := func() {
		cancel()
		wg.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	for range (c.n + perConn - 1) / perConn {
		conn, err := attack.Dial(ctx, c.endpoint)
		if err != nil {
			end()
			return nil, err
		}
		conns = append(conns, conn)
		for range perConn {
			wg.Go(func() {
				if _, err := attack.Call(ctx, conn, "/etcdserverpb.KV/Put",
					&attack.Body{Bytes: c.bytes}); err == nil {
					ended.Add(1)
				}
			})
		}
	}
	return func() {
		fmt.Printf("the server has ended %d of the puts\n", ended.Load())
		end()
	}, nil
}

func (c *config) streams(ctx context.Context) (func(), error) {
	var conns []*grpc.ClientConn
	var cancels []context.CancelFunc
	end := func() {
		for _, cancel := range cancels {
			cancel()
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	for range c.conns {
		conn, err := grpc.NewClient(c.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		conns = append(conns, conn)
	}
	for i := range c.n {
		opening, cancel := context.WithCancel(ctx)
		cancels = append(cancels, cancel)
		timer := time.AfterFunc(openTimeout, cancel)
		_, err := pb.NewWatchClient(conns[i%c.conns]).Watch(opening)
		if !timer.Stop() || err != nil {
			fmt.Printf("the server takes no more than %d streams: %v\n", i, err)
			break
		}
	}
	return end, nil
}

func (c *config) labels(ctx context.Context) (func(), error) {
	conn, err := grpc.NewClient(c.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	refused := 0
	for i := range c.n {
		version := fmt.Sprint(i) + strings.Repeat("v", c.bytes)
		_, err := pb.NewKVClient(conn).Range(metadata.AppendToOutgoingContext(ctx, "client-api-version", version),
			&pb.RangeRequest{Key: []byte("k")})
		if err != nil {
			refused++
		}
	}
	fmt.Printf("the server has refused %d of %d requests\n", refused, c.n)
	return func() { _ = conn.Close() }, ctx.Err()
}
