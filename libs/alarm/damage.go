package alarm

import (
	"context"
	"log/slog"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// Timing of the alarm CORRUPT.
const (
	// raiseTimeout bounds one attempt to write the alarm's row, and raiseRetry is the pause between two attempts. Until
	// one succeeds, the alarm is active in memory.
	raiseTimeout = 5 * time.Second
	raiseRetry   = 10 * time.Second
	// raiseEvery is the shortest time between two checks whether the alarm is active. Reports come as fast as clients
	// meet damage.
	raiseEvery = 100 * time.Millisecond
)

// Damage raises the alarm CORRUPT when somebody reports damaged data. Report may be called from any goroutine, also
// before Run.
type Damage struct {
	reports chan error // capacity 1: the first report that Run has not taken yet
	log     *slog.Logger
}

// NewDamage returns a Damage. Its alarm is raised by Run.
func NewDamage(log *slog.Logger) *Damage {
	return &Damage{reports: make(chan error, 1), log: log}
}

// Report reports damaged data. It never waits.
func (d *Damage) Report(err error) {
	select {
	case d.reports <- err:
	default:
	}
}

// Run raises the alarm of a member, unless it is active, whenever there is a report. It returns when ctx ends. If an
// operator clears the alarm while the damage is still there, the next report raises it again.
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
			d.log.Error("the alarm CORRUPT cannot be stored and would be lost in a restart", "error", err,
				"retry", raiseRetry)
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

// hold makes an alarm active in memory until it is set or cleared. It neither reads nor writes rows, because that may
// be what fails.
func (a *State) hold(m *pb.AlarmMember) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = m
	a.show()
}

// has says whether an alarm is active.
func (a *State) has(m *pb.AlarmMember) bool { return hasAlarm(a.Alarms(), m) }

// durable says whether an alarm is active and its row is written.
func (a *State) durable(m *pb.AlarmMember) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return hasAlarm(a.active, m)
}

func hasAlarm(alarms []*pb.AlarmMember, m *pb.AlarmMember) bool {
	_, found := slices.BinarySearchFunc(alarms, m, compareAlarms)
	return found
}
