package mvcc

import (
	"context"
	"errors"
	"testing"
)

func TestSweep(t *testing.T) {
	var q queue
	q.init(10, 1)
	add := func(ctx context.Context) *request {
		r := &request{m: compaction(1), ctx: ctx, done: make(chan struct{})}
		if err := q.put(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancelled, answered, stuck := add(ctx), add(context.Background()), add(context.Background())
	cancel()
	answered.res.Rev = 7
	answered.finish()
	q.sweep()
	if _, err := cancelled.wait(); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	if res, err := answered.wait(); err != nil || res.Rev != 7 {
		t.Fatalf("answered: %+v, %v", res, err)
	}
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
	if len(q.open) != 0 {
		t.Fatalf("%d requests are still looked after", len(q.open))
	}
	if reqs := dropCancelled(q.take(0, 10, 1<<20)); len(reqs) != 0 {
		t.Fatalf("a group runs %d requests that nobody waits for", len(reqs))
	}
}
