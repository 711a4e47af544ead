package alarm

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestRefreshAlarms: what one process sets, another shows and obeys once it has looked.
func TestRefreshAlarms(t *testing.T) {
	rows := &fakeRows{}
	a, err := Open(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{true, false} {
		if changed, err := a.SetAlarm(t.Context(), 7, pb.AlarmType_NOSPACE, on); err != nil || !changed {
			t.Fatal(changed, err)
		}
		rows.refuse = !on // as the other process's store has it
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(b.Alarms()); (n == 1) != on || rows.refuse != on {
			t.Errorf("set %t: %d alarms, growth refused: %t", on, n, rows.refuse)
		}
	}
}

// TestAlarmOfAnotherProcess: what another process has set can be cleared at once, and set again.
func TestAlarmOfAnotherProcess(t *testing.T) {
	rows := &fakeRows{}
	var both [2]*State
	for i := range both {
		a, err := Open(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		both[i] = a
	}
	for i, on := range []bool{true, false, true} {
		changed, err := both[i%2].SetAlarm(t.Context(), 7, pb.AlarmType_NOSPACE, on)
		if err != nil || !changed {
			t.Errorf("set %t: changed: %t, %v", on, changed, err)
		}
		if (len(rows.names) == 1) != on {
			t.Errorf("set %t: rows %v", on, rows.names)
		}
	}
}
