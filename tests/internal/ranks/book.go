package ranks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// First is the rank of the empty keyspace's revision; the first write has the next one.
	First = 1
	// Far is where numbers begin that are no ranks: clients use them for "later than anything".
	Far = 1 << 40
	// Patience is long enough for a watch on a busy machine. It is spent only if something is wrong.
	Patience = 15 * time.Second
)

// ErrUnknown is the error for a revision that no event has.
var ErrUnknown = errors.New("no event has this revision")

// Book is the list of all revisions of a keyspace, as far as it has been told. It may be used from any goroutine.
type Book struct {
	patience time.Duration

	mu      sync.Mutex
	revs    []int64 // revs[i] has rank First+i
	err     error   // why no more will be told
	changed chan struct{}
}

// NewBook returns the book of an empty keyspace whose revision is first. A revision must get into the book within
// patience of the first question for it, or it is taken for unknown.
func NewBook(first int64, patience time.Duration) *Book {
	return &Book{patience: patience, revs: []int64{first}, changed: make(chan struct{})}
}

// Add tells the book of the next revision. It must be above all others, or the book fails: a revision that comes late
// moves ranks that have been given out.
func (b *Book) Add(rev int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wake()
	switch last := b.last(); {
	case b.err != nil:
	case rev <= last:
		b.err = fmt.Errorf("ranks: revision %d came after %d", rev, last)
	default:
		b.revs = append(b.revs, rev)
	}
	return b.err
}

// Fail tells the book that nobody will tell it anything more, and why. The first reason counts.
func (b *Book) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.wake()
}

// failure is why no more will be told; nil: more may come.
func (b *Book) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// wake tells those who wait. The caller holds mu.
func (b *Book) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// last is the newest revision. The caller holds mu.
func (b *Book) last() int64 { return b.revs[len(b.revs)-1] }

// Last returns the newest revision in the book.
func (b *Book) Last() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last()
}

// Rank returns the rank of a revision; numbers below 1 stand for themselves. It waits until the book has got to rev.
// Its error is an ErrUnknown if there is no such revision, the context's, or that of a book that failed before it got
// there.
func (b *Book) Rank(ctx context.Context, rev int64) (int64, error) {
	if rev < 1 {
		return rev, nil
	}
	if err := b.reach(ctx, rev); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i, ok := slices.BinarySearch(b.revs, rev)
	if !ok {
		return 0, fmt.Errorf("ranks: revision %d: %w", rev, ErrUnknown)
	}
	return int64(First + i), nil
}

// reach waits until the book has rev or a later one.
func (b *Book) reach(ctx context.Context, rev int64) error {
	var timeout <-chan time.Time // made at the first wait: most questions are answered at once
	for {
		b.mu.Lock()
		last, err, changed := b.last(), b.err, b.changed
		b.mu.Unlock()
		if last >= rev {
			return nil
		}
		if err != nil {
			return err
		}
		if timeout == nil {
			timer := time.NewTimer(b.patience)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
		case <-timeout:
			return fmt.Errorf("ranks: revision %d: %w after %v, the last one is %d", rev, ErrUnknown, b.patience, last)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Revision returns the revision of a rank, and a future one for a rank that does not exist; see the package. Numbers
// below 1 and from Far on stand for themselves.
func (b *Book) Revision(rank int64) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch n := int64(len(b.revs)); {
	case rank < First:
		return rank, nil
	case rank < First+n:
		return b.revs[rank-First], nil
	case rank < Far:
		return b.last() + rank - (First + n - 1), nil
	case rank <= b.last():
		return 0, fmt.Errorf("ranks: %d does not lie in the future any more: the last revision is %d", rank, b.last())
	}
	return rank, nil
}

// Start returns the revision from which a watch gets the events of rank and later ones. Its error tells that there is
// none.
func (b *Book) Start(rank int64) (int64, error) {
	b.mu.Lock()
	next := First + int64(len(b.revs))
	b.mu.Unlock()
	if rank > next && rank < Far {
		return 0, fmt.Errorf("ranks: a watch cannot start at rank %d: the next one is %d, and no later one has a "+
			"revision yet", rank, next)
	}
	return b.Revision(rank)
}
