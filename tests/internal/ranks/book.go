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
	// First is the rank of the empty keyspace's revision. The first write has the next rank.
	First = 1
	// Far is the first number that is not a rank. Clients use numbers from there on for "later than anything".
	Far = 1 << 40
	// Patience is long enough for a watch on a busy machine. Only a failing test waits that long.
	Patience = 2 * time.Minute
)

// ErrUnknown is the error for a revision that no event has.
var ErrUnknown = errors.New("no event has this revision")

// Book is the list of all revisions of a keyspace, as far as Add has told it. It may be used from any goroutine.
type Book struct {
	patience time.Duration

	mu      sync.Mutex
	revs    []int64 // revs[i] has rank First+i
	err     error   // why no more will be told
	changed chan struct{}
}

// NewBook returns the book of an empty keyspace whose revision is first. If a revision does not get into the book
// within patience of a question for it, the answer is ErrUnknown.
func NewBook(first int64, patience time.Duration) *Book {
	return &Book{patience: patience, revs: []int64{first}, changed: make(chan struct{})}
}

// Add adds the next revision. It must be above all others, or the book fails, because a late revision would change
// ranks that the book has already told.
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

// Fail says that no more revisions will be added, and why. The first reason counts.
func (b *Book) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.wake()
}

// failure is the reason why no more revisions will be added. It is nil while more may come.
func (b *Book) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// wake wakes all waiters. The caller holds mu.
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

// Rank returns the rank of a revision. Numbers below 1 stand for themselves. It waits until the book has rev or a later
// revision. Its error is ErrUnknown if there is no such revision, that of the context, or that of a book that failed
// before it had rev.
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

// Revision returns the revision of a rank. For a rank that does not exist yet it returns a future revision; see the
// package comment. Numbers below 1 and from Far on stand for themselves.
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

// Start returns the revision from which a watch gets the events of rank and later ones. It returns an error if there is
// no such revision.
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
