package pulse

import (
	"context"
	"sync"
	"time"
)

// Bounds of how long Wait waits, as parts of what it is asked for. A beat counts if it comes a little early, because
// work that takes a moment would otherwise miss the beat that comes exactly one period later.
const (
	earlyNum, earlyDen = 4, 5
	lateNum, lateDen   = 3, 2
)

// Pulse is the beat of a process. The zero value is ready, and has no beat yet. A nil *Pulse never has one.
type Pulse struct {
	mu      sync.Mutex
	waiting map[*wait]struct{}
}

// wait is one Wait under way.
type wait struct {
	from time.Time     // no beat counts before
	beat chan struct{} // closed by the beat that counts
}

// Beat says that the process is awake now.
func (p *Pulse) Beat() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.waiting {
		if !now.Before(w.from) {
			close(w.beat)
			delete(p.waiting, w)
		}
	}
}

// Wait waits for about every, which is > 0: until the first beat after most of it, and until some time after it if
// there is no such beat. It returns ctx's error if that ends first.
func (p *Pulse) Wait(ctx context.Context, every time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	late := every
	var beat chan struct{}
	if p != nil {
		late = every * lateNum / lateDen
		w := &wait{from: time.Now().Add(every * earlyNum / earlyDen), beat: make(chan struct{})}
		beat = w.beat
		p.add(w)
		defer p.remove(w)
	}
	t := time.NewTimer(late)
	defer t.Stop()
	select {
	case <-beat:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (p *Pulse) add(w *wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = make(map[*wait]struct{})
	}
	p.waiting[w] = struct{}{}
}

func (p *Pulse) remove(w *wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, w)
}
