//go:build foundationdb

package foundationdb

import (
	"context"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// newest is the version of this store's newest commit that is known to have happened. A transaction may read at a commit's version at once: FoundationDB's
// own advice for seeing one's own writes without asking for a read version (SetReadVersion).
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

var _ engine.RecentBeginner = (*Store)(nil)

// BeginRecent implements engine.RecentBeginner: at the version of this store's newest commit, if that became known no longer than Options.RecentAge ago.
func (s *Store) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	if err := s.usable(ctx); err != nil {
		return nil, false, err
	}
	version, ok := s.newest.recent(s.o.RecentAge)
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
