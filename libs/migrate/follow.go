package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/engine/retry"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// reportEvery is the shortest time between two reports of progress while a keyspace follows.
const reportEvery = 200 * time.Millisecond

// requestsMax bounds the requests that have not been answered. What the source does meanwhile goes together into the
// next one: where the store is another machine's a request takes a round trip, however little is in it.
const requestsMax = 4

// requestMax is how many bytes a request may have: a little less than the server accepts (libs/admin).
const requestMax = 255 << 20

// pause is the time before a side that could not be reached is tried again.
const pause = 500 * time.Millisecond

// copyPauses are before a copy is made again. They grow with each one, since the source may do once more what could not
// be followed.
var copyPauses = retry.Policy{Min: pause, Max: time.Minute}

// follower replays the log of the source.
type follower struct {
	m      *Migration
	tail   *tail
	stream adminv1.Migration_ReplayClient
	stop   context.CancelFunc
	at     func(rev int64) // is told where the keyspace is
	slots  chan struct{}   // has an element for each request that has not been answered

	mu    sync.Mutex
	rev   int64     // of the keyspace
	first int64     // of the source when this began
	equal time.Time // when the keyspace last had the source's revision
	told  time.Time // when progress was last reported
}

// followOn is Follow that outlasts passing errors: a server that restarts, and a tail that has grown too long. If the
// source has compacted too far, or a revision is too large to be replayed, it makes the copy again, after a pause.
func (m *Migration) followOn(ctx context.Context, done func(rev int64) bool) error {
	copies := retry.Pauses{Policy: copyPauses}
	overflowed := false
	for pauses := 0; ; {
		err := m.Follow(ctx, done)
		var compacted *CompactedError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errOverflow): // what has been held is there
			m.note("%s: what came then is read from the source again", strings.TrimSpace(err.Error()))
			overflowed = true
			if err := retry.Sleep(ctx, pause); err != nil {
				return err
			}
		case (errors.As(err, &compacted) || unfollowable(err)) && m.Target.replaceable():
			m.note("%s: the copy starts again%s", strings.TrimSpace(err.Error()), m.advice(err, overflowed))
			overflowed = false
			if err := copies.Wait(ctx); err != nil {
				return err
			}
			if err := m.again(ctx); err != nil {
				return err
			}
		case passes(err):
			if pauses++; pauses == 1 {
				m.note("%s; trying again", strings.TrimSpace(err.Error()))
			}
			if err := retry.Sleep(ctx, pause); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// advice says how another copy gets further than one that could not follow. overflowed says that the log of the source
// was longer than what is held of it.
func (m *Migration) advice(err error, overflowed bool) string {
	switch {
	case unfollowable(err):
		return "; the source must not make such requests until the keyspace has followed"
	case !overflowed:
		return ""
	case m.WorkDir == "":
		return fmt.Sprintf("; it wrote more than the %d MiB that are held during a copy and compacted them: give "+
			"--work-dir a directory for up to %d GiB, or have the source compact less often meanwhile",
			tailBytes>>20, spillBytes>>30)
	}
	return fmt.Sprintf("; it wrote more than %s takes (at most %d GiB) and compacted it: make room there, or have "+
		"the source compact less often meanwhile", m.WorkDir, spillBytes>>30)
}

// passes says whether an error of either side passes by itself: a server restarts, or has no leader.
func passes(err error) bool {
	etcd, ok := errors.AsType[rpctypes.EtcdError](err)
	return ok && etcd.Code() == codes.Unavailable || status.Code(err) == codes.Unavailable ||
		errors.Is(err, context.DeadlineExceeded)
}

// errUnfollowable: a revision does not fit into a request.
var errUnfollowable = errors.New("a revision of the source is too large to be followed")

// unfollowable says whether the keyspace can have what it lacks only in another copy.
func unfollowable(err error) bool {
	return errors.Is(err, errUnfollowable) || status.Code(err) == codes.OutOfRange
}

// Follow lets the keyspace follow the source until ctx ends, or until done returns true. done is called with the
// keyspace's revision each time it changes; nil: never. Errors: CompactedError, ErrNotFollowing (somebody else has
// ended following), those of either side.
func (m *Migration) Follow(ctx context.Context, done func(rev int64) bool) error {
	cluster, head, err := m.Source.Head(ctx)
	if err != nil {
		return err
	}
	st, err := m.Target.followed(ctx)
	if err == nil && !st.GetFollows() {
		err = ErrNotFollowing
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &follower{
		m: m, rev: st.GetRevision(), stop: cancel, equal: time.Now(), first: head,
		slots: make(chan struct{}, requestsMax),
	}
	finished := false
	f.at = func(rev int64) {
		if done != nil && done(rev) {
			finished = true
			cancel()
		}
	}
	if f.at(f.rev); finished {
		return nil
	}
	if f.tail, m.early = m.early, nil; f.tail == nil {
		f.tail = m.Source.tail(ctx, f.rev+1, m.WorkDir)
	}
	defer f.tail.close()
	if f.stream, err = m.Target.replay(ctx, cluster); err == nil {
		err = f.run(ctx)
	}
	if finished {
		return nil
	}
	return m.ended(ctx, err)
}

// ended returns ErrNotFollowing if a call has failed because somebody else has ended following. Otherwise it returns
// err.
func (m *Migration) ended(ctx context.Context, err error) error {
	if status.Code(err) == codes.FailedPrecondition {
		if st, stErr := m.Target.followed(context.WithoutCancel(ctx)); stErr == nil && !st.GetFollows() {
			return ErrNotFollowing
		}
	}
	return err
}

// run sends what the source shows and takes the answers, until either ends.
func (f *follower) run(ctx context.Context) error {
	sent := make(chan error, 1)
	go func() {
		err := f.send(ctx)           // it ends only with an error
		if !errors.Is(err, io.EOF) { // EOF: the answer says why
			f.stop()
		}
		sent <- err
	}()
	var err error
	for err == nil {
		var r *adminv1.ReplayResponse
		if r, err = f.stream.Recv(); err == nil {
			f.answered(r.GetRevision())
			select {
			case <-f.slots:
			default: // the first message, which names the keyspace, is answered too
			}
		}
	}
	f.stop()
	if sendErr := <-sent; sendErr != nil && !errors.Is(sendErr, io.EOF) && !errors.Is(sendErr, context.Canceled) {
		return sendErr
	}
	return err
}

func (f *follower) send(ctx context.Context) error {
	f.mu.Lock()
	after := f.rev
	f.mu.Unlock()
	for {
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		entries, err := f.tail.next(ctx, after)
		if err != nil {
			return err
		}
		r := &adminv1.ReplayRequest{Entries: entries, After: after}
		if proto.Size(r) > requestMax {
			return fmt.Errorf("%w: revision %d, with %d changes", errUnfollowable, entries[len(entries)-1].Revision,
				len(entries[len(entries)-1].Events))
		}
		if err := f.stream.Send(r); err != nil {
			return err
		}
		after = entries[len(entries)-1].Revision
	}
}

// answered notes the keyspace's revision.
func (f *follower) answered(rev int64) {
	f.mu.Lock()
	f.rev = max(f.rev, rev)
	now, source := time.Now(), max(f.tail.head(), f.first, f.rev)
	if f.rev == source {
		f.equal = now
	}
	tell := now.Sub(f.told) >= reportEvery || f.rev == source
	if tell {
		f.told = now
	}
	p := Progress{Phase: Following, Revision: f.rev, Source: source, Behind: now.Sub(f.equal)}
	f.mu.Unlock()
	if tell {
		f.m.report(p)
	}
	f.at(p.Revision)
}
