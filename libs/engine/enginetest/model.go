package enginetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
)

// modelSteps is the number of steps of one random run.
const modelSteps = 1500

// keyRange is begin <= k < end of the model's keys.
type keyRange struct{ begin, end string }

func (k keyRange) has(key string) bool { return k.begin <= key && key < k.end }

// version is the model's state after one commit, and the keys that the commit wrote.
type version struct {
	rows   map[string]string
	wrote  []string
	ranges []keyRange
}

// modelTxn is a transaction with what the model knows of it.
type modelTxn struct {
	x   engine.Txn
	at  int        // index of the version it reads
	saw []keyRange // what it has surely read
	may []keyRange // what it has asked for: a conflict beyond saw is allowed here
	ops []func(v *version)
}

// model is a random run.
type model struct {
	t        *testing.T
	e        Engine
	s        engine.Store
	r        *rand.Rand
	versions []version
	open     []*modelTxn
	waits    []engine.Pending
	snaps    []struct {
		r  engine.Snapshot
		at int
	}
}

func testModel(t *testing.T, e Engine) {
	m := &model{t: t, e: e, s: e.Store, r: newRand(t), versions: []version{{rows: map[string]string{}}}}
	for range modelSteps {
		m.step()
	}
	for _, x := range m.open {
		x.x.Discard()
	}
	m.drain()
	for _, s := range m.snaps {
		s.r.Close()
	}
}

// key returns one of few keys, some with odd bytes.
func (m *model) key() string {
	if m.r.IntN(4) == 0 {
		return []string{"", "\x00", "a\x00", "\xfe", "k\xff\xff"}[m.r.IntN(5)]
	}
	return fmt.Sprintf("k%02d", m.r.IntN(40))
}

func (m *model) last() int { return len(m.versions) - 1 }

func (m *model) step() {
	switch n := m.r.IntN(100); {
	case n < 15 && len(m.open) < 8:
		m.begin()
	case n < 55 && len(m.open) > 0:
		m.read(m.open[m.r.IntN(len(m.open))])
	case n < 75 && len(m.open) > 0:
		m.mutate(m.open[m.r.IntN(len(m.open))])
	case n < 90 && len(m.open) > 0:
		i := m.r.IntN(len(m.open))
		x := m.open[i]
		m.open = slices.Delete(m.open, i, i+1)
		if m.r.IntN(8) == 0 {
			x.x.Discard()
		} else {
			m.commit(x)
		}
	case n < 95 && len(m.snaps) < 4:
		m.drain()
		m.snaps = append(m.snaps, struct {
			r  engine.Snapshot
			at int
		}{snapshot(m.t, m.s), m.last()})
	case n < 99 && len(m.snaps) > 0:
		i := m.r.IntN(len(m.snaps))
		s := m.snaps[i]
		m.compare(s.r, s.at)
		if m.r.IntN(3) == 0 {
			s.r.Close()
			m.snaps = slices.Delete(m.snaps, i, i+1)
		}
	default:
		m.drain()
	}
}

// drain waits for the commits under way, so that it is known what a new reader sees.
func (m *model) drain() {
	for _, p := range m.waits {
		if _, err := p.Wait(m.t.Context()); err != nil {
			m.t.Fatal("Wait:", err)
		}
	}
	m.waits = nil
}

func (m *model) begin() {
	if !m.s.Limits().Pipelined {
		m.drain()
	}
	m.open = append(m.open, &modelTxn{x: begin(m.t, m.s), at: m.last()})
}

func (m *model) read(x *modelTxn) {
	rows := m.versions[x.at].rows
	if m.r.IntN(2) == 0 {
		k := m.key()
		v, ok := rows[k]
		var want []byte
		if ok {
			want = []byte(v)
		}
		wantGet(m.t, x.x, k, want)
		x.saw = append(x.saw, keyRange{k, k + "\x00"})
		return
	}
	q := m.randomRange()
	q.NoConflict = m.r.IntN(6) == 0
	got := scan(m.t, x.x, q)
	if diff := cmp.Diff(wantRows(sorted(rows), q), got); diff != "" {
		m.t.Fatalf("version %d, %+v:\n%s", x.at, q, diff)
	}
	if q.NoConflict {
		return
	}
	asked := keyRange{string(q.Begin), "\xff\xff\xff"}
	if q.End != nil {
		asked.end = string(q.End)
	}
	saw := asked
	if q.Limit > 0 && len(got) == q.Limit {
		if end := got[len(got)-1].Key; q.Reverse {
			saw.begin = end
		} else {
			saw.end = end + "\x00"
		}
	}
	x.saw, x.may = append(x.saw, saw), append(x.may, asked)
}

func (m *model) randomRange() engine.Range {
	q := engine.Range{Begin: []byte(m.key()), Reverse: m.r.IntN(2) == 0}
	if m.r.IntN(4) > 0 {
		q.End = []byte(m.key())
	}
	if m.r.IntN(2) == 0 {
		q.Limit = 1 + m.r.IntN(5)
	}
	return q
}

func (m *model) mutate(x *modelTxn) {
	k := m.key()
	switch m.r.IntN(5) {
	case 0:
		x.x.Clear([]byte(k))
		x.ops = append(x.ops, func(v *version) { delete(v.rows, k); v.wrote = append(v.wrote, k) })
	case 1:
		end := m.key()
		x.x.ClearRange([]byte(k), []byte(end))
		if c := (keyRange{k, end}); c.begin < c.end { // else it is no mutation
			x.ops = append(x.ops, func(v *version) {
				maps.DeleteFunc(v.rows, func(k, _ string) bool { return c.has(k) })
				v.ranges = append(v.ranges, c)
			})
		}
	default:
		val := fmt.Sprintf("%0*d", m.r.IntN(200), m.r.IntN(1000))
		if m.r.IntN(10) == 0 {
			val = ""
		}
		x.x.Set([]byte(k), []byte(val))
		x.ops = append(x.ops, func(v *version) { v.rows[k] = val; v.wrote = append(v.wrote, k) })
	}
}

// conflicts tells whether a commit after version at wrote into one of the ranges.
func (m *model) conflicts(at int, ranges []keyRange) bool {
	for _, v := range m.versions[at+1:] {
		for _, r := range ranges {
			if slices.ContainsFunc(v.wrote, r.has) {
				return true
			}
			for _, c := range v.ranges {
				if r.begin < r.end && c.begin < r.end && r.begin < c.end {
					return true
				}
			}
		}
	}
	return false
}

func (m *model) commit(x *modelTxn) {
	must := len(x.ops) > 0 && m.conflicts(x.at, x.saw)
	may := must || m.conflicts(x.at, x.may)
	p, err := x.x.Commit(m.t.Context())
	if err == nil && (must || m.r.IntN(3) == 0 || !m.s.Limits().Pipelined) {
		_, err = p.Wait(m.t.Context())
	} else if err == nil {
		m.waits = append(m.waits, p)
	}
	switch {
	case errors.Is(err, engine.ErrConflict) && may:
		return
	case err != nil:
		m.t.Fatalf("commit at version %d of %d: %v", x.at, m.last(), err)
	case must:
		m.t.Fatalf("commit at version %d of %d: no conflict", x.at, m.last())
	}
	if len(x.ops) == 0 {
		return
	}
	next := version{rows: maps.Clone(m.versions[m.last()].rows)}
	for _, op := range x.ops {
		op(&next)
	}
	m.versions = append(m.versions, next)
}

func sorted(rows map[string]string) []row {
	var all []row
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		all = append(all, row{k, rows[k]})
	}
	return all
}

// compare checks the whole state that r reads.
func (m *model) compare(r engine.Reader, at int) {
	if diff := cmp.Diff(sorted(m.versions[at].rows), scan(m.t, r, engine.Range{})); diff != "" {
		m.t.Fatalf("version %d (-want +got):\n%s", at, diff)
	}
}
