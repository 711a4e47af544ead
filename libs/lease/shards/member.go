package shards

import (
	"bytes"
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// join keeps this pod's member row fresh and looks at the others' until ctx ends; then it removes the row.
func (s *Shards) join(ctx context.Context) {
	failed := false
	for ctx.Err() == nil {
		err := s.refresh(ctx)
		switch {
		case err != nil && !failed && ctx.Err() == nil && engine.ClassOf(err) != engine.Conflict:
			s.o.Logger.Warn("lease shards: the members cannot be looked at; will retry", "error", err)
		case err == nil && failed:
			s.o.Logger.Info("lease shards: the members can be looked at again")
		}
		failed = err != nil
		s.rest(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeMax)
	defer cancel()
	s.leaving.Store(true)
	if err := s.refresh(ctx); err != nil {
		s.o.Logger.Debug("lease shards: the member row stays until it is forgotten", "error", err)
	}
}

// rest waits until it is time for the next refresh.
func (s *Shards) rest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.o.TTL/pollDivisor)
	defer cancel()
	select {
	case <-s.hurry:
	case <-ctx.Done():
	}
}

// refresh renews the member row, or removes it if the pod is leaving, reads the others', and makes the plan.
func (s *Shards) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.TTL)
	defer cancel()
	txn, err := s.eng.Begin(ctx)
	if err != nil {
		return err
	}
	defer txn.Discard()
	rows, err := s.readMembers(ctx, txn)
	if err != nil {
		return err
	}
	now, leaving := s.now(), s.leaving.Load()
	s.view.update(rows, now)
	for addr, m := range s.view.others {
		if m.forgotten(now) {
			key := s.memberKey(addr)
			txn.AddReadConflict(key, append(key[:len(key):len(key)], 0))
			txn.Clear(key)
		}
	}
	p := s.view.place(s.o.Self, leaving, now)
	s.adopt(p)
	if leaving {
		txn.Clear(s.memberKey(s.o.Self))
	} else {
		s.renewals++
		own := member{incarnation: s.incarnation, count: s.renewals, ttl: s.o.TTL, wants: p.mine}
		txn.Set(s.memberKey(s.o.Self), own.encode())
	}
	pending, err := txn.Commit(ctx)
	if err != nil {
		return err
	}
	_, err = pending.Wait(ctx)
	return err
}

func (s *Shards) memberKey(addr string) []byte {
	return append(s.members[:len(s.members):len(s.members)], addr...)
}

// readMembers reads the rows of all other members. They make no conflict: each pod writes its own.
func (s *Shards) readMembers(ctx context.Context, r engine.Reader) (rows map[string]member, err error) {
	end := bytes.Clone(s.members)
	end[len(end)-1]++ // from 'm' to 'n'
	it := r.Scan(ctx, engine.Range{Begin: s.members, End: end, NoConflict: true})
	defer func() { err = errors.Join(err, it.Close()) }()
	rows = map[string]member{}
	for it.Next() {
		addr := string(it.Key()[len(s.members):])
		if addr == s.o.Self {
			continue
		}
		if rows[addr], err = parseMember(it.Value()); err != nil {
			return nil, err
		}
	}
	return rows, it.Err()
}
