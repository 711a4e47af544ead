package feed

import (
	"context"
	"sync"
	"time"
)

// freshness knows the greatest possible age of the follower's state. The proof is a linearizable read of the head: when
// the position reaches the result, everything acknowledged before the start of the read has been applied.
type freshness struct {
	behind chan struct{} // capacity 1: the position has been below the head for two checks
	ahead  chan struct{} // capacity 1: the position was above the head

	mu     sync.Mutex
	proved time.Time // everything acknowledged before it has been applied
	// mark is a head that the position has not reached, read at the time at; 0: none.
	mark int64
	at   time.Time
}

func (f *freshness) init() {
	f.behind, f.ahead = make(chan struct{}, 1), make(chan struct{}, 1)
	f.proved = time.Now()
}

func (f *freshness) lag() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.proved)
}

// reached says that the position is now rev.
func (f *freshness) reached(rev int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mark > 0 && rev >= f.mark {
		f.proved, f.mark = f.at, 0
	}
}

// restart forgets the head that was to be reached.
func (f *freshness) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mark = 0
	select {
	case <-f.ahead:
	default:
	}
}

// compare takes the result of a read of the head that began at began. The position was before at the start of the read,
// and is now after it.
func (f *freshness) compare(head, before, now int64, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case before > head:
		signal(f.ahead)
	case now >= head:
		f.proved, f.mark = began, 0
	case f.mark > 0:
		signal(f.behind)
	default:
		f.mark, f.at = head, began
	}
}

// check compares the position with the head until ctx ends.
func (f *Follower) check(ctx context.Context) {
	for was := false; f.o.Pulse.Wait(ctx, f.o.Check) == nil; {
		began, before := time.Now(), f.position.Load()
		h, err := head(ctx, f.log)
		if err == nil {
			f.fresh.compare(h, before, f.position.Load(), began)
		}
		if is := f.Stalled(); is != was && ctx.Err() == nil {
			was = is
			f.o.Logger.Warn("follower: stalled", "stalled", is, "lag", f.Lag(), "error", err)
			if f.o.Stall != nil {
				f.o.Stall(is)
			}
		}
	}
}
