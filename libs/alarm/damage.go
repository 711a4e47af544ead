package alarm

import (
	"context"
	"log/slog"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// Times of raising the alarm.
const (
	// raiseTimeout bounds one try to write the alarm's row, raiseRetry the time between two; meanwhile the alarm is
	// up in memory.
	raiseTimeout = 5 * time.Second
	raiseRetry   = 10 * time.Second
	// raiseEvery is the least time between two looks at whether the alarm is up: reports come as fast as clients meet
	// damage.
	raiseEvery = 100 * time.Millisecond
)

// Damage raises the alarm CORRUPT when it is told of damaged data. Report may be called from any goroutine,
// before Run too.
type Damage struct {
	reports chan error // capacity 1: the first that has not been looked at
	log     *slog.Logger
}

// NewDamage returns an alarm that Run raises.
func NewDamage(log *slog.Logger) *Damage {
	return &Damage{reports: make(chan error, 1), log: log}
}

// Report tells of damaged data. It never waits.
func (d *Damage) Report(err error) {
	select {
	case d.reports <- err:
	default:
	}
}

// Run raises the alarm of a member whenever there is a report and it is not up, until ctx ends. An operator who
// clears it without having removed the damage sees it again.
func (d *Damage) Run(ctx context.Context, a *State, memberID uint64) {
	m := &pb.AlarmMember{MemberID: memberID, Alarm: pb.AlarmType_CORRUPT}
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-d.reports:
			if !a.has(m) {
				d.log.Error("alarm raised", "alarm", "CORRUPT", "error", err)
			}
		}
		for !a.durable(m) {
			err := d.raise(ctx, a, m)
			if err == nil {
				break
			}
			d.log.Error("the alarm CORRUPT cannot be kept over a restart", "error", err, "retry", raiseRetry)
			if retry.Sleep(ctx, raiseRetry) != nil {
				return
			}
		}
		if retry.Sleep(ctx, raiseEvery) != nil {
			return
		}
	}
}

func (d *Damage) raise(ctx context.Context, a *State, m *pb.AlarmMember) error {
	a.hold(m)
	ctx, cancel := context.WithTimeout(ctx, raiseTimeout)
	defer cancel()
	_, err := a.SetAlarm(ctx, m.GetMemberID(), m.GetAlarm(), true)
	return err
}

// hold makes an alarm active in memory, until it is set or cleared. Reading or writing its row may be what fails.
func (a *State) hold(m *pb.AlarmMember) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = m
	a.show()
}

// has tells whether an alarm is active.
func (a *State) has(m *pb.AlarmMember) bool { return hasAlarm(a.Alarms(), m) }

// durable tells whether an alarm is active and its row is written.
func (a *State) durable(m *pb.AlarmMember) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return hasAlarm(a.active, m)
}

func hasAlarm(alarms []*pb.AlarmMember, m *pb.AlarmMember) bool {
	_, found := slices.BinarySearchFunc(alarms, m, compareAlarms)
	return found
}
