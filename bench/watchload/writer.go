package watchload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc"
)

// writer puts keys from many clients at once.
type writer struct {
	conns   []*grpc.ClientConn
	clients int
	rate    float64 // of an open loop; 0: each client puts when its last put is answered
	key     func(n int64) string
	bodies  bodies

	next   atomic.Int64
	acked  atomic.Int64
	mu     sync.Mutex
	hist   *hdrhistogram.Histogram // of puts sent since from
	from   atomic.Int64
	failed atomic.Pointer[error]
}

var errUnanswered = errors.New("a put had no answer in " + progressTimeout.String())

// run puts until the time is end or total puts are made (0: no such limit), and returns when all are answered. A put
// carries the time at which it is sent. In an open loop it carries the time at which it was due, if all clients were
// busy then. So the latency includes the time that puts spent waiting for a stalled server, but not the delay of this
// client's timers.
func (w *writer) run(ctx context.Context, end time.Time, total int64) error {
	ctx, cancel := context.WithCancelCause(ctx) // not a deadline, which would travel with each put
	defer cancel(nil)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range w.clients {
		wg.Go(func() {
			alarm := time.AfterFunc(progressTimeout, func() { cancel(errUnanswered) })
			defer alarm.Stop()
			rnd := rand.New(rand.NewPCG(w.bodies.seed, uint64(i)))
			var b []byte
			for ctx.Err() == nil {
				n := w.next.Add(1) - 1
				sent := time.Now()
				if w.rate > 0 {
					due := begin.Add(time.Duration(float64(n) / w.rate * float64(time.Second)))
					if !end.IsZero() && !due.Before(end) {
						return
					}
					if due.After(sent) {
						alarm.Stop()
						sleep(ctx, time.Until(due))
						sent = time.Now()
					} else {
						sent = due
					}
				}
				if total > 0 && n >= total || !end.IsZero() && w.rate == 0 && !sent.Before(end) {
					return
				}
				alarm.Reset(progressTimeout)
				stamp := int64(sent.Sub(epoch))
				b = appendPut(b[:0], w.key(n), stamp, w.bodies.next(rnd))
				if err := w.put(ctx, w.conns[i%len(w.conns)], b, stamp); err != nil {
					err = fmt.Errorf("put %d: %w", n, errors.Join(err, context.Cause(ctx)))
					w.failed.CompareAndSwap(nil, &err)
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return context.Cause(ctx)
}

func (w *writer) put(ctx context.Context, conn *grpc.ClientConn, b []byte, stamp int64) error {
	var a answer
	if err := conn.Invoke(ctx, methodPut, request(b), &a); err != nil {
		return err
	}
	at := now()
	w.acked.Add(1)
	if w.from.Load() > stamp {
		return nil
	}
	w.mu.Lock()
	record(w.hist, at-stamp)
	w.mu.Unlock()
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// poolBytes is the size of the random pool that values are cut from: many times the window of any block compressor.
const poolBytes = 8 << 20

// bodies cuts what follows the stamp of a value out of a random pool.
type bodies struct {
	pool string
	size int
	seed uint64
}

func newBodies(valSize int, seed uint64) bodies {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	size := valSize - stampBytes
	b := make([]byte, poolBytes+size)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return bodies{pool: string(b), size: size, seed: seed}
}

func (v bodies) next(r *rand.Rand) string {
	at := r.IntN(poolBytes)
	return v.pool[at : at+v.size]
}
