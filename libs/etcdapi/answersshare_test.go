package etcdapi

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestAnswersOfOthers: a keyspace whose clients read nothing of what they ask for, and have more waiting, leaves room
// for a neighbour's answers, large and small ones, and a neighbour stands in no line of its.
func TestAnswersOfOthers(t *testing.T) {
	for name, size := range map[string]int{"large": 8 << 20, "small": smallAnswer} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hostile := NewAnswers(64 << 20).Share(func() bool { return true })
				neighbour := hostile.Share(func() bool { return true })
				refused := make(chan error, 1)
				var held []*answer
				for ended := false; !ended; {
					got := make(chan *answer, 1)
					go func() {
						w, err := gathered(t.Context(), hostile, size, nothing)
						if err != nil {
							refused <- err
							return
						}
						got <- w
					}()
					synctest.Wait()
					select {
					case w := <-got:
						held = append(held, w)
					default:
						ended = true // it waits
					}
				}
				if len(held) == 0 {
					t.Error("it has nothing")
				}
				for _, n := range []int{smallAnswer, 8 << 20, smallAnswer} {
					w, err := gathered(t.Context(), neighbour, n, nothing)
					if err != nil {
						t.Errorf("the neighbour's %d bytes: %v", n, err)
						continue
					}
					defer w.drop()
				}
				if len(refused) > 0 {
					t.Error("time has passed")
				}
				if err := <-refused; !errors.Is(err, mvcc.ErrTooManyRequests) {
					t.Error(err)
				}
				for _, w := range held {
					w.drop()
				}
			})
		})
	}
}

// TestAnswersShared: beside a neighbour who always has something under way, an answer of nearly half of all that there
// is goes at once, and one that is more than a keyspace may have goes when it is alone, or is refused in its time.
func TestAnswersShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAnswers(64 << 20).Share(func() bool { return true })
		neighbour := a.Share(func() bool { return true })
		small, err := gathered(t.Context(), neighbour, smallAnswer, nothing)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		w, err := gathered(t.Context(), a, 30<<20, nothing)
		if err != nil || time.Since(begin) > 0 {
			t.Fatal(err, time.Since(begin))
		}
		w.drop()
		tries := 0
		if _, err := gathered(t.Context(), a, 40<<20, func() { tries++ }); !errors.Is(err, mvcc.ErrTooManyRequests) {
			t.Error(err)
		} else if tries > 2*(40<<20)/answerStep {
			t.Errorf("gathered anew all the time: %d steps", tries)
		}
		small.drop()
		if w, err = gathered(t.Context(), a, 100<<20, nothing); err != nil {
			t.Fatal("alone:", err)
		}
		w.drop()
		if a.Used() != 0 || a.own != 0 || neighbour.own != 0 || len(a.waiting) != 0 {
			t.Error(a.Used(), a.own, neighbour.own, a.waiting)
		}
	})
}
