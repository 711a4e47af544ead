//go:build foundationdb

package foundationdb

import (
	"context"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// newest is the version of this store's newest commit that is known to have happened. A transaction may read at a
// commit's version at once: FoundationDB's own advice for seeing one's own writes without asking for a read version
// (SetReadVersion).
type newest struct {
	mu      sync.Mutex
	version int64
	known   time.Time // when it became known
}

// note takes the version of a commit.
func (n *newest) note(version int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if version > n.version {
		n.version, n.known = version, time.Now()
	}
}

// recent returns the version if it has been known for no longer than age.
func (n *newest) recent(age time.Duration) (version int64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version, n.version > 0 && time.Since(n.known) <= age
}

// last returns the version, 0 if there is none, and when it became known.
func (n *newest) last() (version uint64, known time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return uint64(n.version), n.known
}

const (
	// admissionEvery is how often the cluster is asked, while BeginRecent is in use, whether it lets work of the
	// lowest priority begin.
	admissionEvery = 100 * time.Millisecond
	// admissionAge is how long an answer counts, from the question on.
	admissionAge = 250 * time.Millisecond
)

// admission tells whether the cluster keeps up. FoundationDB slows writers down only by answering later when they ask
// for a read version, so who does not ask must see to it himself: its own cache of read versions (USE_GRV_CACHE) is
// off while answers say that they were held up. That is not shown to users of the library, but work of batch priority
// is held up long before any other: as long as questions of that priority are answered at once, nobody is.
type admission struct {
	mu     sync.Mutex
	asking bool
	asked  time.Time // when the newest question was asked that has been answered
}

// open says whether one may begin without asking at now, and whether the caller has to ask.
func (a *admission) open(now time.Time) (open, ask bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	age := now.Sub(a.asked)
	ask = !a.asking && age >= admissionEvery
	a.asking = a.asking || ask
	return age <= admissionAge, ask
}

// answered ends a question that was asked at asked.
func (a *admission) answered(asked time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asking = false
	if ok {
		a.asked = asked
	}
}

// askAdmission asks for a read version with batch priority.
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

// BeginRecent implements engine.RecentBeginner: at the version of this store's newest commit, if that became known no
// longer than Options.RecentAge ago and the cluster does not slow anybody down.
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

// noteCommit takes the version of a transaction that has just been committed.
func (s *Store) noteCommit(tr fdb.Transaction) {
	if version, err := tr.GetCommittedVersion(); err == nil {
		s.newest.note(version)
	}
}
