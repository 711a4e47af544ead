package mvcc

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// sized is an engine that is asked for the size of a range.
type sized struct {
	engine.Store
	asked      int
	begin, end []byte
	answer     func(ctx context.Context) (int64, error)
}

func (e *sized) RangeSize(ctx context.Context, begin, end []byte) (int64, error) {
	e.asked++
	e.begin, e.end = begin, end
	return e.answer(ctx)
}

// TestRangeSize: the size of a shared engine's keyspace is asked for now and then, and nobody waits long for it.
func TestRangeSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eng := &sized{answer: func(context.Context) (int64, error) { return 1000, nil }}
		s := &Store{eng: eng, o: Options{Prefix: []byte("ks\xff")}}
		expect := func(size int64, asked int) {
			t.Helper()
			if total, inUse := s.Sizes(); total != size || inUse != size || eng.asked != asked {
				t.Errorf("%d, %d, asked %d times; want %d and %d times", total, inUse, eng.asked, size, asked)
			}
		}
		expect(1000, 1)
		if !bytes.Equal(eng.begin, []byte("ks\xff")) || !bytes.Equal(eng.end, []byte("kt")) {
			t.Errorf("asked for %q to %q", eng.begin, eng.end)
		}
		eng.answer = func(context.Context) (int64, error) { return 2000, nil }
		time.Sleep(sizeAge - 1)
		expect(1000, 1)
		time.Sleep(time.Nanosecond)
		expect(2000, 2)
		eng.answer = func(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, ctx.Err() }
		time.Sleep(sizeAge)
		begin := time.Now()
		expect(2000, 3)
		if took := time.Since(begin); took != sizeTimeout {
			t.Errorf("waited %v for an engine that is away", took)
		}
		expect(2000, 3) // without waiting again
		eng.answer = func(context.Context) (int64, error) { return 0, errors.New("no") }
		time.Sleep(sizeAge)
		expect(2000, 4)
	})
	if total, inUse := (&Store{}).Sizes(); total != 0 || inUse != 0 {
		t.Error("an engine that does not know its size")
	}
}
