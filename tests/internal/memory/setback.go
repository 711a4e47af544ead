package memory

import (
	"time"

	"github.com/google/btree"
)

// State is what a store had at a moment. It never changes.
type State struct{ rows *btree.BTreeG[row] }

// Save returns what the store has now, as a backup of a whole database does.
func (s *Store) Save() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		s.view = s.rows.Clone()
	}
	return State{s.view}
}

// Version returns a version above all that have been read or committed.
func (s *Store) Version() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tick()
}

// SetBack gives the store what it had at an earlier moment, and versions that begin anew, as a restore into a new
// database does. Transactions that have begun before cannot be committed any more.
func (s *Store) SetBack(to State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows, s.view = to.rows.Clone(), nil
	s.began, s.ahead, s.version = time.Now(), 0, 1
	s.life++
	clear(s.commits)
	s.commits, s.floor = nil, 0
	for w := range s.waits {
		close(w.changed)
	}
	clear(s.waits)
}

// Advance has versions go on from one, if it is above the present one, as fdbcli's advanceversion does.
func (s *Store) Advance(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.tick(); version > now {
		s.ahead += version - now
		s.version = version
	}
}
