package mvcc_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestAlarmsOfIdleProcess: a process that reads nothing but the alarms learns of changed users and roles, and that a
// later release has activated something.
func TestAlarmsOfIdleProcess(t *testing.T) {
	e := openEngine(t, fdb)
	busy, idle := open(t, e, mvcc.Options{NoRemoval: true}), open(t, e, mvcc.Options{NoRemoval: true})
	if err := busy.SetAlarm(t.Context(), "1/a", true); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first also is the first of the keyspace
		number := bump(t, busy, mvcc.AuthRow{Key: []byte("rr"), Value: []byte{}})
		if names, err := idle.Alarms(t.Context()); err != nil || len(names) != 1 || names[0] != "1/a" {
			t.Errorf("%q, %v", names, err)
		}
		if n := idle.AuthNumber(); n != number {
			t.Errorf("the number of users and roles is %d, want %d", n, number)
		}
	}
	x, err := e.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer x.Discard()
	head, err := x.Get(t.Context(), []byte(headRow))
	if err != nil {
		t.Fatal(err)
	}
	head = bytes.Clone(head)
	head[0] |= 0x40 // a feature that this release does not know
	x.Set([]byte(headRow), head)
	p, err := x.Commit(t.Context())
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Alarms(t.Context()); !errors.Is(err, mvcc.ErrNewerFormat) {
		t.Errorf("after an activation: %v", err)
	}
}
