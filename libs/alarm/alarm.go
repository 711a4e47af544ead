package alarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/pulse"
)

// Every is about how often a process reads the alarms again where another process may change them.
const Every = time.Second

// ErrRow: the name of an alarm is not one that this release writes.
var ErrRow = errors.New("the row of an alarm cannot be read")

// Rows stores the alarms so that they survive a restart. *mvcc.Store is one.
type Rows interface {
	// Alarms returns the names of the alarms that are set.
	Alarms(ctx context.Context) ([]string, error)
	// SetAlarm sets or clears a name; setting it twice is setting it once.
	SetAlarm(ctx context.Context, name string, on bool) error
	// RefuseGrowth starts or stops the refusal of writes that need space.
	RefuseGrowth(refuse bool)
}

// State holds the alarms of a keyspace: the rows, and a copy of them in memory. While NOSPACE of any member is active,
// the store refuses growth. CORRUPT, which Damage raises, is stored and shown, and health checks fail on it. Unlike in
// etcd it does not stop requests: a request that meets the damage fails, and all others are answered correctly. The
// methods may be called from any goroutine.
type State struct {
	rows Rows

	changing sync.Mutex        // one change at a time, held while its row is written
	mu       sync.Mutex        // short: health checks read active while a change waits for the disk
	active   []*pb.AlarmMember // those with rows, sorted; replaced, never changed
	held     *pb.AlarmMember   // an alarm whose row could not be written yet, or nil
	shown    []*pb.AlarmMember // active and held, sorted; replaced, never changed
}

// Open reads the alarms from rows and applies them.
func Open(ctx context.Context, rows Rows) (*State, error) {
	a := &State{rows: rows}
	return a, a.Refresh(ctx)
}

// Refresh reads the rows again. Another process that serves the keyspace may have set or cleared an alarm. Errors:
// ErrRow, those of reading.
func (a *State) Refresh(ctx context.Context) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	return a.refresh(ctx)
}

// TryRefresh is Refresh, but returns false at once while an alarm is being set or cleared.
func (a *State) TryRefresh(ctx context.Context) (read bool, err error) {
	if !a.changing.TryLock() {
		return false, nil
	}
	defer a.changing.Unlock()
	return true, a.refresh(ctx)
}

// Follow calls Refresh about once per Every, with the beats of p, until ctx ends.
func (a *State) Follow(ctx context.Context, log *slog.Logger, p *pulse.Pulse) {
	for p.Wait(ctx, Every) == nil {
		if err := a.Refresh(ctx); err != nil && ctx.Err() == nil {
			log.Warn("the alarms cannot be read", "error", err)
		}
	}
}

// refresh is Refresh. The caller holds changing.
func (a *State) refresh(ctx context.Context) error {
	names, err := a.rows.Alarms(ctx)
	if err != nil {
		return err
	}
	var active []*pb.AlarmMember
	for _, name := range names {
		m, err := parseAlarm(name)
		if err != nil {
			return err
		}
		active = append(active, m)
	}
	slices.SortFunc(active, compareAlarms)
	a.apply(active)
	return nil
}

// apply replaces the copy in memory. The caller holds changing.
func (a *State) apply(active []*pb.AlarmMember) {
	a.mu.Lock()
	a.active = active
	if a.held != nil && hasAlarm(active, a.held) {
		a.held = nil
	}
	a.show()
	a.mu.Unlock()
	a.rows.RefuseGrowth(a.noSpace())
}

// Alarms returns the active alarms from memory, ordered by type and then member. The caller must not change them.
func (a *State) Alarms() []*pb.AlarmMember {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.shown
}

// show computes shown. The caller holds mu.
func (a *State) show() {
	a.shown = a.active
	if a.held == nil {
		return
	}
	if at, found := slices.BinarySearchFunc(a.active, a.held, compareAlarms); !found {
		a.shown = slices.Insert(slices.Clone(a.active), at, a.held)
	}
}

// SetAlarm activates or clears an alarm of a member, durably. It reports whether that changed anything, compared with
// the rows as they are now, including what another process has changed.
func (a *State) SetAlarm(
	ctx context.Context, memberID uint64, alarm pb.AlarmType, active bool,
) (changed bool, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	if err := a.refresh(ctx); err != nil {
		return false, err
	}
	m := &pb.AlarmMember{MemberID: memberID, Alarm: alarm}
	before, held := a.take(m, active)
	at, found := slices.BinarySearchFunc(before, m, compareAlarms)
	if found == active {
		return held, nil
	}
	if err := a.rows.SetAlarm(ctx, Name(m), active); err != nil {
		return false, err
	}
	next := slices.Clone(before)
	if active {
		next = slices.Insert(next, at, m)
	} else {
		next = slices.Delete(next, at, at+1)
	}
	a.apply(next)
	return true, nil
}

// take returns the alarms that have rows. If m is to be cleared and is held in memory only, take drops it and held is
// true.
func (a *State) take(m *pb.AlarmMember, active bool) (rows []*pb.AlarmMember, held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !active && a.held != nil && compareAlarms(a.held, m) == 0 {
		a.held, held = nil, true
		a.show()
	}
	return a.active, held
}

func (a *State) noSpace() bool {
	return slices.ContainsFunc(a.Alarms(), func(m *pb.AlarmMember) bool { return m.GetAlarm() == pb.AlarmType_NOSPACE })
}

func compareAlarms(x, y *pb.AlarmMember) int {
	return cmp.Or(cmp.Compare(x.GetAlarm(), y.GetAlarm()), cmp.Compare(x.GetMemberID(), y.GetMemberID()))
}

// Name is the name of an alarm's row: the number of its type, and the member in hexadecimal.
func Name(m *pb.AlarmMember) string {
	return fmt.Sprintf("%d/%x", m.GetAlarm(), m.GetMemberID())
}

func parseAlarm(name string) (*pb.AlarmMember, error) {
	kind, member, _ := strings.Cut(name, "/")
	k, err := strconv.ParseInt(kind, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrRow, name, err)
	}
	id, err := strconv.ParseUint(member, 16, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrRow, name, err)
	}
	return &pb.AlarmMember{MemberID: id, Alarm: pb.AlarmType(k)}, nil
}
