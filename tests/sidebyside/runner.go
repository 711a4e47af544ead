package sidebyside

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	failuresMax     = 12               // a run ends after so many different failures
	reduceTime      = 45 * time.Second // per failure
	sequencesOfPair = 400              // a pair is replaced after so many, so that many sequences run on fresh stores
)

// Runner runs many sequences on several pairs at once.
type Runner struct {
	NewPair func() (*Pair, error)
	Seed    uint64
	Count   int
	Workers int
	Until   time.Time // no new sequence after this; zero: no limit

	mu           sync.Mutex
	next         int
	done         int
	operations   int
	inconclusive int
	unsettled    int
	seen         map[string]bool
	failures     []Failure
	err          error
}

// Failure is a sequence on which the servers differ.
type Failure struct {
	Seed   uint64
	Number int // of the sequence under the seed
	First  *Difference
	Ops    []Op // reduced
	Last   *Difference
	Alone  bool // fails on a fresh pair too
}

func (f Failure) String() string {
	name := fmt.Sprintf("seed-%d-%d", f.Seed, f.Number)
	if !f.Alone {
		return fmt.Sprintf("seed %d, sequence %d: not seen again on a fresh pair (it may need the sequences before "+
			"it)\n%s\nsequence:\n%s",
			f.Seed, f.Number, f.First, NewCase(name, "", f.Ops).JSON())
	}
	return fmt.Sprintf("seed %d, sequence %d:\n%s\nreduced to %d operations; keep it as testdata/cases/%s.json:\n%s",
		f.Seed, f.Number, f.Last, len(f.Ops), name, NewCase(name, f.Last.What, f.Ops).JSON())
}

// Summary says how much the run has done.
func (r *Runner) Summary() string {
	return fmt.Sprintf("seed %d: %d sequences, %d operations, %d inconclusive, %d unsettled waits, %d failures",
		r.Seed, r.done, r.operations, r.inconclusive, r.unsettled, len(r.failures))
}

// Run runs all sequences and returns the failures, one per signature.
func (r *Runner) Run() ([]Failure, error) {
	r.seen = map[string]bool{}
	var wg sync.WaitGroup
	for range r.Workers {
		wg.Go(r.work)
	}
	wg.Wait()
	return r.failures, r.err
}

// take returns the number of the next sequence, or false if there is none.
func (r *Runner) take() (int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next >= r.Count || r.err != nil || len(r.failures) >= failuresMax ||
		(!r.Until.IsZero() && time.Now().After(r.Until)) {
		return 0, false
	}
	r.next++
	return r.next - 1, true
}

func (r *Runner) work() {
	var pair *Pair
	used := 0
	discard := func() {
		if pair != nil {
			r.mu.Lock()
			r.unsettled += pair.unsettled
			r.mu.Unlock()
			pair.Close()
			pair, used = nil, 0
		}
	}
	defer discard()
	for {
		n, ok := r.take()
		if !ok {
			return
		}
		if pair == nil {
			var err error
			if pair, err = r.NewPair(); err != nil {
				r.stop(err)
				return
			}
		}
		ops, d, err := pair.Run(NewGenerator(r.Seed, uint64(n)).Next)
		used++
		r.count(len(ops), err)
		if d != nil || err != nil || used >= sequencesOfPair {
			discard()
		}
		if d != nil {
			r.failed(n, ops, d)
		}
	}
}

func (r *Runner) stop(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *Runner) count(ops int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done++
	r.operations += ops
	var i *InconclusiveError
	if errors.As(err, &i) {
		r.inconclusive++
	} else if err != nil && r.err == nil {
		r.err = err
	}
}

// failed reduces a failing sequence and records it, unless one with the same signature has been seen.
func (r *Runner) failed(n int, ops []Op, d *Difference) {
	r.mu.Lock()
	known := r.seen[d.Signature()]
	r.seen[d.Signature()] = true
	r.mu.Unlock()
	if known {
		return
	}
	f := Failure{Seed: r.Seed, Number: n, First: d, Last: d, Ops: ops}
	replay := &replayer{newPair: r.NewPair}
	defer replay.discard()
	if last := replay.fresh(ops); last != nil {
		f.Alone, f.Last = true, last
		f.Ops = Reduce(ops, time.Now().Add(reduceTime), func(ops []Op) bool { return replay.run(ops) != nil })
		if last := replay.fresh(f.Ops); last != nil {
			f.Last = last
		}
	}
	r.mu.Lock()
	r.seen[f.Last.Signature()] = true
	r.failures = append(r.failures, f)
	r.mu.Unlock()
}

// replayer replays sequences on a pair that is replaced after each difference.
type replayer struct {
	newPair func() (*Pair, error)
	pair    *Pair
}

func (r *replayer) discard() {
	if r.pair != nil {
		r.pair.Close()
		r.pair = nil
	}
}

// fresh replays on a new pair.
func (r *replayer) fresh(ops []Op) *Difference {
	r.discard()
	return r.run(ops)
}

// run replays and returns the difference, nil if there is none or the servers cannot be used.
func (r *replayer) run(ops []Op) *Difference {
	if r.pair == nil {
		var err error
		if r.pair, err = r.newPair(); err != nil {
			return nil
		}
	}
	d, err := r.pair.Replay(ops)
	if d != nil || err != nil {
		r.discard()
	}
	return d
}
