package mvcc

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestSweep(t *testing.T) {
	for _, lanes := range []int{1, 2} {
		t.Run(fmt.Sprint(lanes, " lanes"), func(t *testing.T) {
			q := newQueue(10, lanes)
			add := func(ctx context.Context) *request {
				r := &request{m: &PutRequest{Key: []byte("k")}, bytes: 7, ctx: ctx, done: make(chan struct{})}
				if err := q.put(r); err != nil {
					t.Fatal(err)
				}
				return r
			}
			ctx, cancel := context.WithCancel(context.Background())
			taken, answered, cancelled, stuck := add(ctx), add(context.Background()), add(ctx),
				add(context.Background())
			if got := q.take(0, 2, 1<<20); len(got) != 2 {
				t.Fatalf("%d requests", len(got))
			}
			cancel()
			answered.res.Rev = 7
			answered.finish()
			q.sweep()
			for _, r := range []*request{taken, cancelled} {
				if _, err := r.wait(); !errors.Is(err, context.Canceled) {
					t.Fatalf("cancelled: %v", err)
				}
			}
			if res, err := answered.wait(); err != nil || res.Rev != 7 {
				t.Fatalf("answered: %+v, %v", res, err)
			}
			q.putBack([]*request{taken})
			if q.waiting() != 1 {
				t.Fatalf("%d wait, want the one that somebody waits for", q.waiting())
			}
			q.landed(0)
			for range sweepsMax {
				if stuck.ended.Load() {
					t.Fatal("given up too early")
				}
				q.sweep()
			}
			if _, err := stuck.wait(); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("stuck: %v", err)
			}
			stuck.finish() // a late answer finds nobody
			if len(q.open) != 0 || q.waiting() != 0 || q.bytes != 0 {
				t.Fatalf("%d requests are still looked after, %d wait with %d bytes", len(q.open), q.waiting(), q.bytes)
			}
			q.close()
			if got := q.take(0, 10, 1<<20); got != nil {
				t.Fatalf("a group has %d requests that nobody waits for", len(got))
			}
		})
	}
}

// TestSweepMakesRoom: a queue that is full of requests that have been answered takes others.
func TestSweepMakesRoom(t *testing.T) {
	for _, lanes := range []int{1, 2} {
		q := newQueue(10, lanes)
		ctx, cancel := context.WithCancel(context.Background())
		add := func(ctx context.Context) error {
			return q.put(&request{m: &PutRequest{Key: []byte("k")}, ctx: ctx, done: make(chan struct{})})
		}
		for range 10 {
			if err := add(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := add(ctx); !errors.Is(err, ErrTooManyRequests) {
			t.Fatal(err)
		}
		cancel()
		q.sweep()
		if err := add(context.Background()); err != nil {
			t.Errorf("%d lanes: %v with nobody waiting", lanes, err)
		}
	}
}
