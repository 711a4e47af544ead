package lease

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestParked: a keeper goes on with what another has left: nothing is claimed or read anew, what has been renewed lives
// on, and no lease gets time that nobody has asked for, however often it is handed on.
func TestParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		c := &client{fakeStore: s} // which has the claim
		k, stop := run(t, c, Options{Holds: func() bool { return true }})
		grant(t, k, 1, 10)
		grant(t, k, 2, 20)
		if k.Park() != nil {
			t.Error("a keeper that runs is parked")
		}
		begin := time.Now()
		for time.Since(begin) < 9*time.Second {
			if next := k.Next(); next < 0 || next > 10*time.Second {
				t.Error("the first expires in", next)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			p := k.Park()
			if p == nil || p.Len() != 2 || p.Due() != begin.Add(10*time.Second) {
				t.Fatalf("parked %+v, due %v", p, time.Until(p.Due()))
			}
			time.Sleep(time.Second) // in a bubble: nobody has the keyspace open
			k, stop = run(t, c, Options{Holds: func() bool { return true }, Parked: p})
			renew(t, k, 2, 20)
		}
		s.mu.Lock()
		claims := s.claims[0]
		s.mu.Unlock()
		if claims != 1 {
			t.Error("claims:", claims)
		}
		time.Sleep(time.Until(begin.Add(11 * time.Second)))
		if at, gone := s.revoked(1); !gone || at.Sub(begin) != 10*time.Second {
			t.Error("lease 1 was revoked after", at.Sub(begin))
		}
		if _, gone := s.revoked(2); gone {
			t.Error("lease 2, which was renewed, has been revoked")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		p := k.Park()
		time.Sleep(time.Hour)
		// It is overdue: it expires at once.
		_, stop = run(t, c, Options{Holds: func() bool { return true }, Parked: p})
		synctest.Wait()
		if _, gone := s.revoked(2); !gone {
			t.Error("lease 2 has not been revoked")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestNotParked: what a keeper does not know for sure its successor has to read.
func TestNotParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		k, stop := run(t, &client{fakeStore: s}, Options{Holds: func() bool { return true }})
		grant(t, k, 1, 10)
		s.setFail(func(op string, id int64) (error, bool) { return mvcc.ErrUnavailable, false })
		time.Sleep(12 * time.Second) // it has expired, and is being revoked
		if k.Next() >= 0 {
			t.Error("nothing is to be done")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if p := k.Park(); p != nil {
			t.Errorf("parked %+v", p)
		}
		s.setFail(nil)
		k, stop = run(t, &client{fakeStore: s}, Options{Holds: func() bool { return true }})
		s.setFail(func(op string, id int64) (error, bool) { return mvcc.ErrFenced, false })
		if _, err := k.Grant(t.Context(), 2, 10); err == nil {
			t.Fatal("a grant without the claim")
		}
		_ = stop()
		if p := k.Park(); p != nil {
			t.Errorf("parked what another has claimed: %+v", p)
		}
	})
}

// revoked tells whether and when a lease was deleted.
func (s *fakeStore) revoked(id int64) (at time.Time, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, gone = s.revokes[id]
	return at, gone
}
