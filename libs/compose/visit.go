package compose

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/lease"
)

// visit is a call under way in a keyspace.
type visit struct {
	k      *Keyspace
	o      *occupied // nil: the first keyspace, or another pod's
	stream bool
	passed *passed         // nil: k serves the call
	door   *door           // of the first keyspace: what is to end with it does
	ctx    context.Context // of the call, if it is another than that which came
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
	switch {
	case v.passed != nil:
		return v.passed.ctx
	case v.ctx != nil:
		return v.ctx
	}
	return ctx
}

// enter finds the keyspace of a call, and opens it if need be. The caller calls leave after the call. errNoEntry is
// answered as refusal says. Errors: NotFound, PermissionDenied, InvalidArgument, FailedPrecondition, ResourceExhausted,
// Unavailable, the context's.
func (s *keyspaces) enter(ctx context.Context, c call) (visit, error) {
	choose := s.chooser.name
	if c.login { // the token that it brings is one of before
		choose = s.chooser.asked
	}
	name, err := choose(ctx)
	if err != nil {
		return visit{}, err
	}
	if name == "" || name == s.firstName() {
		return s.enterFirst(ctx, c)
	}
	if s.table == nil {
		return visit{}, errNoKeyspace
	}
	for fresh := false; ; {
		changed := s.table.Changed()
		info, how, err := s.find(ctx, name, c, fresh)
		switch {
		case err != nil:
			return visit{}, err
		case info.Row.GetUnprefixed():
			return s.enterFirst(ctx, c)
		case s.d.Kind.IsPod():
			// Who serves it asks for users: a pod that passes calls on does not open the keyspace.
			p, err := s.pass(ctx, info, c.service)
			if how == entryByUser && (errors.Is(err, errOwnPods) || lease.Forwarded(ctx) && errors.Is(err, errMoved)) {
				err = errNoEntry // nobody has asked for its user: it is not told that there is the keyspace
			}
			if p != nil || err != nil {
				return visit{k: s.first, passed: p}, err
			}
		}
		kind := c.kind
		if how == entryByUser {
			kind = callOwn // it counts when it has been let in
		}
		v, again, err := s.visit(ctx, info, kind)
		if err != nil {
			return visit{}, err
		}
		if again {
			continue
		}
		if how == entryByUser {
			err = s.enterByUser(ctx, &v, c, info)
		}
		switch {
		case err == nil && s.agreed(v.o, info, changed):
			return v, nil
		case errors.Is(err, errNoEntry) && !fresh: // as those who name no keyspace, it costs a read of the table
			err, fresh = nil, true
		}
		v.leave()
		if err != nil {
			return visit{}, err
		}
	}
}

// enterByUser lets a call in that acts for a user whom the rule of the keyspace names, and that has been opened for it.
// Errors: errNoEntry, ResourceExhausted, of reading users and roles.
func (s *keyspaces) enterByUser(ctx context.Context, v *visit, c call, info keyspace.Info) error {
	users := info.Row.GetAccess().GetUsers()
	if c.login {
		v.ctx = etcdapi.AtDoor(ctx, users)
		return nil
	}
	switch ok, err := v.k.guard.ActsFor(ctx, users); {
	case err != nil:
		return notEntered(ctx, err)
	case !ok:
		return errNoEntry
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.countLocked(v.o, c.kind); err != nil {
		return err
	}
	v.stream = c.kind == callStream
	return nil
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
		err = notEntered(ctx, o.err)
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
	if err := s.countLocked(o, kind); err != nil {
		return nil, nil, err
	}
	o.calls++
	return o, nil, nil
}

// countLocked counts a call for what it is, or refuses it. The caller holds mu.
func (s *keyspaces) countLocked(o *occupied, kind callKind) error {
	if err := o.limits.admit(kind, o.streams); err != nil {
		o.tally.ended(err)
		return err
	}
	o.tally.entered(kind)
	o.brief = o.brief && kind == callOwn
	if kind == callStream {
		o.streams++
	}
	return nil
}

// bind has the call end with the door that has let it in, if it has one. unbind is called after the call.
func (v *visit) bind(ctx context.Context) (unbind func()) {
	if v.door == nil {
		return func() {}
	}
	v.ctx, unbind = v.door.within(v.context(ctx))
	return unbind
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
	if v.door != nil && v.ctx != nil && v.door.ended.Err() != nil {
		return errReopened
	}
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
