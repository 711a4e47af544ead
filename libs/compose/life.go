package compose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// life is background work, and what has to be closed after it has ended.
type life struct {
	background context.Context // of Go's functions
	stop       context.CancelFunc
	wg         sync.WaitGroup
	patience   time.Duration // how long end waits for background work; 0: without end
	fail       func(error)   // called when background work ends by itself
	onClose    []func() error
	endOnce    func() error
}

// begin starts a life. fail may be called from any goroutine.
func (l *life) begin(patience time.Duration, fail func(error)) {
	l.background, l.stop = context.WithCancel(context.Background())
	l.patience, l.fail = patience, fail
	l.endOnce = sync.OnceValue(l.end)
}

// Go runs f in the background until the life ends. If f returns an error before that, fail gets it.
func (l *life) Go(what string, f func(context.Context) error) {
	l.wg.Go(func() {
		if err := f(l.background); err != nil && l.background.Err() == nil {
			l.fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

// OnClose adds a function that is called when the life ends, before those added earlier. It belongs to the goroutine
// that opens things.
func (l *life) OnClose(f func() error) { l.onClose = append(l.onClose, f) }

// end ends background work and calls OnClose's functions.
func (l *life) end() error {
	l.stop()
	errs := []error{l.wait()}
	for _, f := range slices.Backward(l.onClose) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// wait waits for Go's functions, for up to patience: one of them may wait for a full disk.
func (l *life) wait() error {
	if l.patience == 0 {
		l.wg.Wait()
		return nil
	}
	ended := make(chan struct{})
	go func() {
		l.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(l.patience):
		return errors.New("background work has not ended: the disk does not answer")
	}
}
