package compose

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
)

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
// Errors: NotFound, PermissionDenied, InvalidArgument, FailedPrecondition, ResourceExhausted, Unavailable, the
// context's.
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
