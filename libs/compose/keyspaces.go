package compose

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/server"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Limits of the keyspaces that a process has open.
const (
	// openMax is how many keyspaces may be open. A call for a further one is refused until another is idle.
	openMax = 10_000
	// openingMax is how many keyspaces are opened at the same time.
	openingMax = 16
	// openTimeout bounds the time to open a keyspace.
	openTimeout = 30 * time.Second
	// endGrace is how long calls under way may take after their keyspace has begun to end.
	endGrace = 3 * time.Second
	// reviewMin and reviewMax bound the time between two searches for idle keyspaces.
	reviewMin = 100 * time.Millisecond
	reviewMax = time.Minute
	// keyspaceHistory bounds the memory for recent events of a keyspace beside the first.
	keyspaceHistory = 8 << 20
	// briefIdle replaces a longer --keyspace-idle for keyspaces that only the process itself has opened.
	briefIdle = 5 * time.Second
)

// OwnRoot is where the table of keyspaces is in a store of the process's own: after the rows of the first keyspace,
// which have no prefix.
var OwnRoot = []byte("\x80headwater/")

// FirstKeyspace is the name of the keyspace that a store of the process's own always has.
const FirstKeyspace = "default"

// keyspaces are the keyspaces that a process serves: the first, which is open as long as the process runs, and those of
// the table, which their first call opens and which are closed when idle.
type keyspaces struct {
	d       *Deployment
	make    []func(*Keyspace) part
	first   *Keyspace
	chooser chooser
	table   *keyspace.Cache
	// adminURLs are the URLs of the admin API. statusURLs are further URLs of the status page.
	adminURLs, statusURLs []string
	shown                 server.HTTPOptions
	tallies               tallies
	opening               chan struct{} // has an element for each opening under way
	now                   func() time.Time
	joint                 many     // of pods
	parking               *parking // of a standalone server, as own
	own                   ownCompactions
	started               time.Time
	door                  atomic.Pointer[door] // of the first
	doorMu                sync.Mutex           // held while a rule is read that door gets
	strangers             *auth.Passwords      // of who may not enter, or names no keyspace

	mu     sync.Mutex
	open   map[uint64]*occupied // by id
	named  map[string]*occupied // those of open, by the names that they had then
	closed bool
}

// occupied is a keyspace that is open, or is being opened or closed.
type occupied struct {
	s      *keyspaces
	info   keyspace.Info
	limits *callLimits
	tally  *tally
	ready  chan struct{} // closed when it is open or could not be opened
	k      *Keyspace     // set before ready is closed
	err    error         // as k
	gone   chan struct{} // closed when the keyspace is closed, and can be opened again

	// Under s.mu.
	calls, streams int
	brief          bool          // nobody but the process itself has called it yet
	unused         time.Time     // since when it has had no calls
	ending         error         // what calls get from now on
	empty          chan struct{} // closed when it is ending and has no calls
	rule           *keyspacev1.AccessRule
	told           int64 // the largest revision that clients may have learned while it was being opened
}

func newKeyspaces(d *Deployment, make_ []func(*Keyspace) part) *keyspaces {
	s := &keyspaces{
		d: d, make: make_, chooser: newChooser(d.Config.KeyspaceDomain, d.Config.UserAtKeyspace),
		open: make(map[uint64]*occupied), named: make(map[string]*occupied),
		opening: make(chan struct{}, openingMax), now: time.Now, started: time.Now(),
		parking: newParking(),
	}
	d.all = s
	s.strangers = d.passwords.Share()
	s.door.Store(newDoor(nil))
	s.tallies.keep(d.Config.MetricsKeyspaces.Names)
	s.first = newKeyspace(d, make_, keyspace.Keyspace{}, nil)
	return s
}

// openTable opens the table of the other keyspaces.
func (s *keyspaces) openTable() error {
	s.table = keyspace.NewCache(s.d.Engine, s.root(), keyspace.CacheOptions{Report: func(err error) {
		s.d.Log.Warn("the table of keyspaces cannot be read", "error", err)
	}})
	defer s.d.OnClose(s.closeAll)
	if s.d.Kind.IsPod() {
		return s.joint.open(s)
	}
	if err := s.readDoor(s.d.background); err != nil {
		return err
	}
	if err := keyspace.AbandonAll(s.d.background, s.d.Engine, s.root()); err != nil {
		s.d.Log.Warn(
			"leftovers of interrupted restores cannot be cleared before the next start", "error", err,
		)
	}
	return nil
}

// begin starts to open a keyspace. The caller holds mu.
func (s *keyspaces) begin(info keyspace.Info) *occupied {
	o := &occupied{
		s: s, info: info, limits: newCallLimits(info.Row.GetLimits()), unused: s.now(), tally: s.tallies.of(info),
		rule:  info.Row.GetAccess(),
		ready: make(chan struct{}), gone: make(chan struct{}), empty: make(chan struct{}), brief: true,
	}
	s.open[info.ID], s.named[info.Name] = o, o
	s.shareTurns()
	go func() {
		s.opening <- struct{}{}
		defer func() { <-s.opening }()
		ctx, cancel := context.WithTimeout(s.d.background, openTimeout)
		defer cancel()
		k, err := s.openKeyspace(ctx, o)
		if err != nil {
			s.d.Log.Error("keyspace could not be opened", "keyspace", info.Name, "id", info.ID, "error", err)
			o.err = fmt.Errorf("keyspace %s: %w", info.Name, err)
			s.forget(o)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		o.k = k
		if k != nil {
			k.Store.Told(o.told)
		}
		close(o.ready)
	}()
	return o
}

// serves tells whether a keyspace is open, and neither being opened nor being closed.
func (s *keyspaces) serves(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[id]
	return o != nil && o.k != nil && o.ending == nil
}

// forget takes o out of what is open.
func (s *keyspaces) forget(o *occupied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, o.info.ID)
	if s.named[o.info.Name] == o {
		delete(s.named, o.info.Name)
	}
	s.shareTurns()
}

// shareTurns makes keyspaces take turns if there are several. The caller holds mu.
func (s *keyspaces) shareTurns() {
	if s.d.Kind.IsPod() {
		s.d.gates.share(len(s.open) > 0)
	}
}

// told tells the store of a keyspace that clients may have learned a revision. If the keyspace is not open, its store
// knows the revision when it is opened.
func (s *keyspaces) told(name string, rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.named[name]
	if info, ok := s.table.Copied(name); o == nil && ok {
		o = s.open[info.ID] // it was renamed
	}
	switch {
	case o == nil:
	case o.k != nil:
		o.k.Store.Told(rev)
	default:
		o.told = max(o.told, rev)
	}
}

// openKeyspace opens a keyspace of the table with all of its parts. If a part fails later, only that keyspace is
// closed.
func (s *keyspaces) openKeyspace(ctx context.Context, o *occupied) (*Keyspace, error) {
	k := newKeyspace(s.d, s.make, o.info.Keyspace, o.info.Row.GetLimits())
	k.tally = o.tally
	k.shares.setWeight(o.info.Row.GetWeight())
	k.fail = func(err error) {
		s.d.Log.Error("keyspace closed: it can no longer be served", "keyspace", o.info.Name, "error", err)
		s.end(o, errFailed)
	}
	err := k.open(ctx)
	if err == nil {
		err = k.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, k.endOnce())
	}
	return k, nil
}

// end closes a keyspace. Its streams end, and calls under way get endGrace to finish; after that they get why. It
// returns at once.
func (s *keyspaces) end(o *occupied, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(o, why)
}

func (s *keyspaces) endLocked(o *occupied, why error) {
	if o.ending != nil || s.open[o.info.ID] != o {
		return
	}
	o.ending = why
	if o.calls == 0 {
		close(o.empty)
	}
	go s.close(o)
}

// close closes a keyspace that is ending.
func (s *keyspaces) close(o *occupied) {
	<-o.ready
	if o.k != nil {
		o.k.drain()
		grace := time.NewTimer(endGrace)
		select {
		case <-o.empty:
		case <-grace.C:
		}
		grace.Stop()
		if err := o.k.endOnce(); err != nil {
			s.d.Log.Warn("keyspace closed", "keyspace", o.info.Name, "error", err)
		}
	}
	s.forget(o)
	close(o.gone)
}

// closeAll ends all keyspaces but the first, also those that are still being opened, and waits until they are closed.
func (s *keyspaces) closeAll() error {
	s.parking.end()
	s.mu.Lock()
	s.closed = true
	var all []*occupied
	for _, o := range s.open {
		s.endLocked(o, errClosing)
		all = append(all, o)
	}
	s.mu.Unlock()
	for _, o := range all {
		<-o.gone
	}
	return nil
}

// drain ends the streams of all keyspaces.
func (s *keyspaces) drain() {
	s.first.drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		select {
		case <-o.ready:
			if o.k != nil {
				o.k.drain()
			}
		default: // closeAll answers its first call
		}
	}
}

// root returns where the table is.
func (s *keyspaces) root() []byte {
	if s.d.Kind.IsPod() {
		return []byte(s.d.Config.FDBRoot)
	}
	return OwnRoot
}
