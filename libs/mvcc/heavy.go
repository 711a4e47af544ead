package mvcc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// The heavy lane runs the requests that visit too much for a group with others, one at a time. It evaluates them beside
// the groups of the other lane, and delays that lane only while it commits. If something has been committed in the
// meantime that the request has read, that is a conflict, as between two processes. After two conflicts in a row the
// request is evaluated while the other lane waits, and then the heavy lane rests. There is a heavy lane if a single
// lane is pipelined. Other engines run several lanes, in which a heavy request delays the later ones that touch the
// same keys.

const (
	// heavyMax and heavyBytesMax bound the requests that wait for the heavy lane, in number and bytes.
	heavyMax      = 4096
	heavyBytesMax = 64 << 20
	// heavyRest is how much longer the heavy lane rests than it has delayed the other one, up to heavyRestMax.
	heavyRest    = 4
	heavyRestMax = 2 * time.Second
)

// runway is the way to disk of a lane and its heavy lane.
type runway struct {
	// turn is held while the order of commits is decided: from the beginning of a group to its place in flights. The
	// heavy lane holds it only from its commit on, unless it is exclusive.
	turn    sync.Mutex
	flights chan *flight // groups on their way to disk, to the landing goroutine; nil: the engine is not pipelined
	flying  atomic.Int32
	landing sync.WaitGroup

	hasHeavy   bool          // there is a heavy lane
	heavies    chan *request // to it; nil: nothing has been handed over in this run
	heavyBytes atomic.Int64
	heavyEnd   sync.WaitGroup
}

// allowHeavy allows requests to go to the heavy lane, if there may be one. The first such request starts it, because
// its queue is large and most keyspaces do not need it.
func (l *lane) allowHeavy() { l.hasHeavy = l.s.limits.Pipelined && l.s.o.Lanes <= 1 }

// startHeavy starts the heavy lane.
func (l *lane) startHeavy() {
	l.heavies = make(chan *request, heavyMax)
	if l.beside == nil {
		l.beside = &lane{s: l.s, id: heavyLane, heavy: true, row: l.s.rows.commit(l.s.writer, heavyLane)}
	}
	h := l.beside
	h.runway = l.runway
	l.heavyEnd.Go(h.runHeavy)
}

// endHeavy ends the heavy lane when no more requests go to it.
func (l *lane) endHeavy() {
	if l.heavies != nil {
		close(l.heavies)
		l.heavyEnd.Wait()
	}
}

// heavyLane is the heavy lane's number.
const heavyLane = lanesMax

func (l *lane) runHeavy() {
	for r := range l.heavies {
		l.heavyBytes.Add(-int64(r.bytes))
		l.exclusive = false
		r.heavy = false
		ctx, stop := context.WithCancel(r.ctx)
		unhook := context.AfterFunc(l.s.work, stop)
		l.process(ctx, []*request{r})
		unhook()
		stop()
		if l.held > 0 {
			_ = retry.Sleep(l.s.closing, min(heavyRest*l.held, heavyRestMax))
			l.held = 0
		}
	}
}

// allowance returns what a request may visit in this lane.
func (l *lane) allowance() allowance {
	if l.hasHeavy && !l.heavy {
		return allowance{l.s.o.LightRows, errHeavy}
	}
	return l.s.fullAllowance()
}

// isParting says whether an error separates a request from its group.
func isParting(err error) bool {
	if err == nil { // nearly always; looking for a refusal costs an allocation
		return false
	}
	var r refusal
	return errors.Is(err, errHeavy) || errors.Is(err, errGone) || errors.As(err, &r)
}

// parts notes why a request must leave its group.
func (r *request) parts(err error) {
	switch {
	case errors.Is(err, errHeavy):
		r.heavy = true
	case errors.Is(err, errGone): // dropCancelled drops it
	default:
		r.refusal = refused(err)
	}
}

// part passes the heavy requests on, answers the refused ones, and returns the others.
func (l *lane) part(reqs []*request) []*request {
	kept := reqs[:0]
	for _, r := range reqs {
		switch {
		case r.refusal != nil:
			fail([]*request{r}, r.refusal)
		case r.heavy:
			l.handOver(r)
		default:
			kept = append(kept, r)
		}
	}
	return kept
}

func (l *lane) handOver(r *request) {
	if l.heavies == nil {
		l.startHeavy()
	}
	n := int64(r.bytes)
	r.long.Store(true)
	l.s.queue.stay()
	if l.heavyBytes.Add(n) <= heavyBytesMax {
		select {
		case l.heavies <- r:
			return
		default:
		}
	}
	l.heavyBytes.Add(-n)
	fail([]*request{r}, ErrTooManyRequests)
}
