package join

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
)

// names are the domains of a joined transaction, in order.
func names(batch []*member) (s []string) {
	for _, m := range batch {
		s = append(s, m.flow.name)
	}
	return s
}

// takeAll takes everything that waits.
func (l *line) takeAll() (all [][]string) {
	for b := l.take(); b != nil; b = l.take() {
		all = append(all, names(b))
	}
	return all
}

func one(name string, change func(*member)) *member {
	m := &member{flow: &flow{name: name}, version: 100}
	if change != nil {
		change(m)
	}
	return m
}

// TestTake: who goes with whom, in the order of coming.
func TestTake(t *testing.T) {
	at := func(name string, version, known uint64) *member {
		return one(name, func(m *member) { m.version, m.known = version, known })
	}
	for _, test := range []struct {
		name    string
		waiting []*member
		want    [][]string
	}{
		{"nobody", nil, nil},
		{"all", []*member{at("a", 7, 7), at("b", 9, 3), at("c", 7, 1)}, [][]string{{"a", "b", "c"}}},
		{
			"a domain once",
			[]*member{at("a", 7, 0), at("b", 7, 0), at("a", 7, 0), at("c", 7, 0), at("a", 7, 0)},
			[][]string{{"a", "b", "c"}, {"a"}, {"a"}},
		},
		{
			"not with a version before what it has seen of itself",
			[]*member{at("old", 5, 1), at("new", 9, 6), at("other", 9, 5), at("older", 4, 4)},
			[][]string{{"old", "other"}, {"new"}, {"older"}},
		},
		{
			"bytes",
			[]*member{
				one("a", func(m *member) { m.bytes = bytesMax - 10 }),
				one("b", func(m *member) { m.bytes = 11 }),
				one("c", func(m *member) { m.bytes = 10 }),
			},
			[][]string{{"a", "c"}, {"b"}},
		},
		{
			"reads",
			[]*member{
				one("a", func(m *member) { m.reads = readsMax }),
				one("b", func(m *member) { m.reads = 1 }),
				one("c", nil),
			},
			[][]string{{"a", "c"}, {"b"}},
		},
		{
			"one that is larger than any",
			[]*member{one("a", func(m *member) { m.bytes = 2 * bytesMax })},
			[][]string{{"a"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := line{waiting: test.waiting}
			if diff := cmp.Diff(test.want, l.takeAll()); diff != "" {
				t.Error(diff)
			}
			if len(l.waiting) > 0 {
				t.Errorf("%d still wait", len(l.waiting))
			}
		})
	}
}

// TestTakeMembers: a joined transaction has membersMax members at most.
func TestTakeMembers(t *testing.T) {
	var l line
	for i := range 2*membersMax + 1 {
		l.waiting = append(l.waiting, one(fmt.Sprint(i), nil))
	}
	var sizes []int
	for _, b := range l.takeAll() {
		sizes = append(sizes, len(b))
	}
	if diff := cmp.Diff([]int{membersMax, membersMax, 1}, sizes); diff != "" {
		t.Error(diff)
	}
}

// TestMayWait: only what others have under way is waited for.
func TestMayWait(t *testing.T) {
	a, b := &flow{name: "a"}, &flow{name: "b"}
	var l line
	if l.busy(a) || l.mayWait(a) {
		t.Error("a waits for nobody")
	}
	l.any, l.small, a.any, a.small = slots, slots, slots, slots
	if l.busy(a) || l.mayWait(a) {
		t.Error("a waits for itself")
	}
	if !l.busy(b) || !l.mayWait(b) {
		t.Error("b does not wait for a")
	}
	l.waiting = make([]*member, waitingMax)
	if l.mayWait(b) {
		t.Error("too many wait")
	}
	l.waiting = nil
	l.any, l.small = 1, slots-1
	a.small = 0
	if l.mayWait(b) {
		t.Error("b waits although there is a slot")
	}
}

// TestBlame: a domain that conflicts goes alone for longer each time.
func TestBlame(t *testing.T) {
	f := &flow{name: "a"}
	l := line{small: slots}
	for want := aloneMin; want < 4*aloneMax; want *= 2 {
		f.blame()
		n := 0
		for ; !l.mayWait(f); n++ {
		}
		if n != min(want, aloneMax) {
			t.Errorf("%d went alone, want %d", n, min(want, aloneMax))
		}
	}
}

// TestVerdicts: what may be tried again is only what is sure not to have happened.
func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		err  error
		sent bool
		want verdict
	}{
		{nil, true, committed},
		{engine.ErrConflict, true, apart},
		{engine.ErrTooOld, true, apart},
		{engine.ErrTooLarge, true, apart},
		{engine.ErrNoSpace, true, apart},
		{engine.ErrUnavailable, false, apart},
		{errors.New("a wrong call"), false, apart},
		{engine.ErrUnknownOutcome, true, open},
		{engine.ErrUnavailable, true, open},
		{engine.ErrClosed, true, open},
		{fmt.Errorf("%w: %w", engine.ErrUnknownOutcome, engine.ErrConflict), true, open},
		{errors.New("a wrong call"), true, suspect},
	} {
		if got := verdictOf(test.err, test.sent); got != test.want {
			t.Errorf("%v, sent %v: %d, want %d", test.err, test.sent, got, test.want)
		}
	}
}
