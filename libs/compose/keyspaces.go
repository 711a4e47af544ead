package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Limits of the keyspaces that a process has open.
const (
	// openMax is how many it has open at a time; a call for one more is refused until others are idle.
	openMax = 10_000
	// openingMax is how many it opens at a time.
	openingMax = 16
	// openTimeout bounds the opening of one.
	openTimeout = 30 * time.Second
	// endGrace is how long calls under way may take when their keyspace ends.
	endGrace = 3 * time.Second
	// reviewMin and reviewMax bound the time between two looks at what is idle.
	reviewMin = 100 * time.Millisecond
	reviewMax = time.Minute
	// keyspaceHistory bounds the memory for recent events of a keyspace beside the first.
	keyspaceHistory = 8 << 20
	// briefIdle is --keyspace-idle, if that is longer, for those that only the process itself has opened.
	briefIdle = 5 * time.Second
)

// OwnRoot is where the table of keyspaces is in a store of the process's own: behind the rows of the first keyspace,
// which have no prefix.
var OwnRoot = []byte("\x80headwater/")

// FirstKeyspace is the name of the keyspace that a store of the process's own has from the beginning.
const FirstKeyspace = "default"

// keyspaces are those that a process serves: the first, which is open as long as the process is, and those of the
// table, which their first call opens and idling closes.
type keyspaces struct {
	d       *Deployment
	make    []func(*Keyspace) part
	first   *Keyspace
	chooser chooser
	table   *keyspace.Cache
	// adminURLs are where the admin API is served.
	adminURLs []string
	shown     server.HTTPOptions
	tallies   tallies
	opening   chan struct{} // has an element for each opening under way
	now       func() time.Time
	joint     many     // of pods
	parking   *parking // of a standalone server, as own
	own       ownCompactions
	started   time.Time

	mu     sync.Mutex
	open   map[uint64]*occupied // by id
	named  map[string]*occupied // those of open, by the names that they had then
	closed bool
}

// occupied is a keyspace that is open, or being opened or closed.
type occupied struct {
	s      *keyspaces
	info   keyspace.Info
	limits *callLimits
	tally  *tally
	ready  chan struct{} // closed when it is open, or has failed to be
	k      *Keyspace     // set before ready is closed
	err    error         // as k
	gone   chan struct{} // closed when it is closed again: it can be opened anew

	// Under s.mu.
	calls, streams int
	brief          bool          // nobody but the process itself has called it yet
	unused         time.Time     // since when it has had no calls
	ending         error         // what calls get from now on
	empty          chan struct{} // closed when it is ending and has no calls
	rule           *keyspacev1.AccessRule
	told           int64 // the largest revision that clients may have been told of while it was being opened
}

func newKeyspaces(d *Deployment, make_ []func(*Keyspace) part) *keyspaces {
	s := &keyspaces{
		d: d, make: make_, chooser: newChooser(d.Config.KeyspaceDomain),
		open: make(map[uint64]*occupied), named: make(map[string]*occupied),
		opening: make(chan struct{}, openingMax), now: time.Now, started: time.Now(),
		parking: newParking(),
	}
	d.all = s
	s.tallies.keep(d.Config.MetricsKeyspaces.Names)
	s.first = newKeyspace(d, make_, keyspace.Keyspace{}, nil)
	return s
}

// openTable opens the table, which says what keyspaces there are beside the first.
func (s *keyspaces) openTable() error {
	s.table = keyspace.NewCache(s.d.Engine, s.root(), keyspace.CacheOptions{Report: func(err error) {
		s.d.Log.Warn("the table of keyspaces cannot be read", "error", err)
	}})
	defer s.d.OnClose(s.closeAll)
	if s.d.Kind.IsPod() {
		return s.joint.open(s)
	}
	return nil
}

// visit is a call under way in a keyspace.
type visit struct {
	k      *Keyspace
	o      *occupied // nil: the first keyspace, or another pod's
	stream bool
	passed *passed // nil: k serves the call
}

// services are those that serve the call.
func (v *visit) services() *serviceSet {
	if v.passed != nil {
		return v.passed.services
	}
	return v.k.services
}

// context is that of the call where it is served.
func (v *visit) context(ctx context.Context) context.Context {
	if v.passed != nil {
		return v.passed.ctx
	}
	return ctx
}

// enter finds the keyspace of a call to a service, and opens it if need be. The caller calls leave after the call.
// Errors: NotFound, PermissionDenied, InvalidArgument, FailedPrecondition, ResourceExhausted, Unavailable, the context's.
func (s *keyspaces) enter(ctx context.Context, service string, kind callKind) (visit, error) {
	name, err := s.chooser.name(ctx)
	if err != nil {
		return visit{}, err
	}
	if name == "" || name == s.firstName() {
		return s.visitFirst(kind), nil
	}
	if s.table == nil {
		return visit{}, errNoKeyspace
	}
	for {
		changed := s.table.Changed()
		info, err := s.find(ctx, name)
		switch {
		case err != nil:
			return visit{}, err
		case info.Row.GetUnprefixed():
			return s.visitFirst(kind), nil
		case s.d.Kind.IsPod():
			if p, err := s.pass(ctx, info, service); p != nil || err != nil {
				return visit{k: s.first, passed: p}, err
			}
		}
		v, again, err := s.visit(ctx, info, kind)
		if err != nil {
			return visit{}, err
		}
		if !again && s.agreed(v.o, info, changed) {
			return v, nil
		}
		if !again {
			v.leave()
		}
	}
}

// visitFirst enters the first keyspace, which is always open.
func (s *keyspaces) visitFirst(kind callKind) visit {
	s.first.tally.entered(kind)
	return visit{k: s.first, stream: kind == callStream}
}

// firstName is the name of the first keyspace.
func (s *keyspaces) firstName() string {
	if s.d.Kind.IsPod() {
		return s.d.Config.Keyspace
	}
	return FirstKeyspace
}

// visit enters a keyspace of the table. again says that it has just been closed, and may be another by now.
func (s *keyspaces) visit(ctx context.Context, info keyspace.Info, kind callKind) (v visit, again bool, err error) {
	o, gone, err := s.join(info, kind)
	if err != nil {
		return visit{}, false, err
	}
	if gone != nil {
		return visit{}, true, await(ctx, gone)
	}
	v = visit{o: o, stream: kind == callStream}
	if err = await(ctx, o.ready); err == nil && o.err != nil {
		err = etcdapi.Err(o.err)
	}
	if err != nil {
		v.leave()
		return visit{}, false, err
	}
	v.k = o.k
	return v, false, nil
}

// await waits for c, or answers that the call has ended.
func await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// join counts a call to a keyspace, and has it opened if it is not open. If it is being closed nothing is counted:
// gone is closed when it can be opened again.
func (s *keyspaces) join(info keyspace.Info, kind callKind) (o *occupied, gone <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o = s.open[info.ID]
	switch {
	case s.closed:
		return nil, nil, errClosing
	case o == nil && len(s.open) >= openMax:
		return nil, nil, rpctypes.ErrGRPCRequestTooManyRequests
	case o == nil:
		o = s.begin(info)
	case o.ending != nil:
		return nil, o.gone, nil
	}
	if err := o.limits.admit(kind, o.streams); err != nil {
		o.tally.ended(err)
		return nil, nil, err
	}
	o.tally.entered(kind)
	o.calls++
	o.brief = o.brief && kind == callOwn
	if kind == callStream {
		o.streams++
	}
	return o, nil, nil
}

// begin begins to open a keyspace. The caller holds mu.
func (s *keyspaces) begin(info keyspace.Info) *occupied {
	o := &occupied{
		s: s, info: info, limits: newCallLimits(info.Row.GetLimits()), unused: s.now(), tally: s.tallies.of(info),
		rule:  info.Row.GetAccess(),
		ready: make(chan struct{}), gone: make(chan struct{}), empty: make(chan struct{}), brief: true,
	}
	s.open[info.ID], s.named[info.Name] = o, o
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

// forget takes o out of what is open.
func (s *keyspaces) forget(o *occupied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, o.info.ID)
	if s.named[o.info.Name] == o {
		delete(s.named, o.info.Name)
	}
}

// told tells the store of a keyspace that clients may have been told of a revision. One that is not open knows it when
// it is opened.
func (s *keyspaces) told(name string, rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.named[name]
	if info, ok := s.table.Copied(name); o == nil && ok {
		o = s.open[info.ID] // it has been renamed
	}
	switch {
	case o == nil:
	case o.k != nil:
		o.k.Store.Told(rev)
	default:
		o.told = max(o.told, rev)
	}
}

// openKeyspace opens a keyspace of the table with all of its parts. If one fails later that keyspace alone is closed.
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

// leave ends the visit.
func (v visit) leave() {
	o := v.o
	if v.passed != nil {
		v.passed.end()
	}
	if o == nil {
		if v.stream {
			v.k.tally.streams.Add(-1)
		}
		return
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.calls--
	if v.stream {
		o.streams--
		o.tally.streams.Add(-1)
	}
	if o.calls > 0 {
		return
	}
	o.unused = o.s.now()
	if o.ending != nil {
		close(o.empty)
	}
}

// ended is the error of a call that has ended with err: where its keyspace ends, that says why.
func (v visit) ended(err error) error {
	if err == nil {
		return nil
	}
	if v.passed != nil { // it counts where it is served
		if errors.Is(context.Cause(v.passed.ctx), errMoved) {
			return errMoved
		}
		return err
	}
	v.k.tally.ended(err)
	if v.o == nil {
		return err
	}
	v.o.s.mu.Lock()
	defer v.o.s.mu.Unlock()
	switch {
	case v.o.ending != nil:
		return v.o.ending
	case v.o.s.joint.leases != nil && errors.Is(etcdapi.Err(err), rpctypes.ErrGRPCNotLeader):
		return errMoved // the pod has lost the shard, and the keyspace is about to be closed
	}
	return err
}

// end closes a keyspace: its streams end, calls under way may finish for endGrace, and get why. It returns at once.
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

// closeAll ends all keyspaces but the first, and those that are still being opened, and waits until they are closed.
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
		default: // its first call is answered by closeAll
		}
	}
}

// follow keeps the copy of the table, until ctx ends: it closes keyspaces that are idle, have been deleted, or have
// other settings by now, and opens those of which leases are to expire.
func (s *keyspaces) follow(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = s.table.Run(ctx) })
	if !s.d.Kind.IsPod() { // of pods the compactor does it
		wg.Go(func() {
			_ = keyspace.Tend(ctx, s.d.Engine, s.root(), nil, func(err error) {
				s.d.Log.Warn("deleted keyspaces could not be cleared, will be tried again", "error", err)
			})
		})
	}
	if s.table.Ready(ctx) != nil {
		return nil
	}
	if !s.d.Kind.IsPod() {
		wg.Go(func() { s.openParked(ctx, s.parking) })
		wg.Go(func() { s.findWork(ctx); s.own.run(ctx, s) })
	}
	ticker := time.NewTicker(s.reviewEvery())
	defer ticker.Stop()
	for {
		changed := s.table.Changed() // before the review: what changes meanwhile is reviewed again
		s.review(ctx)
		if s.d.Kind.IsPod() && s.table.Shared() {
			s.work(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-ticker.C:
		}
	}
}

// reviewEvery is the time between two looks at what is idle.
func (s *keyspaces) reviewEvery() time.Duration {
	if s.d.Config.KeyspaceIdle <= 0 {
		return reviewMax
	}
	return min(max(s.d.Config.KeyspaceIdle/4, reviewMin), reviewMax)
}

// review ends the keyspaces that are not to be open any more. It reads the store, so calls do not wait for it.
func (s *keyspaces) review(ctx context.Context) {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.open))
	s.mu.Unlock()
	for _, o := range all {
		info, there := s.table.ByID(o.info.ID)
		switch {
		case !there && s.deleted(ctx, o.info.ID):
			s.end(o, errDeleted)
		case there && !proto.Equal(info.Row.GetLimits(), o.info.Row.GetLimits()),
			there && !keyspace.SameRule(info.Row.GetAccess(), o.info.Row.GetAccess()):
			s.end(o, errReopened)
		case there && info.Row.GetWeight() != o.info.Row.GetWeight():
			s.weigh(o, info.Row.GetWeight())
		case s.idle(o) && !o.k.busy():
			s.endIdle(o)
		}
	}
}

// deleted tells whether a keyspace that the copy of the table does not have has been deleted. It may be too new for the
// copy, or one too many. If the store cannot say, it is not.
func (s *keyspaces) deleted(ctx context.Context, id uint64) bool {
	gone, err := keyspace.Deleted(ctx, s.d.Engine, s.root(), id-1, 1)
	return err == nil && len(gone) > 0 && gone[0].ID == id
}

// idle tells whether o is open and has had no calls for --keyspace-idle.
func (s *keyspaces) idle(o *occupied) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idleLocked(o)
}

func (s *keyspaces) idleLocked(o *occupied) bool {
	select {
	case <-o.ready:
	default:
		return false
	}
	idle := s.d.Config.KeyspaceIdle
	if o.brief {
		idle = min(idle, briefIdle)
	}
	return o.k != nil && o.calls == 0 && idle > 0 && s.now().Sub(o.unused) >= idle
}

// endBrief closes o if nobody but the process itself has called it, and nobody does now.
func (s *keyspaces) endBrief(o *occupied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.brief && o.calls == 0 {
		s.endLocked(o, errReopened)
	}
}

// endIdle closes o, unless a call has come meanwhile.
func (s *keyspaces) endIdle(o *occupied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idleLocked(o) {
		s.endLocked(o, errReopened)
	}
}

// findWork finds the keyspaces of the table in which something goes on without calls, by a few rows of each, once. Those
// that hold leases are opened for a moment: this process claims the leases, and they have their full time from now on.
// So are those of which something is to be removed. One that cannot be read stops none of the others.
func (s *keyspaces) findWork(ctx context.Context) {
	all, err := keyspace.List(ctx, s.d.Engine, s.root(), "", 0)
	if err != nil {
		s.workStays(ctx, "", err)
	}
	planner, _ := s.first.planner() // the flags have been checked
	for _, info := range all {
		if info.Row.GetUnprefixed() || !info.Served() {
			continue
		}
		leased, err := mvcc.HasLeases(ctx, s.d.Engine, info.Prefix)
		if err != nil {
			s.workStays(ctx, info.Name, err)
			continue
		}
		p, err := mvcc.Peek(ctx, s.d.Engine, info.Prefix)
		if err != nil {
			s.workStays(ctx, info.Name, err)
		}
		if planner != nil {
			s.own.found(headOf{info.ID, p.Head, p.Compact})
		}
		if leased || p.Removed < p.Compact {
			s.parking.note(info.ID)
		}
	}
}

func (s *keyspaces) workStays(ctx context.Context, name string, err error) {
	if ctx.Err() == nil {
		s.d.Log.Error("leases do not expire, and nothing is compacted, before a keyspace's next call",
			"keyspace", name, "error", err)
	}
}

// root is where the table is.
func (s *keyspaces) root() []byte {
	if s.d.Kind.IsPod() {
		return []byte(s.d.Config.FDBRoot)
	}
	return OwnRoot
}
