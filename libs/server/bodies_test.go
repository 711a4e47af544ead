package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// arriving is a body that never ends by itself.
func arriving(l *bodies, begun chan<- struct{}) <-chan error {
	done := make(chan error, 1)
	ctx := l.expect(context.Background())
	go func() {
		_, err := l.receive(ctx, func(any) error {
			if begun != nil {
				begun <- struct{}{}
			}
			<-ctx.Done()
			return errors.Join(ctx.Err(), context.Cause(ctx))
		}, nil)
		done <- err
	}()
	return done
}

func sweeping(t *testing.T, l *bodies, f func()) {
	ctx, stop := context.WithCancel(t.Context())
	go l.run(ctx)
	f()
	stop()
	synctest.Wait()
	if l.first != nil || l.last != nil {
		t.Error("bodies are left")
	}
}

// TestBodyTimeout: a body that does not end is ended, not before its time. The time is enough for the
// largest at the documented rate.
func TestBodyTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const message = 2 << 20
		l := newBodies(message)
		sweeping(t, l, func() {
			for range 3 { // between them nothing is swept
				begin := time.Now()
				err := <-arriving(l, nil)
				took := time.Since(begin)
				if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errBodyTimeout) {
					t.Error(err)
				}
				if least := bodyTimeout + message/bodyRate*time.Second; took < least || took > least+2*bodySweep {
					t.Errorf("ended after %v", took)
				}
				if time.Sleep(10 * bodySweep); !l.rest() {
					t.Error("there is something to sweep")
				}
			}
		})
	})
}

// TestBodyMemory: above the bound the oldest bodies go, and no more than must; young ones are left alone.
func TestBodyMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBodies(2 << 20)
		sweeping(t, l, func() {
			begun := make(chan struct{})
			first := arriving(l, begun)
			<-begun
			second := arriving(l, begun)
			<-begun
			time.Sleep(bodyAgeMin)
			// The next look ends one body for the little that is too much, and the memory has been given back before
			// the one after it.
			young := arriving(l, begun)
			<-begun
			one := l.pool.Get(int(l.bytesMax))
			two := l.pool.Get(1 << 10)
			if err := <-first; !errors.Is(err, errBodyMemory) {
				t.Error(err)
			}
			l.pool.Put(two)
			synctest.Wait()
			select {
			case err := <-young:
				t.Errorf("a young body was ended: %v", err)
			default:
			}
			l.pool.Put(one)
			<-second // in its time, as young
			<-young
		})
		if n := l.pool.bytes.Load(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

// TestSlowBodies: bodies of which nothing is counted, since they come in small frames, are bounded by their number.
func TestSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBodies(2 << 20)
		sweeping(t, l, func() {
			begun := make(chan struct{})
			var all []<-chan error
			for range 3 * l.slowMax {
				all = append(all, arriving(l, begun))
				<-begun
			}
			time.Sleep(bodyAgeSlow + 2*bodySweep)
			for i, done := range all {
				select {
				case err := <-done:
					if i >= 2*l.slowMax || !errors.Is(err, errBodyMemory) {
						t.Errorf("body %d: %v", i, err)
					}
				default:
					if i < 2*l.slowMax {
						t.Errorf("body %d goes on", i)
					}
				}
			}
			for _, done := range all[2*l.slowMax:] {
				<-done
			}
		})
	})
}

// TestPoolBalance: what requests take from the pool they give back, finished or not.
func TestPoolBalance(t *testing.T) {
	l := newBodies(1)
	for _, n := range []int{0, 1, 1 << 10, 1<<20 + 1} {
		b := l.pool.Get(n)
		*b = (*b)[:n/2] // as for a padded frame
		l.pool.Put(b)
	}
	if n := l.pool.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}
