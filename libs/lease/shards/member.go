package shards

import (
	"bytes"
	"context"
	"time"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine"
)

// attend runs at each beat of the elections. It reads the rows of the other members, makes the plan, and renews the row
// of this pod, or removes it if the pod is leaving. It returns the time until a member will count as dead unless its
// row changes.
func (s *Shards) attend(rows []election.Row, txn engine.Txn) time.Duration {
	members, err := s.parseMembers(rows)
	switch {
	case err != nil && !s.badRows:
		s.o.Logger.Error("lease shards: the members' rows cannot be read", "error", err)
	case err == nil && s.badRows:
		s.o.Logger.Info("lease shards: the members' rows can be read again")
	}
	s.badRows = err != nil
	if err != nil {
		return 0
	}
	now, leaving := s.now(), s.leaving.Load()
	s.view.update(members, now)
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
	return s.view.deadline(now)
}

// goodbye removes the member row.
func (s *Shards) goodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeMax)
	defer cancel()
	if err := s.removeMember(ctx); err != nil {
		s.o.Logger.Debug("lease shards: the member row stays until it is forgotten", "error", err)
	}
}

func (s *Shards) removeMember(ctx context.Context) error {
	txn, err := s.eng.Begin(ctx)
	if err != nil {
		return err
	}
	defer txn.Discard()
	txn.Clear(s.memberKey(s.o.Self))
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

// parseMembers reads the rows of all other members.
func (s *Shards) parseMembers(rows []election.Row) (map[string]member, error) {
	members := map[string]member{}
	for _, r := range rows {
		addr, ok := bytes.CutPrefix(r.Key, s.members)
		if !ok || string(addr) == s.o.Self {
			continue
		}
		m, err := parseMember(r.Value)
		if err != nil {
			return nil, err
		}
		members[string(addr)] = m
	}
	return members, nil
}
