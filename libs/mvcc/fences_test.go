package mvcc_test

import (
	"fmt"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestFences: a change of the buckets that moves where groups count, and the one that settles it, make no group fail
// but one that was evaluated before the first and lands after the second. In each case the counters are right.
func TestFences(t *testing.T) {
	const most, keys = 8, 24
	key := func(i int) string { return fmt.Sprintf("k%02d", i) }
	type change func(t *testing.T, s *mvcc.Store)
	step := func(t *testing.T, s *mvcc.Store) {
		t.Helper()
		if more, err := s.StepBuckets(t.Context()); err != nil || !more {
			t.Fatalf("a step did something: %t, %v", more, err)
		}
	}
	fill := func(t *testing.T, s *mvcc.Store) {
		for i := range keys {
			put(t, s, key(i), "")
		}
	}
	empty := func(t *testing.T, s *mvcc.Store) {
		fill(t, s)
		keep(t, s)
		for i := range keys - 1 {
			if _, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte(key(i))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, begin := range map[string]change{"split": fill, "merge": empty} {
		for _, v := range []struct {
			name           string
			before, during []change // a group is evaluated
			again          int64
		}{
			{"before and between", nil, []change{step}, 0},
			{"between and after", []change{step}, []change{step}, 0},
			{"before and after", nil, []change{step, step}, 1},
		} {
			t.Run(name+"/"+v.name, func(t *testing.T) {
				inner := openEngine(t, fdb)
				held, arm, entered, release := holdCommit()
				o := mvcc.Options{CountKeys: most, NoRemoval: true}
				writer, keeper := open(t, faults.New(inner, held), o), open(t, inner, o)
				begin(t, writer)
				for _, f := range v.before {
					f(t, keeper)
				}
				was := repeated(writer)
				arm()
				landed := make(chan struct{})
				go func() {
					defer close(landed)
					put(t, writer, key(keys-2)+"x", "")
				}()
				<-entered
				for _, f := range v.during {
					f(t, keeper)
				}
				close(release)
				<-landed
				if n := repeated(writer) - was; n != v.again {
					t.Errorf("the group was evaluated %d times more, want %d", n, v.again)
				}
				check(t, inner, keeper, nil, false).checkReads(keeper, 1)
				keep(t, keeper)
				check(t, inner, keeper, nil, false).checkReads(keeper, 1)
			})
		}
	}
}

// repeated is how many evaluations of groups have been in vain.
func repeated(s *mvcc.Store) int64 {
	return s.Usage().Conflicts.Load() + s.Usage().Outdated.Load()
}
