package alarm

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// errBroken is the error of rows that cannot be read or written.
var errBroken = errors.New("broken")

// brokenRows are rows of alarms that may fail to be read and written.
type brokenRows struct {
	fakeRows
	broken atomic.Bool
	calls  atomic.Int64
}

func (r *brokenRows) Alarms(ctx context.Context) ([]string, error) {
	if r.calls.Add(1); r.broken.Load() {
		return nil, errBroken
	}
	return r.fakeRows.Alarms(ctx)
}

func (r *brokenRows) SetAlarm(ctx context.Context, name string, on bool) error {
	if r.broken.Load() {
		return errBroken
	}
	return r.fakeRows.SetAlarm(ctx, name, on)
}

// TestDamageAlarm: a report raises CORRUPT, once; one that an operator has cleared comes back with the next report;
// one whose row cannot be written is up all the same, and is written when it can be.
func TestDamageAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := &brokenRows{}
		a, err := Open(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		d := NewDamage(slog.New(slog.DiscardHandler))
		d.Report(errBroken) // before Run
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); d.Run(ctx, a, 7) }()
		up := func(what string, want bool, rowsWant int) {
			t.Helper()
			time.Sleep(2 * raiseEvery)
			synctest.Wait()
			alarms := a.Alarms()
			on := len(alarms) == 1 && alarms[0].GetAlarm() == pb.AlarmType_CORRUPT && alarms[0].GetMemberID() == 7
			if on != want || len(rows.names) != rowsWant || rows.refuse {
				t.Errorf("%s: alarms %v, rows %v, growth refused %t", what, alarms, rows.names, rows.refuse)
			}
		}
		up("raised", true, 1)
		calls := rows.calls.Load()
		for range 100 {
			d.Report(errBroken)
		}
		up("raised", true, 1)
		if n := rows.calls.Load() - calls; n != 0 {
			t.Errorf("reports of an alarm that is up have made %d reads", n)
		}
		clearIt := func() {
			t.Helper()
			if changed, err := a.SetAlarm(t.Context(), 7, pb.AlarmType_CORRUPT, false); err != nil || !changed {
				t.Error(changed, err)
			}
		}
		clearIt()
		up("cleared", false, 0)
		rows.broken.Store(true)
		d.Report(errBroken)
		up("with broken rows", true, 0)
		rows.broken.Store(false)
		time.Sleep(raiseRetry)
		up("with rows again", true, 1)
		clearIt()
		up("cleared again", false, 0)
		cancel()
		<-done
	})
}
