package mvcc_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestFences: a change of the buckets that moves where groups count, the seal behind it and the change that settles it
// make no group fail but one that was evaluated before the first and lands after the second. Wherever a group lands the
// counters are right, also between what a step has read and its commit.
func TestFences(t *testing.T) {
	step := func(t *testing.T, s *mvcc.Store) {
		t.Helper()
		if more, err := s.StepBuckets(t.Context()); err != nil || !more {
			t.Errorf("a step did something: %t, %v", more, err)
		}
	}
	for name, begin := range map[string]func(*testing.T, *mvcc.Store){"split": fenceFill, "merge": fenceEmpty} {
		for _, v := range []struct {
			name           string
			before, during int  // steps before a group is evaluated, and until it lands
			within         bool // it lands before the commit of one step more
			again          int64
		}{
			{"before the move and after it", 0, 1, false, 0},
			{"before the move, within the seal", 0, 1, true, 0},
			{"before the move, after the seal", 0, 2, false, 1},
			{"before the move, within the settling", 0, 2, true, 1},
			{"before the move, after the settling", 0, 3, false, 1},
			{"after the move, within the settling", 1, 1, true, 0},
			{"after the move, after the settling", 1, 2, false, 0},
			{"after the seal, within the settling", 2, 0, true, 0},
			{"after the seal, after the settling", 2, 1, false, 0},
		} {
			t.Run(name+"/"+v.name, func(t *testing.T) {
				inner := openEngine(t, fdb)
				held, arm, entered, release := holdCommit()
				stepHeld, armStep, stepEntered, releaseStep := holdCommit()
				o := mvcc.Options{CountKeys: 8, NoRemoval: true}
				writer, keeper := open(t, faults.New(inner, held), o), open(t, faults.New(inner, stepHeld), o)
				begin(t, writer)
				for range v.before {
					step(t, keeper)
				}
				was := repeated(writer)
				arm()
				var landed sync.WaitGroup
				stepped := make(chan struct{})
				landed.Go(func() { put(t, writer, fenceKey(fenceKeys-2)+"x", "") })
				<-entered
				for range v.during {
					step(t, keeper)
				}
				go func() {
					defer close(stepped)
					if v.within {
						armStep()
						step(t, keeper)
					}
				}()
				select {
				case <-stepEntered:
				case <-stepped:
				}
				close(release)
				landed.Wait()
				close(releaseStep)
				<-stepped
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

// TestFencesOfCut: a bucket that is being split is cut again before the seal, while a group that knows only the split
// is under way. The group lands without being evaluated again until the seal, and the counters are right.
func TestFencesOfCut(t *testing.T) {
	for name, again := range map[string]int64{"before the seal": 0, "after the seal": 1, "after the settling": 1} {
		t.Run(name, func(t *testing.T) {
			inner := openEngine(t, fdb)
			held, arm, entered, release := holdCommit()
			o := mvcc.Options{CountKeys: 8, NoRemoval: true}
			writer, keeper := open(t, faults.New(inner, held), o), open(t, inner, o)
			begin := func() {
				t.Helper()
				if more, err := keeper.BeginSplits(t.Context()); err != nil || !more {
					t.Errorf("a step began something: %t, %v", more, err)
				}
			}
			fenceFill(t, writer)
			begin()
			was := repeated(writer)
			arm()
			var landed sync.WaitGroup
			landed.Go(func() { put(t, writer, "l39x", "") })
			<-entered
			for i := range 40 { // the last of the buckets grows
				put(t, keeper, fmt.Sprintf("l%02d", i), "")
			}
			split := keeper.Buckets()
			begin()
			switch name {
			case "after the seal":
				if more, err := keeper.StepBuckets(t.Context()); err != nil || !more {
					t.Errorf("a seal: %t, %v", more, err)
				}
			case "after the settling":
				keep(t, keeper)
			}
			close(release)
			landed.Wait()
			if n := repeated(writer) - was; n != again {
				t.Errorf("the group was evaluated %d times more, want %d", n, again)
			}
			check(t, inner, keeper, nil, false).checkReads(keeper, 1)
			if cut := keeper.Buckets(); cut < split+4 {
				t.Errorf("%d buckets, and %d before the cut", cut, split)
			}
			keep(t, keeper)
			check(t, inner, keeper, nil, false).checkReads(keeper, 1)
		})
	}
}

const fenceKeys = 24

func fenceKey(i int) string { return fmt.Sprintf("k%02d", i) }

// fenceFill makes keys that need a split.
func fenceFill(t *testing.T, s *mvcc.Store) {
	t.Helper()
	all := &mvcc.TxnRequest{}
	for i := range fenceKeys {
		all.Success = append(all.Success, mvcc.Op{Put: &mvcc.PutRequest{Key: []byte(fenceKey(i))}})
	}
	if _, err := s.Txn(t.Context(), all); err != nil {
		t.Fatal(err)
	}
}

// fenceEmpty makes buckets that need a merge.
func fenceEmpty(t *testing.T, s *mvcc.Store) {
	t.Helper()
	fenceFill(t, s)
	keep(t, s)
	all := &mvcc.DeleteRequest{Key: []byte(fenceKey(0)), End: []byte(fenceKey(fenceKeys - 1))}
	if _, err := s.DeleteRange(t.Context(), all); err != nil {
		t.Fatal(err)
	}
}

// repeated is how many evaluations of groups have been in vain.
func repeated(s *mvcc.Store) int64 {
	return s.Usage().Conflicts.Load() + s.Usage().Outdated.Load()
}
