package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Sizes of scenes.
const (
	loadRequests   = 300
	failedPer      = 5 // one request of so many fails
	awayRequests   = 3
	awayPatience   = 300 * time.Millisecond
	requestTimeout = 2 * time.Minute
)

// with calls f with a client that does not retry by itself.
func with(url string, f func(*clientv3.Client) error) error {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{url}, DialTimeout: requestTimeout, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithDisableRetry()},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

// idle does nothing.
func idle(context.Context, string) error { return nil }

// load writes, reads and watches.
func load(ctx context.Context, url string) error {
	return with(url, func(c *clientv3.Client) error {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		events := c.Watch(watching, "k", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-events
		for i := range loadRequests {
			key := fmt.Sprintf("k%03d", i)
			if _, err := c.Put(ctx, key, "v"); err != nil {
				return err
			}
			if _, err := c.Get(ctx, key); err != nil {
				return err
			}
		}
		got := <-events
		return got.Err()
	})
}

// failing makes requests, some of which fail in a way that alerts count: it grants a lease that exists already.
func failing(ctx context.Context, url string) error {
	return with(url, func(c *clientv3.Client) error {
		leases := pb.NewLeaseClient(c.ActiveConnection())
		for i := range loadRequests {
			id := int64(1000 + i)
			if i%failedPer == 1 {
				id--
			}
			_, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: 1000})
			if again := i%failedPer == 1; again != (err != nil) {
				return fmt.Errorf("lease %d: %w", id, err)
			}
		}
		return nil
	})
}

// refused makes requests to a server that cannot answer them, and cancels each after a while, as people do. (With a
// deadline it would be a matter of chance whether the server counts them as canceled or as late.)
func refused(ctx context.Context, url string) error {
	return with(url, func(c *clientv3.Client) error {
		for range awayRequests {
			attempt, giveUp := context.WithCancel(ctx)
			timer := time.AfterFunc(awayPatience, giveUp)
			_, err := c.Put(attempt, "k", "v")
			timer.Stop()
			giveUp()
			if err == nil {
				return errors.New("a write without a store succeeded")
			}
		}
		return nil
	})
}
