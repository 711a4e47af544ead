package alarm

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// stuckRows is a store whose disk does not answer.
type stuckRows struct{ entered, release chan struct{} }

func (stuckRows) Alarms(context.Context) ([]string, error) { return nil, nil }
func (stuckRows) RefuseGrowth(bool)                        {}
func (r stuckRows) SetAlarm(context.Context, string, bool) error {
	close(r.entered)
	<-r.release
	return nil
}

// Health checks and Status read the alarms: they must not wait for one that is being written.
func TestAlarmsAreReadWhileOneIsWritten(t *testing.T) {
	rows := stuckRows{make(chan struct{}), make(chan struct{})}
	a, err := Open(context.Background(), rows)
	if err != nil {
		t.Fatal(err)
	}
	set := make(chan error, 1)
	go func() {
		_, err := a.SetAlarm(context.Background(), 1, pb.AlarmType_NOSPACE, true)
		set <- err
	}()
	<-rows.entered
	read := make(chan int, 1)
	go func() { read <- len(a.Alarms()) }()
	select {
	case n := <-read:
		if n != 0 {
			t.Errorf("%d alarms before any is written", n)
		}
	case <-time.After(2 * time.Minute):
		t.Error("reading the alarms waits for the disk")
	}
	if read, err := a.TryRefresh(context.Background()); read || err != nil {
		t.Errorf("the rows were read while one is being written: %t, %v", read, err)
	}
	close(rows.release)
	if err := <-set; err != nil || len(a.Alarms()) != 1 {
		t.Fatal(err, a.Alarms())
	}
	if read, err := a.TryRefresh(context.Background()); !read || err != nil || len(a.Alarms()) != 0 {
		t.Errorf("the rows have none: %t, %v, %v", read, err, a.Alarms())
	}
}
