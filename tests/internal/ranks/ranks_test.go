package ranks

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// book has ranks 1 to 4.
func book(t *testing.T) *Book {
	t.Helper()
	b := NewBook(32, time.Second)
	for _, rev := range []int64{100, 101, 700} {
		if err := b.Add(rev); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestRevisions(t *testing.T) {
	b := book(t)
	for _, c := range []struct{ rank, want int64 }{
		{-3, -3},
		{0, 0},
		{1, 32},
		{2, 100},
		{3, 101},
		{4, 700},
		{5, 701}, // the smallest after the last
		{7, 703},
		{Far, Far},
		{1<<63 - 1, 1<<63 - 1},
	} {
		if got, err := b.Revision(c.rank); got != c.want || err != nil {
			t.Errorf("rank %d is revision %d (%v), want %d", c.rank, got, err, c.want)
		}
		got, err := b.Start(c.rank)
		if c.rank == 7 {
			if err == nil {
				t.Error("a watch starts at rank 7, which has no revision")
			}
		} else if got != c.want || err != nil {
			t.Errorf("a watch from rank %d starts at %d (%v), want %d", c.rank, got, err, c.want)
		}
	}
	// A write gives the rank after the last one its revision, however far ahead that is.
	if err := b.Add(90_000); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Revision(5); got != 90_000 || err != nil {
		t.Errorf("rank 5 is revision %d (%v)", got, err)
	}
	if err := b.Add(Far + 5); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Revision(Far); err == nil {
		t.Errorf("a revision that is no longer in the future is sent as %d", got)
	}
}

func TestRanks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := book(t)
		for _, c := range []struct{ rev, want int64 }{{-1, -1}, {0, 0}, {32, 1}, {100, 2}, {101, 3}, {700, 4}} {
			if got, err := b.Rank(t.Context(), c.rev); got != c.want || err != nil {
				t.Errorf("revision %d has rank %d (%v), want %d", c.rev, got, err, c.want)
			}
		}
		// A number that the watch has passed is known at once not to be a revision, and a number ahead of it
		// after a while.
		for _, rev := range []int64{1, 31, 33, 99, 102, 699, 701} {
			start := time.Now()
			if got, err := b.Rank(t.Context(), rev); !errors.Is(err, ErrUnknown) {
				t.Errorf("revision %d has rank %d (%v)", rev, got, err)
			}
			if waited := time.Since(start) > 0; waited != (rev > 700) {
				t.Errorf("revision %d: waited: %t", rev, waited)
			}
		}
	})
}

func TestRankWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := book(t)
		ask := func(ctx context.Context, rev int64) (int64, error) {
			type answer struct {
				rank int64
				err  error
			}
			c := make(chan answer)
			go func() {
				rank, err := b.Rank(ctx, rev)
				c <- answer{rank, err}
			}()
			synctest.Wait()
			if err := b.Add(b.Last() + 100); err != nil {
				t.Error(err)
			}
			a := <-c
			return a.rank, a.err
		}
		if got, err := ask(t.Context(), 800); got != 5 || err != nil {
			t.Errorf("rank %d, %v", got, err)
		}
		if got, err := ask(t.Context(), 850); !errors.Is(err, ErrUnknown) {
			t.Errorf("the revision between the last and the next has rank %d (%v)", got, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Rank(ctx, 5000); !errors.Is(err, context.Canceled) {
			t.Error("with a context that has ended:", err)
		}
		gone := errors.New("gone")
		b.Fail(gone)
		b.Fail(errors.New("later"))
		if _, err := b.Rank(t.Context(), 5000); !errors.Is(err, gone) {
			t.Error("after the log has failed:", err)
		}
		if got, err := b.Rank(t.Context(), 800); got != 5 || err != nil {
			t.Error("what a failed log has recorded:", got, err)
		}
	})
}

// TestOrder: the book refuses revisions that come late or twice, because they would change ranks that it has told.
func TestOrder(t *testing.T) {
	for _, rev := range []int64{700, 699, 32, 1} {
		b := book(t)
		if b.Add(rev) == nil || b.Add(10_000) == nil {
			t.Errorf("revision %d was taken after 700", rev)
		}
		if _, err := b.Rank(t.Context(), 10_000); err == nil || errors.Is(err, ErrUnknown) {
			t.Error("a log out of order was accepted:", err)
		}
	}
}
