package ranks

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// retryPause is the time between two attempts to watch while the server is away.
const retryPause = 20 * time.Millisecond

// Follower fills a Book from a watch of all keys. When its stream ends, it opens another one from where it was.
type Follower struct {
	Book *Book

	watch  pb.WatchClient
	cancel context.CancelFunc
	wg     sync.WaitGroup

	once    sync.Once
	created chan struct{} // closed when the first watch is there
	failed  chan struct{} // closed when there will be no more watches
}

// Follow makes a Book of the keyspace at conn, whose current revision gets rank First. The keyspace must be empty and
// new, because earlier revisions would have no ranks. Follow returns when the watch exists, so that it sees everything
// that the caller does afterwards. conn must not have the interceptors of a Translator, and stays the caller's.
// patience is that of NewBook. The caller must Close the Follower.
func Follow(ctx context.Context, conn grpc.ClientConnInterface, patience time.Duration) (*Follower, error) {
	all, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true})
	if err != nil {
		return nil, err
	}
	first := all.GetHeader().GetRevision()
	if all.GetCount() != 0 || first < 1 {
		return nil, fmt.Errorf("ranks: the keyspace has %d keys at revision %d, it must be empty", all.GetCount(),
			first)
	}
	f := &Follower{
		Book: NewBook(first, patience), watch: pb.NewWatchClient(conn), created: make(chan struct{}),
		failed: make(chan struct{}),
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	f.wg.Go(func() { f.run(run) })
	select {
	case <-f.created:
		return f, nil
	case <-f.failed:
		err = f.Book.failure()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	f.Close()
	return nil, err
}

// Close ends the watch. The Book fails.
func (f *Follower) Close() {
	f.cancel()
	f.wg.Wait()
}

func (f *Follower) run(ctx context.Context) {
	defer close(f.failed)
	for ctx.Err() == nil {
		err := f.follow(ctx, f.Book.Last()+1)
		if code := status.Code(err); code != codes.Unavailable && code != codes.Canceled {
			f.Book.Fail(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
	f.Book.Fail(context.Cause(ctx))
}

// follow adds all revisions to the book, beginning with from, until the stream ends.
func (f *Follower) follow(ctx context.Context, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.watch.Watch(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	err = stream.Send(
		&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from,
		}}},
	)
	if err != nil {
		return status.Errorf(codes.Unavailable, "send: %v", err)
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := f.take(resp); err != nil {
			return err
		}
	}
}

// take adds the revisions of a response, which holds whole revisions.
func (f *Follower) take(resp *pb.WatchResponse) error {
	if resp.GetCanceled() {
		return fmt.Errorf("ranks: the watch of everything was canceled: %v", resp)
	}
	if resp.GetCreated() {
		f.once.Do(func() { close(f.created) })
	}
	last := int64(0)
	for _, ev := range resp.GetEvents() {
		rev := ev.GetKv().GetModRevision()
		if rev == last {
			continue
		}
		last = rev
		if err := f.Book.Add(rev); err != nil {
			return err
		}
	}
	return nil
}
