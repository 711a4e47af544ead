package faults

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

// FoundationDB's own limits, for a Remote that names no others.
const (
	remoteTxnAge   = 5 * time.Second
	remoteTxnBytes = txnsize.TxnBytesMax
)

// Trip is a kind of round trip to a store that is reached over a network.
type Trip int

// The kinds of round trips.
const (
	TripVersion Trip = iota // a read version: Begin and Snapshot
	TripGet                 // Get
	TripGetMany             // GetMany of one key or more, however many
	TripPage                // one page of a scan
	TripCommit              // a commit with mutations
	trips
)

func (t Trip) String() string {
	return [...]string{"version", "get", "getmany", "page", "commit"}[t]
}

// Trips counts round trips by kind.
type Trips [trips]int64

// Since returns the round trips made since an earlier count.
func (t Trips) Since(earlier Trips) Trips {
	for i := range t {
		t[i] -= earlier[i]
	}
	return t
}

// Total is the sum over all kinds.
func (t Trips) Total() (n int64) {
	for _, c := range t {
		n += c
	}
	return n
}

// String lists the kinds that there are: "1 version, 2 get".
func (t Trips) String() string {
	var parts []string
	for i, n := range t {
		if n != 0 {
			parts = append(parts, fmt.Sprintf("%d %v", n, Trip(i)))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// Delay is how long a round trip takes: Fixed and up to Random more, drawn from the Store's seed.
type Delay struct{ Fixed, Random time.Duration }

// Latency is how long a round trip of each kind takes.
type Latency [trips]Delay

// Everywhere returns a Latency that is the same for each kind.
func Everywhere(d Delay) (l Latency) {
	for i := range l {
		l[i] = d
	}
	return l
}

// Reads returns a Latency of reads: read versions and commits take no time.
func Reads(d Delay) Latency { return Latency{TripGet: d, TripGetMany: d, TripPage: d} }

// Remote makes a Store behave like a FoundationDB 7.3 behind a network, as far as a caller can notice: which calls take
// a round trip, how much of a scan one brings, how a transaction's size and age are counted, and that Wait reports
// refusals.
type Remote struct {
	Latency Latency
	// TxnAge is the age at which a transaction or snapshot is too old; 0: 5 s.
	TxnAge time.Duration
	// TxnBytes bounds a transaction's Size; 0: 10,000,000.
	TxnBytes int
	// RootBytes is the length of a root before all keys, which there is none of: keys and transactions have less room.
	RootBytes int
}

// wire is the state of a Store with a Remote.
type wire struct {
	Remote
	count [trips]atomic.Int64
}

func newWire(r *Remote) *wire {
	if r == nil {
		return nil
	}
	w := &wire{Remote: *r}
	if w.TxnAge == 0 {
		w.TxnAge = remoteTxnAge
	}
	if w.TxnBytes == 0 {
		w.TxnBytes = remoteTxnBytes
	}
	return w
}

// Trips returns the round trips so far; none without Options.Remote.
func (s *Store) Trips() (t Trips) {
	if s.wire == nil {
		return t
	}
	for i := range t {
		t[i] = s.wire.count[i].Load()
	}
	return t
}

// send begins a round trip and returns the time at which its answer arrives.
func (s *Store) send(kind Trip) time.Time {
	if s.wire == nil {
		return time.Time{}
	}
	s.wire.count[kind].Add(1)
	d := s.wire.Latency[kind]
	took := d.Fixed
	if d.Random > 0 {
		s.rmu.Lock()
		took += time.Duration(s.lr.Int64N(int64(d.Random)))
		s.rmu.Unlock()
	}
	return time.Now().Add(took)
}

// await waits until a time, or until ctx ends.
func await(ctx context.Context, at time.Time) error {
	left := time.Until(at)
	if left <= 0 {
		return nil
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// travel makes a round trip.
func (s *Store) travel(ctx context.Context, kind Trip) error { return await(ctx, s.send(kind)) }

// aged reports whether something that began at the given time is too old.
func (s *Store) aged(begun time.Time) bool {
	return s.wire != nil && time.Since(begun) > s.wire.TxnAge
}

// pageBytes are the sizes of the pages of a scan that may be left early, and wholePage that of one with a limit
// (fdb_c.cpp: iteration_progression, WANT_ALL).
var pageBytes = [...]int{4096, 6144, 9216, 13824, 20736, 31104, 46656, 69984, 80000, 120000}

const (
	wholePage = 80_000
	// rowOverhead is what a row counts as beside key and value (NativeAPI.actor.cpp: GetRangeLimits).
	rowOverhead = 8
)

// pages is the position of a scan within its pages. The next page is requested when one has arrived.
type pages struct {
	s     *Store
	limit bool
	n     int       // pages asked for
	left  int       // bytes of the current page
	due   time.Time // when the current page comes
	there bool      // it has come
}

// ask asks for the next page; at is when it is asked for, if that was earlier than now.
func (p *pages) ask(at time.Time) {
	p.left = wholePage
	if !p.limit {
		p.left = pageBytes[min(p.n, len(pageBytes)-1)]
	}
	p.n++
	p.due, p.there = p.s.send(TripPage), false
	if ahead := time.Since(at); !at.IsZero() && ahead > 0 {
		p.due = p.due.Add(-ahead)
	}
}

// next returns when the next row is there.
func (p *pages) next(ctx context.Context) error {
	if p == nil {
		return nil
	}
	if p.left <= 0 {
		p.ask(p.due)
	}
	if p.there {
		return nil
	}
	p.there = true
	return await(ctx, p.due)
}

// took takes a row out of the page.
func (p *pages) took(key, value []byte) {
	if p != nil {
		p.left -= len(key) + len(value) + rowOverhead
	}
}

// open begins the pages of a scan; nil without Options.Remote, or if the range is empty.
func (s *Store) open(q engine.Range) *pages {
	if s.wire == nil || q.End != nil && string(q.Begin) >= string(q.End) {
		return nil
	}
	p := &pages{s: s, limit: q.Limit > 0}
	p.ask(time.Time{})
	return p
}
