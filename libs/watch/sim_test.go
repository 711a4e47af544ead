package watch

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

var (
	simSeed  = flag.Uint64("watch.seed", 0, "run only this seed of TestCoreAgainstModel")
	simRuns  = flag.Int("watch.runs", 60, "seeds of TestCoreAgainstModel")
	simSteps = flag.Int("watch.steps", 4000, "steps per seed")
)

// TestCoreAgainstModel drives the core with random entries, clients that stall and leave, passes cut at every point,
// compactions and tiny limits, and checks every response against a naive model that keeps the whole log (I8).
func TestCoreAgainstModel(t *testing.T) {
	first, n := uint64(time.Now().UnixNano()), *simRuns
	if *simSeed != 0 {
		first, n = *simSeed, 1
	}
	if testing.Short() {
		n = min(n, 10)
	}
	for i := range n {
		seed := first + uint64(i)
		newSim(t, seed).run(*simSteps)
	}
}

type sim struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	c       *core
	step    int
	log     []revlog.Entry // all committed
	applied int            // log[:applied] was given to the core
	compact int64
	dense   bool
	live    map[string]revlog.KV
	clients []*simClient
	pass    [sources]*pass
	stage   [sources]int
}

type simClient struct {
	s       *Stream
	watches map[int64]*simWatch
	creates []*simWatch // not answered yet
	heads   []int64     // of progress requests
}

type simWatch struct {
	req      CreateRequest
	spec     spec
	head     int64
	start    int64
	at       int   // index in log up to which its events have been seen
	claimed  int64 // greatest revision that a response claimed complete
	created  bool
	canceled bool
	refused  string
}

func newSim(t *testing.T, seed uint64) *sim {
	rnd := rand.New(rand.NewPCG(seed, 1))
	o := Options{
		RingBytes:     1 + rnd.IntN(40_000),
		TurnBytes:     1 + rnd.IntN(4000),
		ResponseBytes: 1 + rnd.IntN(3000),
		PassEntries:   1 + rnd.IntN(30),
		PassBytes:     1 + rnd.IntN(20_000),
		PassWatchers:  1 + rnd.IntN(20),
	}.withDefaults()
	return &sim{
		t: t, seed: seed, rnd: rnd, c: newCore(o, 1), compact: -1, dense: rnd.IntN(2) == 0,
		live: map[string]revlog.KV{},
	}
}

func (m *sim) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d step %d: %s (rerun with -watch.seed=%d)", m.seed, m.step, fmt.Sprintf(format, args...), m.seed)
}

func (m *sim) run(steps int) {
	for m.step = range steps {
		switch n := m.rnd.IntN(100); {
		case n < 25:
			m.commit()
		case n < 45:
			m.apply()
		case n < 60:
			m.passStep(source(m.rnd.IntN(int(sources))))
		case n < 80:
			m.take(m.anyClient())
		case n < 88:
			m.create()
		case n < 91:
			m.cancel()
		case n < 94:
			m.progress()
		case n < 95:
			m.c.tick(m.rnd.IntN(2))
		case n < 96:
			m.doCompact()
		case n < 98:
			m.open()
		case n < 99:
			m.close()
		default:
			m.settleAll()
		}
		if m.step%16 == 0 {
			m.invariants()
		}
	}
	m.settleAll()
	for len(m.clients) > 0 {
		m.close()
	}
	m.invariants()
	if m.c.groups != 0 || m.c.watchers != 0 || len(m.c.streams) != 0 {
		m.fatalf("left after all streams closed: %d groups %d watchers %d streams", m.c.groups, m.c.watchers,
			len(m.c.streams))
	}
}

func (m *sim) head() int64 {
	if len(m.log) == 0 {
		return 1
	}
	return m.log[len(m.log)-1].Rev
}

func (m *sim) key() string {
	const letters = "ab\xff"
	b := make([]byte, 1+m.rnd.IntN(3))
	for i := range b {
		b[i] = letters[m.rnd.IntN(len(letters))]
	}
	return string(b)
}

func (m *sim) commit() {
	rev := m.head() + 1
	if !m.dense {
		rev += int64(m.rnd.IntN(5))
	}
	e := revlog.Entry{Rev: rev}
	seen := map[string]bool{}
	for range 1 + m.rnd.IntN(4) {
		k := m.key()
		if seen[k] {
			continue
		}
		seen[k] = true
		prev, has := m.live[k]
		ev := revlog.Event{
			Prev: prev, HasPrev: has, Delete: has && m.rnd.IntN(3) == 0, KV: revlog.KV{Key: []byte(k), Mod: rev},
		}
		if ev.Delete {
			delete(m.live, k)
		} else {
			ev.KV.Value = bytes.Repeat([]byte{'v'}, m.rnd.IntN(300))
			ev.KV.Create, ev.KV.Version = rev, 1
			if has {
				ev.KV.Create, ev.KV.Version = prev.Create, prev.Version+1
			}
			m.live[k] = ev.KV
		}
		e.Events = append(e.Events, ev)
	}
	m.log = append(m.log, e)
}

func (m *sim) apply() {
	n := min(len(m.log)-m.applied, m.rnd.IntN(10))
	from := max(0, m.applied-m.rnd.IntN(2)) // sometimes an entry twice
	m.applyAll(m.log[from : m.applied+n])
	m.applied += n
}

// applyAll applies entries as a Hub does: first it reads the values that watchers want.
func (m *sim) applyAll(entries []revlog.Entry) {
	var records []*record
	for _, e := range m.named(entries) {
		r := newRecord(e, time.Second)
		if m.rnd.IntN(2) == 0 {
			raw := newRaw(asPayloads([]revlog.Entry{e})[0], time.Second)
			r = &raw
		}
		records = append(records, r)
	}
	m.serve(m.c.missing(records))
	m.c.applyRecords(records)
}

// named returns the entries without some of the values, which are only named then: what one version has is always the
// same, but a new value may be there.
func (m *sim) named(entries []revlog.Entry) []revlog.Entry {
	entries = slices.Clone(entries)
	hide := func(kv *revlog.KV, keep bool) {
		if kv.Mod%3 != 0 && len(kv.Value) > 0 {
			kv.Place, kv.Size = revlog.PlaceOwn, len(kv.Value)
			if !keep {
				kv.Value = nil
			}
		}
	}
	for i := range entries {
		entries[i].Events = slices.Clone(entries[i].Events)
		for j := range entries[i].Events {
			ev := &entries[i].Events[j]
			hide(&ev.KV, m.rnd.IntN(2) == 0)
			hide(&ev.Prev, m.rnd.IntN(4) == 0)
		}
	}
	return entries
}

// serve reads values from the whole log.
func (m *sim) serve(missing []unread) {
	seen := map[unread]bool{}
	for _, u := range missing {
		kv := u.kv()
		if !kv.Unread() || seen[u] {
			m.fatalf("value of %q at %d is asked for, twice %v", kv.Key, kv.Mod, seen[u])
		}
		seen[u] = true
		i, _ := slices.BinarySearchFunc(m.log, kv.Mod, func(e revlog.Entry, r int64) int { return int(e.Rev - r) })
		for _, ev := range m.log[i].Events {
			if bytes.Equal(ev.KV.Key, kv.Key) {
				u.set(ev.KV.Value)
			}
		}
	}
}

func (m *sim) open() {
	if len(m.clients) > 8 {
		return
	}
	cl := &simClient{s: &Stream{}, watches: map[int64]*simWatch{}}
	cl.s.slot = m.rnd.IntN(2)
	m.c.open(cl.s)
	m.clients = append(m.clients, cl)
}

func (m *sim) close() {
	if len(m.clients) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.clients))
	for !m.c.closeSome(m.clients[i].s, 1+m.rnd.IntN(3)) {
		m.apply()
	}
	m.clients = slices.Delete(m.clients, i, i+1)
}

func (m *sim) anyClient() *simClient {
	for len(m.clients) == 0 {
		m.open()
	}
	// Squared, so that some clients are slow all the time.
	f := m.rnd.Float64()
	return m.clients[int(f*f*float64(len(m.clients)))]
}

func (m *sim) create() {
	cl := m.anyClient()
	r := CreateRequest{Key: []byte(m.key()), PrevKV: m.rnd.IntN(2) == 0, ProgressNotify: m.rnd.IntN(2) == 0}
	switch m.rnd.IntN(8) {
	case 0, 1:
	case 2, 3, 4:
		r.Key = r.Key[:m.rnd.IntN(len(r.Key)+1)]
		if r.RangeEnd = []byte(prefixEnd(string(r.Key))); len(r.RangeEnd) == 0 {
			r.RangeEnd = []byte{0}
		}
	case 5:
		r.RangeEnd = []byte{0}
	default:
		r.RangeEnd = []byte(m.key())
	}
	r.Filter = Filter(max(0, m.rnd.IntN(8)-4))
	switch head := m.head(); m.rnd.IntN(8) {
	case 0, 1, 2:
	case 3:
		r.StartRevision = head + 1 + int64(m.rnd.IntN(20))
	case 4:
		r.StartRevision = []int64{math.MaxInt64, math.MaxInt64 - 2, -1, 1, max(1, m.compact)}[m.rnd.IntN(5)]
	default:
		r.StartRevision = max(1, head-int64(m.rnd.IntN(200)))
	}
	if m.rnd.IntN(6) == 0 {
		r.WatchID = int64(m.rnd.IntN(12)) - 6
		if r.WatchID == -1 {
			r.WatchID = 0
		}
	}
	w := &simWatch{req: r, head: m.head(), start: r.StartRevision}
	w.spec, w.refused = specOf(r)
	if old := cl.watches[r.WatchID]; r.WatchID != 0 && old != nil && w.refused == "" {
		w.refused = reasonDuplicateID
	}
	if w.start == 0 {
		w.start = w.head + 1
	}
	cl.creates = append(cl.creates, w)
	m.c.create(cl.s, r, w.head, m.compact)
	m.takeCreated(cl)
}

// takeCreated reads up to the answer, so that the model knows which ids are taken when the next request comes.
func (m *sim) takeCreated(cl *simClient) {
	for len(cl.creates) > 0 {
		m.take(cl)
	}
}

func (m *sim) cancel() {
	cl := m.anyClient()
	id := int64(m.rnd.IntN(10) - 2)
	w := cl.watches[id]
	m.c.cancel(cl.s, id, m.head())
	if w == nil {
		return
	}
	for cl.watches[id] == w {
		m.take(cl)
	}
}

func (m *sim) progress() {
	cl := m.anyClient()
	before := cl.s.progressRequests
	m.c.requestProgress(cl.s, m.head())
	if cl.s.progressRequests > before {
		cl.heads = append(cl.heads, m.head())
	}
}

func (m *sim) doCompact() {
	if h := m.head(); h > max(1, m.compact) {
		m.compact = max(m.compact, 1) + m.rnd.Int64N(h-max(1, m.compact))
	}
}

// passStep does one of the steps of a pass, so that anything can happen between them.
func (m *sim) passStep(src source) bool {
	switch m.stage[src] {
	case 0:
		p, more := m.c.plan(src, m.compact)
		if p == nil {
			return more
		}
		if m.pass[src] = p; p.filled() != (src == fromRing) {
			m.fatalf("source %d: pass from %d to %d", src, p.from, p.next)
		}
		if p.filled() {
			m.stage[src] = 1
			return true
		}
		var entries []revlog.Entry
		if p.from < m.compact {
			return true // the log refuses; plan again
		}
		i, _ := slices.BinarySearchFunc(m.log, p.from, func(e revlog.Entry, r int64) int { return int(e.Rev - r) })
		entries = m.named(m.log[i:min(len(m.log), i+m.c.opts.PassEntries)])
		next := m.head() + 1
		if i+len(entries) < len(m.log) {
			next = entries[len(entries)-1].Rev + 1
		}
		p.fill(entries, next, m.c.opts.PassBytes)
		if !p.filled() {
			m.fatalf("pass from %d to %d, position %d", p.from, p.next, m.c.position)
		}
		m.stage[src] = 1
	case 1:
		m.c.collect(m.pass[src])
		m.pass[src].match(m.c.opts.Codec)
		m.serve(m.pass[src].missing())
		m.pass[src].lose()
		m.stage[src] = 2
	default:
		if !m.c.distribute(m.pass[src], 1+m.rnd.IntN(4)) {
			m.stage[src] = 0
		}
	}
	return true
}

// take lets a client read a turn and checks it.
func (m *sim) take(cl *simClient) bool {
	turn := m.c.take(cl.s, nil)
	for _, r := range turn {
		m.check(cl, r)
	}
	if cl.s.progressRequests == 0 {
		cl.heads = nil // answered or dropped
	}
	return len(turn) > 0
}

func (m *sim) check(cl *simClient, r Response) {
	switch {
	case r.Created:
		w := cl.creates[0]
		cl.creates = cl.creates[1:]
		if r.Revision != w.head || r.CancelReason != w.refused || r.Canceled != (w.refused != "") {
			m.fatalf("created %+v for %+v", r, w)
		}
		if w.refused != "" {
			return
		}
		if cl.watches[r.WatchID] != nil || w.req.WatchID != 0 && r.WatchID != w.req.WatchID {
			m.fatalf("id %d taken or not asked for", r.WatchID)
		}
		w.created = true
		cl.watches[r.WatchID] = w
	case r.Canceled:
		w := cl.watches[r.WatchID]
		if w == nil {
			m.fatalf("cancel of unknown %d", r.WatchID)
		}
		if r.CompactRevision == 0 {
			delete(cl.watches, r.WatchID)
			return
		}
		if w.canceled || r.CompactRevision > m.compact || max(w.claimed, w.start-1) >= r.CompactRevision ||
			r.Revision != 0 {
			m.fatalf("compaction cancel %+v of %+v, compact revision %d", r, w, m.compact)
		}
		w.canceled = true
	case len(r.Events) == 0 && r.WatchID == ProgressAllID:
		if len(cl.heads) == 0 || r.Revision < slices.Max(cl.heads) || len(cl.watches) == 0 {
			m.fatalf("progress %d for requests at %v", r.Revision, cl.heads)
		}
		cl.heads = cl.heads[1:]
		for id, w := range cl.watches {
			if w.canceled || w.req.StartRevision > r.Revision {
				m.fatalf("progress %d in spite of watch %d: %+v", r.Revision, id, w)
			}
			m.claim(w, r.Revision)
		}
	case len(r.Events) == 0:
		w := cl.watches[r.WatchID]
		if w == nil || w.canceled || !w.req.ProgressNotify || r.Revision < w.head && w.req.StartRevision == 0 ||
			r.Revision < w.req.StartRevision {
			m.fatalf("progress %+v for %+v", r, w)
		}
		m.claim(w, r.Revision)
	default:
		w := cl.watches[r.WatchID]
		if w == nil || w.canceled || r.PrevKV != w.req.PrevKV {
			m.fatalf("events for %+v", w)
		}
		m.events(w, r)
	}
}

// events checks that a response holds exactly the next events of w, whole revisions.
func (m *sim) events(w *simWatch, r Response) {
	got := r.Events
	for len(got) > 0 {
		want := m.next(w)
		if want == nil {
			m.fatalf("surplus event %d %q for %+v", got[0].Rev(), got[0].src.KV.Key, w)
		}
		for _, ev := range want {
			if len(got) == 0 || got[0].src.KV.Mod != ev.KV.Mod || !bytes.Equal(got[0].src.KV.Key, ev.KV.Key) ||
				got[0].src.Delete != ev.Delete {
				m.fatalf("want %d %q for %+v, got %+v", ev.KV.Mod, ev.KV.Key, w, got)
			}
			want := encodeEvent(ev, r.PrevKV && ev.HasPrev).parts.Materialize()
			if !bytes.Equal(got[0].Wire(r.PrevKV).Materialize(), want) {
				m.fatalf("%d %q has another value for %+v", ev.KV.Mod, ev.KV.Key, w)
			}
			got = got[1:]
		}
	}
	last := r.Events[len(r.Events)-1].Rev()
	if r.Revision < last {
		m.fatalf("header %d below event %d", r.Revision, last)
	}
	m.claim(w, r.Revision)
}

// next returns the next non-empty revision of w and steps over it.
func (m *sim) next(w *simWatch) []*revlog.Event {
	for w.at < len(m.log) {
		e := &m.log[w.at]
		w.at++
		if evs := matching(w, e); len(evs) > 0 {
			return evs
		}
	}
	return nil
}

func matching(w *simWatch, e *revlog.Entry) (evs []*revlog.Event) {
	if e.Rev < w.start {
		return nil
	}
	for i := range e.Events {
		k := string(e.Events[i].KV.Key)
		if inRange(k, w.req) && w.spec.wants(e.Events[i].Delete) {
			evs = append(evs, &e.Events[i])
		}
	}
	return evs
}

// inRange is etcd's reading of a request's range.
func inRange(k string, r CreateRequest) bool {
	key := string(r.Key)
	if key == "" {
		key = "\x00"
	}
	switch {
	case len(r.RangeEnd) == 0:
		return k == key
	case string(r.RangeEnd) == "\x00":
		return k >= key
	}
	return k >= key && k < string(r.RangeEnd)
}

// claim checks that nothing up to rev is missing.
func (m *sim) claim(w *simWatch, rev int64) {
	if rev > m.c.position && rev > w.head {
		m.fatalf("claim of %d is ahead of the hub's %d", rev, m.c.position)
	}
	for i := w.at; i < len(m.log) && m.log[i].Rev <= rev; i++ {
		if len(matching(w, &m.log[i])) > 0 {
			m.fatalf("claim of %d but event at %d was not sent: %+v", rev, m.log[i].Rev, w)
		}
	}
	w.claimed = max(w.claimed, rev)
}

// settleAll applies everything and lets all clients read until nothing moves; then nobody may miss anything.
func (m *sim) settleAll() {
	m.applyAll(m.log[m.applied:])
	m.applied = len(m.log)
	for busy, n := true, 0; busy; n++ {
		busy = false
		for src := range sources {
			busy = m.passStep(src) || m.stage[src] != 0 || busy
		}
		for _, cl := range m.clients {
			busy = m.take(cl) || busy
		}
		busy = busy || m.c.behind() > 0 // a take may find nothing but watchers that fell off the ring
		if n > 1_000_000 {
			m.fatalf("does not settle: %+v", m.c.stats(0))
		}
	}
	for _, cl := range m.clients {
		for id, w := range cl.watches {
			if w.canceled {
				continue
			}
			if missed := m.next(w); missed != nil {
				m.fatalf("watch %d missed %d: %+v, %+v", id, missed[0].KV.Mod, w, cl.s.watchers[id])
			}
		}
		cl.heads = nil
	}
	if m.c.unsynced != 0 {
		m.fatalf("%d unsynced after settling", m.c.unsynced)
	}
}
