package mvcc

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Alarms returns the names of the alarms that are set, in byte order. Alarms survive restarts. Over a network it reads
// the head of the same state too, because a process without requests may read nothing else for a long time: so the
// Store learns that the format is a later release's, or that there are other users and roles. Errors: ErrUnavailable,
// ErrNewerFormat, the context's.
func (s *Store) Alarms(ctx context.Context) ([]string, error) {
	var names []string
	begin := s.rows.meta(metaAlarm)
	err := s.view(ctx, func(snap engine.Snapshot) error {
		names = nil
		it := snap.Scan(ctx, engine.Range{Begin: begin, End: prefixEnd(begin), KeysOnly: true})
		defer it.Close()
		if !s.limits.Dense {
			state := s.readState(ctx, snap)
			if _, err := state.learn(ctx); err != nil {
				return err
			}
		}
		for it.Next() {
			names = append(names, string(it.Key()[len(begin):]))
		}
		return it.Err()
	})
	return names, err
}

// SetAlarm sets or clears an alarm. It is idempotent. Errors: ErrNoSpace (not even this row can be written),
// ErrUnavailable, the context's.
func (s *Store) SetAlarm(ctx context.Context, name string, on bool) error {
	return s.update(ctx, func(txn engine.Txn) error {
		if on {
			txn.Set(s.rows.meta(metaAlarm+name), nil)
		} else {
			txn.Clear(s.rows.meta(metaAlarm + name))
		}
		return nil
	})
}

// RefuseGrowth makes requests that need space (puts, transactions with puts, lease grants) fail with ErrNoSpace, as in
// etcd under a NOSPACE alarm. Deletes, revokes, compactions and reads go on.
func (s *Store) RefuseGrowth(refuse bool) { s.noSpace.Store(refuse) }
