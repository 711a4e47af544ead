//go:build foundationdb

package foundationdb

import (
	"context"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// newest is the version of the newest commit of this store that is known to have happened. A transaction may read at a
// commit's version at once. FoundationDB recommends this to a client that wants to see its own writes without asking
// for a read version (SetReadVersion).
type newest struct {
	mu      sync.Mutex
	version int64
	known   time.Time // when it became known
}

// note records the version of a commit.
func (n *newest) note(version int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if version > n.version {
		n.version, n.known = version, time.Now()
	}
}

// recent returns the version if it became known at most age ago.
func (n *newest) recent(age time.Duration) (version int64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version, n.version > 0 && time.Since(n.known) <= age
}

// last returns the version, 0 if there is none, and the time when it became known.
func (n *newest) last() (version uint64, known time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return uint64(n.version), n.known
}

const (
	// admissionEvery is how often the store asks the cluster, while BeginRecent is in use, whether it admits work of
	// the lowest priority.
	admissionEvery = 100 * time.Millisecond
	// admissionAge is how long an answer counts, from the start of its request.
	admissionAge = 250 * time.Millisecond
)

// admission tells whether the cluster keeps up with its load. FoundationDB slows writers down only by delaying its
// answers when they ask for a read version. A client that does not ask must check by itself: the library's own cache of
// read versions (USE_GRV_CACHE) is off while answers say that they were delayed. The library does not show this to its
// users. But work of batch priority is delayed long before any other, so as long as requests of that priority are
// answered at once, no work is delayed.
type admission struct {
	mu     sync.Mutex
	asking bool
	asked  time.Time // when the newest question was asked that has been answered
}

// open reports whether a transaction may begin without asking at now, and whether the caller has to ask.
func (a *admission) open(now time.Time) (open, ask bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	age := now.Sub(a.asked)
	ask = !a.asking && age >= admissionEvery
	a.asking = a.asking || ask
	return age <= admissionAge, ask
}

// answered records the answer to a request that was sent at asked.
func (a *admission) answered(asked time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asking = false
	if ok {
		a.asked = asked
	}
}

// askAdmission requests a read version with batch priority.
func (s *Store) askAdmission() {
	asked, ok := time.Now(), false
	defer func() { s.admission.answered(asked, ok) }()
	tr, err := s.newTransaction()
	if err != nil || tr.Options().SetPriorityBatch() != nil {
		return
	}
	f := tr.GetReadVersion()
	g := watchOver(s.ctx, s.o.Timeout, f.Cancel)
	_, err = f.Get()
	g.release()
	ok = err == nil
}

var _ engine.RecentBeginner = (*Store)(nil)

// BeginRecent implements engine.RecentBeginner. The transaction reads at the version of this store's newest commit, if
// that became known at most Options.RecentAge ago and the cluster does not delay work.
func (s *Store) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	if err := s.usable(ctx); err != nil {
		return nil, false, err
	}
	version, ok := s.newest.recent(s.o.RecentAge)
	if !ok {
		return nil, false, nil
	}
	ok, ask := s.admission.open(time.Now())
	if ask {
		s.versions.idle.Go(s.askAdmission)
	}
	if !ok {
		return nil, false, nil
	}
	t, err := s.begin(version)
	return t, err == nil, err
}

// begin returns a transaction that reads at a version.
func (s *Store) begin(version int64) (engine.Txn, error) {
	tr, err := s.newTransaction()
	if err != nil {
		return nil, err
	}
	tr.SetReadVersion(version)
	return &txn{reader: reader{s: s, tr: tr, version: uint64(version)}}, nil
}

// noteCommit records the version of a transaction that has just been committed.
func (s *Store) noteCommit(tr fdb.Transaction) {
	if version, err := tr.GetCommittedVersion(); err == nil {
		s.newest.note(version)
	}
}
